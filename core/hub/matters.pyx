"""What customers agree to and what is open with them: `SetConsent`, `OpenCase`, `CloseCase`."""

from libc.stdint cimport INT64_MIN, uint16_t, uint64_t

from core.hub.apply cimport Applier
from core.hub.record cimport builder_add_case, builder_set_consent
from core.hub.values cimport check_time, hashed

from core.errors import NotFound
from core.hub.apply import register
from core.hub.mutations import CloseCase, CustomerResult, OpenCase, SetConsent
from core.hub.record import Record


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
    cdef uint16_t source = <uint16_t>source_number(applier, mutation.source)
    check_time("at", mutation.at_us)
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(
        builder_set_consent(&applier.builder, purpose, channel, mutation.granted, source, mutation.at_us), customer)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


def _open_case(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = hashed("case: key", mutation.key)
    check_time("at", mutation.at_us)
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(builder_add_case(&applier.builder, kind, key, mutation.at_us, INT64_MIN), customer)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


def _close_case(Applier applier, mutation):
    cdef uint64_t customer
    cdef uint16_t kind = applier.catalog.case_kind(mutation.kind)
    cdef uint64_t key = hashed("case: key", mutation.key)
    cdef bytes data
    check_time("at", mutation.at_us)
    best, _ = applier.resolve(mutation.identifiers)
    data = applier.record(best) if best else None
    opened = None
    if data is not None:
        for known_kind, known_key, at, _ in Record(data, f"Customer {best}'s record").cases:
            if known_kind == kind and known_key == key:
                opened = at
    if opened is None:
        raise NotFound("case", mutation.key, f"The customer has no case of kind '{mutation.kind}' with this key.")
    customer, created = applier.opened(mutation.identifiers, mutation.at_us)
    applier.answer(
        builder_add_case(&applier.builder, kind, key, opened, max(opened, mutation.at_us)), customer)
    applier.finish_record(customer)
    return CustomerResult(customer, created)


register(SetConsent, _set_consent)
register(OpenCase, _open_case)
register(CloseCase, _close_case)
