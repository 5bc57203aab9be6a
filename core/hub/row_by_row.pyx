"""Imported rows one by one: those whose attributes have sources or that name a household, as `Upsert` and `SetMembership` take
them, and those that an undo applies again.

Everything goes through the applier's tables of changes, so it may happen inside another mutation. Rows of the ordinary kind
are applied by `core.hub.bulk`, many times faster, beside the tables.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from cpython.bytes cimport PyBytes_AS_STRING

from core.hub.apply cimport Applier
from core.hub.causes cimport FULL_HOUSEHOLD, LARGE_RECORD, MANY_IDENTIFIERS, SECOND_OF_SINGLE
from core.hub.contacts cimport MERGED_COUNTED
from core.hub.happenings cimport add_packed
from core.hub.households cimport enter, membership_of
from core.hub.membership cimport Membership, record_name
from core.hub.record cimport builder_add_identifier, builder_set_consent, builder_touch, set_value

import struct

import msgspec
import numpy as np

from core.errors import BadValue, EngineFault, IdentityConflict, StoreCorrupt, TooLarge
from core.hub.households import check_room
from core.hub.membership import unpack_members, unpack_membership
from core.hub.retention import since
from core.hub.shapes import SHAPES, WIDTHS, cells_of, check_ends
from core.hub.values import LETTERS


def kind_of(mutation, catalog):
    """Whether an import's rows are households'; EngineFault when some are and some are not."""
    kinds = {catalog.namespace_entry(column.namespace).household for column in mutation.identifiers}
    if len(kinds) > 1 or (mutation.household is not None and (
        True in kinds or not catalog.namespace_entry(mutation.household.namespace).household
    )):
        raise EngineFault("An import's identifiers mix customers and households.")
    return True in kinds


def remember_rows(Applier applier, mutation, catalog, whose):
    """Keep each row that concerns a customer whose join can be undone, as an import of its own. ``whose`` has every row's
    customer, 0 for refused ones."""
    if not applier.undoable:
        return
    for row, customer in enumerate(np.asarray(whose, np.uint64).tolist()):
        if customer in applier.undoable:
            applier.remember_one(customer, one_row(mutation, catalog, row))


def one_row(mutation, catalog, uint32_t row):
    """The import of one row of this import."""
    def cut(bytes ends, bytes texts):
        bounds = np.frombuffer(ends, np.uint32)
        start = int(bounds[row - 1]) if row else 0
        text = texts[start:int(bounds[row])]
        return len(text).to_bytes(4, "little"), text

    columns = []
    fields = {} if not mutation.event else {field.name: field for field in catalog.event(mutation.event).fields}
    for column in mutation.columns:
        # Rows of households are never remembered.
        declared = fields[column.name] if mutation.event else catalog.attribute(column.name)
        shape = SHAPES[declared.type.value]
        if shape in "ts":
            columns.append(type(column)(column.name, *cut(column.values, column.texts)))
        else:
            width = WIDTHS[shape]
            columns.append(type(column)(column.name, column.values[row * width:(row + 1) * width]))
    return msgspec.structs.replace(
        mutation, rows=1, columns=tuple(columns),
        identifiers=tuple([type(each)(each.namespace, *cut(each.ends, each.texts)) for each in mutation.identifiers]),
        times=mutation.times[8 * row:8 * row + 8], keys=mutation.keys[8 * row:8 * row + 8],
        consents=tuple([
            type(each)(each.purpose, each.channel, each.granted[row:row + 1], each.at[8 * row:8 * row + 8])
            for each in mutation.consents
        ]),
        household=None if mutation.household is None else type(mutation.household)(
            mutation.household.namespace, *cut(mutation.household.ends, mutation.household.texts),
            mutation.household.roles[2 * row:2 * row + 2]),
    )


def by_rank(mutation, catalog):
    """The columns of identifiers in the order in which they are believed: `core.hub.identifiers.ranked` of every row, for a row
    has one of a namespace at most."""
    return sorted(mutation.identifiers, key=lambda column: catalog.namespace_entry(column.namespace).rank)


def apply_again(Applier applier not None, mutation):
    """Apply rows that were remembered, inside another mutation: through its tables of changes, not beside them."""
    cdef uint16_t number
    cdef bytes value, key
    cdef uint64_t customer
    catalog = applier.catalog
    if not mutation.event:
        if upsert_one_by_one(applier, mutation, catalog, True)[4]:
            raise BadValue("rows", "are refused now")
        return
    texts = [(catalog.namespace(each.namespace), each.texts) for each in by_rank(mutation, catalog)]
    found = []
    for number, value in texts:
        if value:
            key = struct.pack(">H", number) + value
            found.append((0, key, number, value, applier.lookup(key)))
    customer = applier.meant(found) or applier.new_customer()
    applier.begin_record(customer)
    applier.adopt(customer, found)
    event = catalog.event(mutation.event)
    given = {column.name: column for column in mutation.columns}
    cells = []
    for field in event.fields:
        shape = SHAPES[field.type.value]
        column = given.get(field.name)
        cell = None if column is None else cells_of(shape, column.values, column.texts)[0]
        if shape == "e" and cell is not None:
            cell = field.labels[cell - 1]
        cells.append((LETTERS[field.type], cell))
    at = int.from_bytes(mutation.times, "little", signed=True)
    applier.packer.clear()
    applier.packer.pack(event.number, at, int.from_bytes(mutation.keys, "little"), cells)
    became = add_packed(applier, customer, since(applier.catalog, mutation.at_us))
    if became[0] == MERGED_COUNTED or not all([row[4] for row in found]):
        builder_touch(&applier.builder, at)
    applier.finish_record(customer)
    applier.touched.setdefault(customer, None)


def upsert_one_by_one(Applier applier, mutation, catalog, bint inside=False):
    """`apply_columns` for profiles with attributes that have sources, or with memberships: row by row, as `Upsert` and
    `SetMembership` do it.

    Several times slower than columns without, since each source's value is kept beside the record.
    """
    cdef uint64_t customer, best, household
    cdef Membership membership
    cdef bint of_household = kind_of(mutation, catalog)
    cdef uint32_t row
    cdef uint16_t number
    cdef bytes existing, value, key
    cdef int kind
    columns = []
    for column in mutation.columns:
        setter = (applier.household_setters if of_household else applier.setters)[column.name]
        entry = setter[2]
        shape = SHAPES[entry.type.value]
        if len(column.values) != mutation.rows * WIDTHS[shape]:
            raise EngineFault(f"An imported column has {len(column.values)} bytes for {mutation.rows} rows of shape {shape}.")
        if shape in "ts":
            check_ends(mutation.rows, column.values, column.texts)
        columns.append((setter, cells_of(shape, column.values, column.texts)))
    identifiers = []
    for column in by_rank(mutation, catalog):
        check_ends(mutation.rows, column.ends, column.texts)
        identifiers.append((catalog.namespace(column.namespace), cells_of("t", column.ends, column.texts, text=False)))
    consents = []
    for each in mutation.consents:
        if len(each.granted) != mutation.rows or len(each.at) != 8 * mutation.rows:
            raise EngineFault("An import's consents are not one a row.")
        consents.append((
            catalog.purpose(each.purpose), catalog.channel(each.channel) if each.channel else 0, each.granted,
            np.frombuffer(each.at, np.int64).tolist()))
    source = catalog.sources[mutation.source] if mutation.source else 0
    if mutation.household is not None:
        given_to = mutation.household
        check_ends(mutation.rows, given_to.ends, given_to.texts)
        if len(given_to.roles) != 2 * mutation.rows:
            raise EngineFault("An import's roles are not one a row.")
        household_number = catalog.namespace(given_to.namespace)
        households = cells_of("t", given_to.ends, given_to.texts, text=False)
        roles = np.frombuffer(given_to.roles, np.uint16).tolist()
    created = changed = unchanged = 0
    contested, refused = [], []
    whose = [0] * mutation.rows
    for row in range(mutation.rows):
        found = []
        for number, texts in identifiers:
            value = texts[row]
            if value:
                key = struct.pack(">H", number) + value
                found.append((0, key, number, value, applier.lookup(key)))
        best = applier.meant(found)
        customer = best if best else applier.next_household if of_household else applier.next_customer
        existing = applier.record(customer) if best else None
        if best and existing is None:
            raise StoreCorrupt(f"The record of {record_name(customer)}", "an identifier leads to it, and it is missing")
        household = 0
        joins = mutation.household is not None and households[row] != b""
        if joins:
            household = applier.lookup(struct.pack(">H", household_number) + households[row])
            try:
                if not membership_of(applier, customer, &membership) or membership.household != household:
                    check_room(len(unpack_members(applier.membership(household), household)) if household else 0)
            except TooLarge:
                refused.append((row, FULL_HOUSEHOLD))
                continue
        before = applier.records.get(customer)
        same = False
        sourced = {}
        given = []
        try:
            applier.begin_record(customer)
            for setter, values in columns:
                cell = values[row]
                if cell is None and not mutation.clear_missing:
                    continue
                if setter[2].sources:
                    given.append((setter, cell))
                else:
                    kind = setter[1]
                    applier.answer(set_value(&applier.builder, setter[0], kind, cell), customer)
            if given:
                applier.settle(customer, mutation.source, mutation.at_us, given, sourced)
            for purpose, channel, granted, dates in consents:
                if granted[row]:
                    applier.answer(builder_set_consent(
                        &applier.builder, purpose, channel, granted[row] == 2, source, dates[row]), customer)
            keys = applier.added(customer, found)
            builder_touch(&applier.builder, mutation.at_us)
            applier.finish_record(customer)
        except IdentityConflict:
            refused.append((row, SECOND_OF_SINGLE))
            continue
        except (BadValue, TooLarge) as error:
            refused.append((row, MANY_IDENTIFIERS if "identifiers" in str(error.metadata.get("what", "")) else LARGE_RECORD))
            continue
        contested += [row for each in found if each[4] not in (0, customer)]
        applier.origins.update(sourced)
        whose[row] = customer
        if inside:
            applier.touched.setdefault(customer, None)
        applier.identifiers.update([(key, customer) for key in keys])
        if not best:
            if of_household:
                applier.new_household()
            else:
                applier.new_customer()
            created += 1
        elif existing[24:] != applier.record(customer)[24:]:
            changed += 1
        else:
            # Nothing but the time, or who said so, is new: the record stays as it was.
            if before is None:
                applier.records.pop(customer, None)
            else:
                applier.records[customer] = before
            unchanged += 1
            same = True
        if joins:
            if not household:
                household = made_household(applier, household_number, households[row], mutation.at_us)
            kept = applier.membership(customer)
            enter(applier, customer, household, mutation.at_us, roles[row], mutation.at_us)
            # When it was said last is newer each time, and nothing that anybody sees.
            if same and (
                kept is None
                or unpack_membership(kept, customer)[:3] != unpack_membership(applier.membership(customer), customer)[:3]
            ):
                unchanged -= 1
                changed += 1
    if not inside and not of_household:
        remember_rows(applier, mutation, catalog, whose)
    return created, changed, unchanged, contested, refused


cdef uint64_t made_household(Applier applier, uint16_t number, bytes value, int64_t at) except 0:
    """A new household with one identifier."""
    cdef uint64_t household = applier.new_household()
    applier.begin_record(household)
    applier.answer(
        builder_add_identifier(&applier.builder, number, <const uint8_t*>PyBytes_AS_STRING(value), len(value)), household)
    builder_touch(&applier.builder, at)
    applier.finish_record(household)
    applier.identifiers[struct.pack(">H", number) + value] = household
    return household
