"""What customers agree to and what is open with them: consents and cases.

A case is an entry of the customer's record, which decisions read, and details beside it (core/hub/case_details.py); both
are written by one mutation. Each handler takes in what it is told by rules that do not depend on the order: the earliest
opening, the earliest close, the newest telling of the rest.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memset

from core.hub.apply cimport Applier
from core.hub.households cimport membership_of
from core.hub.membership cimport Membership, record_name
from core.hub.record cimport (
    RecordView, builder_add_case, builder_set_case_product, builder_set_consent, builder_touch, record_consented, record_open,
)
from core.hub.values cimport check_time, hashed, text_bytes

from core import limits
from core.errors import BadValue, CustomerFull, IdentityConflict, NotFound, TooLarge
from core.hub import case_details
from core.hub.apply import register
from core.hub.causes import CAUSE_NUMBERS as causes
from core.hub.imports import ImportResult
from core.hub.mutations import AssignCase, CloseCase, CustomerResult, ImportCases, OpenCase, SetConsent
from core.hub.record import Record, product_hash
from core.schema import CaseRule, CaseScope, wrong_product

ANY_RULE = CaseRule()


cdef int source_number(Applier applier, str source) except -1:
    """The source's number, given now when it is new; 0 without one."""
    grown = applier.catalog.with_source(source)
    if grown is not applier.catalog:
        applier.set_catalog(grown)
    return grown.sources[source] if source else 0


