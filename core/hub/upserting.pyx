"""Attributes of customers and of households: `Upsert`."""

from libc.stdint cimport uint32_t, uint64_t

from core.hub.apply cimport Applier
from core.hub.record cimport set_value
from core.hub.values cimport check_time

from core.errors import NotFound, UnknownName
from core.hub.apply import register
from core.hub.mutations import CustomerResult, Upsert
from core.hub.values import checked


def _upsert(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint32_t offset
    cdef int kind
    check_time("at", mutation.at_us)
    # Identifiers of both kinds are refused by whichever the first is not.
    of_household = applier.catalog.names_household(mutation.identifiers)
    setters = applier.household_setters if of_household else applier.setters
    if mutation.customer and applier.resolve(mutation.identifiers, of_household)[0] != mutation.customer:
        raise NotFound("customer", str(mutation.customer), "The identifiers lead to somebody else, or to nobody.")
    # The source is not numbered here: declared ones are, and numbers given to whatever callers send would run out.
    customer, created = applier.opened(mutation.identifiers, mutation.at_us, False, of_household)
    sourced = []
    for name, value in mutation.attributes.items():
        setter = setters.get(name)
        if setter is None:
            noun = "attribute of households" if of_household else "attribute"
            raise UnknownName(noun, name, setters, field=f"attributes['{name}']")
        offset, kind, entry, codes, path = setter
        value = checked(path, kind, value, entry, codes)
        if entry.sources:
            sourced.append((setter, value))
            continue
        applier.answer(set_value(&applier.builder, offset, kind, value), customer)
    if sourced:
        applier.settle(customer, mutation.source, mutation.at_us, sourced, applier.origins)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


register(Upsert, _upsert)