def _set_consent(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint16_t purpose = applier.catalog.purpose(mutation.purpose)
    cdef uint16_t channel = applier.catalog.channel(mutation.channel) if mutation.channel else 0
    cdef uint16_t source
    cdef RecordView view
    cdef bytes data
    # A withdrawal is heard whoever brings it.
    if mutation.granted:
        applier.catalog.check_grantor(mutation.purpose, mutation.source)
    unsourced = ""
    try:
        source = <uint16_t>source_number(applier, mutation.source)
    except (BadValue, TooLarge) as error:
        if mutation.granted:
            raise
        source, unsourced = 0, error.message
    check_time("at", mutation.at_us)
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(
        builder_set_consent(&applier.builder, purpose, channel, mutation.granted, source, mutation.at_us), customer)
    applier.finish_record(customer)
    data = applier.record(customer)
    memset(&view, 0, sizeof(view))
    applier.answer(record_open(<const uint8_t*><const char*>data, len(data), &view), customer)
    stands = record_consented(&view, purpose, channel) == (2 if mutation.granted else 1)
    return CustomerResult(customer, created, unsourced, superseded=not stands)


cdef int set_products(Applier applier, dict details) except -1:
    for (kind, key), known in details.items():
        if known.product is not None:
            builder_set_case_product(&applier.builder, kind, key, product_hash(known.product[1]))
    return 0


cdef int keep_details(Applier applier, uint64_t customer, dict details) except -1:
    if details:
        record = Record(applier.record(customer), f"The record of {record_name(customer)}")
        cases = {(kind, key) for kind, key, _, _, _ in record.cases}
        case_details.keep(details, cases)
    built = case_details.encode(details, customer)
    if built != applier.case_list(customer):
        applier.cases[customer] = built
    return 0


cdef uint64_t case_key(str key) except? 0:
    if len(text_bytes("key", key)) > limits.KEY_BYTES:
        raise TooLarge("key: bytes", len(key.encode()), limits.KEY_BYTES, field="key")
    return hashed("key", key)


cdef int check_details(mutation) except -1:
    """Owner, due time and product as they may be kept."""
    check_time("at", mutation.at_us)
    if len(text_bytes("owner", mutation.owner)) > limits.KEY_BYTES:
        raise TooLarge("owner: bytes", len(mutation.owner.encode()), limits.KEY_BYTES, field="owner")
    if mutation.due_us is not None:
        check_time("due", mutation.due_us)
    return 0


cdef object checked_scope(Applier applier, mutation, scope):
    """What a case is about; `scope` None is what identifiers and product say. BadValue where these do not fit, or the kind."""
    cdef str product = mutation.product
    if product:
        text_bytes("product", product)
        wrong = wrong_product(product)
        if wrong is not None:
            raise BadValue("product", wrong[0], wrong[1])
    if applier.catalog.names_household(mutation.identifiers):
        if scope is not None and scope is not CaseScope.HOUSEHOLD:
            raise BadValue("scope", f"a household is named, and the scope is {scope.value}",
                           "Leave it out, or name the customer.")
        scope = CaseScope.HOUSEHOLD
    elif scope is None:
        scope = CaseScope.PRODUCT if product else CaseScope.CUSTOMER
    elif scope is CaseScope.PRODUCT and not product:
        raise BadValue("product", "it is empty, and the scope is product", "Name the product, or leave the scope out.")
    elif scope is CaseScope.CUSTOMER and product:
        raise BadValue("product", f"'{product}' is named, and the scope is customer", "Leave one of both out.")
    allowed = applier.catalog.case_rules.get(mutation.kind, ANY_RULE).scopes
    for asked in (scope, CaseScope.PRODUCT) if product else (scope,):
        if asked not in allowed:
            raise BadValue("scope", f"a case of kind '{mutation.kind}' is not about a {asked.value}",
                           f"The program's schema declares: {', '.join([each.value for each in allowed])}.")
    return scope


cdef uint64_t household_of(Applier applier, uint64_t customer) except? 0:
    """The household in which a customer (0: nobody) is; 0 when he is in none."""
    cdef Membership membership
    return membership.household if customer and membership_of(applier, customer, &membership) else 0


def _open_case(Applier applier, mutation):
    cdef uint64_t owner
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = case_key(mutation.key)
    check_details(mutation)
    scope = checked_scope(applier, mutation, mutation.scope)
    created = False
    if scope is CaseScope.HOUSEHOLD and not applier.catalog.names_household(mutation.identifiers):
        customer, _ = applier.resolve(mutation.identifiers)
        owner = household_of(applier, customer)
        if not owner:
            raise BadValue("scope", "the customer is in no household",
                           "Make him a member first (rapport profile household set), or name the household itself.")
        applier.begin_record(owner)
        builder_touch(&applier.builder, mutation.at_us)
    else:
        owner, created = applier.opened(mutation.identifiers, mutation.at_us, False, scope is CaseScope.HOUSEHOLD)
    _take_in(applier, owner, kind, key, mutation, mutation.at_us, INT64_MIN, mutation.product)
    return CustomerResult(owner, created)


cdef int _take_in(
    Applier applier, uint64_t owner, uint16_t kind, uint64_t key, mutation, int64_t opened, int64_t closed, str product
) except -1:
    """What was told of a case into the customer or household in the builder, and both among the changes."""
    details = case_details.decode(applier.case_list(owner), owner)
    known = case_details.tell(
        details, (kind, key), mutation.key, mutation.at_us, product=product, owner=getattr(mutation, "owner", ""),
        due=getattr(mutation, "due_us", None))
    applier.answer(
        builder_add_case(
            &applier.builder, kind, key, opened, closed, product_hash(known.product[1]) if known.product is not None else 0),
        owner)
    applier.finish_record(owner)
    return keep_details(applier, owner, details)


cdef object _begun(Applier applier, mutation, uint16_t kind, uint64_t key):
    """(whose, since when) the case is that a mutation names: the customer's own or his household's. NotFound without one.

    Whose it is, is in the builder.
    """
    cdef uint64_t owner
    cdef bytes data
    cdef bint household = applier.catalog.names_household(mutation.identifiers)
    best, _ = applier.resolve(mutation.identifiers, household)
    for owner in (best, 0 if household else household_of(applier, best)):
        data = applier.record(owner) if owner else None
        if data is None:
            continue
        for known_kind, known_key, at, _, _ in Record(data, f"The record of {record_name(owner)}").cases:
            if known_kind == kind and known_key == key:
                if owner == best:
                    applier.opened(mutation.identifiers, mutation.at_us, False, household)
                else:
                    applier.begin_record(owner)
                    builder_touch(&applier.builder, mutation.at_us)
                return owner, at
    raise NotFound("case", mutation.key, "List what there is: rapport case list --all, with identifiers of his.",
                   f"There is no case of kind '{mutation.kind}' with the key '{mutation.key}' of whom these identifiers name.")


def _close_case(Applier applier, mutation):
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = case_key(mutation.key)
    check_time("at", mutation.at_us)
    owner, opened = _begun(applier, mutation, kind, key)
    _take_in(applier, owner, kind, key, mutation, min(opened, mutation.at_us), mutation.at_us, "")
    return CustomerResult(owner, False)


def _assign_case(Applier applier, mutation):
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = case_key(mutation.key)
    check_details(mutation)
    if not mutation.owner and mutation.due_us is None:
        raise BadValue("owner", "neither it nor a due time is given", "Say who works on the case, or until when.")
    owner, opened = _begun(applier, mutation, kind, key)
    _take_in(applier, owner, kind, key, mutation, opened, INT64_MIN, "")
    return CustomerResult(owner, False)


def _import_cases(Applier applier, mutation):
    """Row by row: a row is refused before it has changed anything."""
    cdef uint64_t customer
    cdef uint64_t key
    cdef uint16_t kind
    cdef bytes existing
    created = changed = unchanged = 0
    contested, refused = [], []
    for place, row in enumerate(mutation.rows):
        try:
            kind = applier.catalog.case_kind(row.kind)
            key = case_key(row.key)
            check_details(row)
            for name, at in (("opened", row.opened_us), ("closed", row.closed_us)):
                if at is not None:
                    check_time(name, at)
            household = checked_scope(applier, row, None) is CaseScope.HOUSEHOLD
            best, found = applier.resolve(row.identifiers, household)
        except (BadValue, TooLarge):
            refused.append((place, causes["CASE_INVALID"]))
            continue
        customer = best if best else applier.next_household if household else applier.next_customer
        existing = applier.record(customer) if best else None
        before = existing, applier.case_list(customer) if best else None
        times = [at for at in (row.opened_us, row.closed_us) if at is not None] or [row.at_us]
        closed = INT64_MIN if row.closed_us is None else row.closed_us
        try:
            applier.begin_record(customer)
            keys = applier.added(customer, found)
            _take_in(applier, customer, kind, key, row, min(times), closed, row.product)
        except IdentityConflict as error:
            refused.append((place, causes[error.reason]))
            continue
        except CustomerFull as error:
            what = error.metadata["what"]
            cause = "TOO_MANY_IDENTIFIERS" if "identifiers" in what else "TOO_MANY_CASES" if "open cases" in what else ""
            refused.append((place, causes[cause or "RECORD_TOO_LARGE"]))
            continue
        applier.identifiers.update([(each, customer) for each in keys])
        contested += [place for each in found if each[4] not in (0, customer)]
        if applier.touched.get(customer) is None:
            applier.touched[customer] = []
        applier.touched[customer].append(place)
        if not best:
            if household:
                applier.new_household()
            else:
                applier.new_customer()
            created += 1
        elif (applier.record(customer), applier.case_list(customer)) == before:
            unchanged += 1
        else:
            changed += 1
    return ImportResult(created, changed, unchanged, tuple(contested), tuple(refused))


register(SetConsent, _set_consent)
register(OpenCase, _open_case)
register(CloseCase, _close_case)
register(AssignCase, _assign_case)
register(ImportCases, _import_cases)
