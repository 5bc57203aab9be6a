"""What came of offers: `RecordOutcomes`."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

import struct

from core.hub.apply cimport Applier
from core.hub.buffer cimport buffer_reserve
from core.hub.contact_rows cimport pack_contacts
from core.hub.contacts cimport MERGED_COUNTED, MERGED_DUPLICATE, MERGED_PAST, ContactEntry, contacts_merge
from core.hub.households cimport share_contacts
from core.hub.record cimport damaged, rapport_siphash
from core.hub.values cimport check_time, text_bytes

from core.errors import BadValue
from core.hub.apply import register
from core.hub.mutations import OutcomeStatus, RecordOutcomes


_STATUSES = {
    MERGED_COUNTED: OutcomeStatus.APPLIED, MERGED_DUPLICATE: OutcomeStatus.DUPLICATE, MERGED_PAST: OutcomeStatus.TOO_OLD,
}


def _record_outcomes(Applier applier, mutation):
    """Contacts are merged a customer at a time, since a batch is mostly one customer's page."""
    cdef uint64_t customer
    cdef bytes raw, stored
    cdef const uint8_t* start
    cdef size_t size
    cdef int code
    cdef uint32_t count
    cdef object dedup
    statuses = [OutcomeStatus.UNKNOWN_CUSTOMER] * len(mutation.outcomes)
    by_customer = {}
    for position, outcome in enumerate(mutation.outcomes):
        check_time(f"outcome {outcome.outcome}: at", outcome.at_us)
        offer = applier.catalog.offer(outcome.offer)
        kind = applier.catalog.outcome(outcome.outcome)
        channel = applier.catalog.channel(outcome.channel) if outcome.channel else 0
        if not outcome.instance and not outcome.key:
            raise BadValue(f"outcome {outcome.outcome}: key", "there is neither an instance nor a key",
                           "Send the token, or a key, so that sending it again counts once.")
        if outcome.customer:
            customer = applier.survivor(outcome.customer)
            if not customer:
                continue
        elif outcome.identifiers:
            customer, _ = applier.opened(outcome.identifiers, outcome.at_us, True)
            applier.finish_record(customer)
        else:
            continue
        raw = struct.pack("<QH", outcome.instance, kind) + text_bytes("outcome: key", outcome.key)
        dedup = rapport_siphash(<const uint8_t*><const char*>raw, len(raw))
        if applier.touched.get(customer) is None:
            applier.touched[customer] = []
        applier.touched[customer].append(position)
        by_customer.setdefault(customer, []).append(
            (position, outcome.at_us, dedup, outcome.instance, outcome.value_minor, offer, kind, channel))
    for customer, rows in by_customer.items():
        count = <uint32_t>len(rows)
        pack_contacts(&applier.entries, [row[1:] for row in rows])
        applier.flags.size = 0
        if buffer_reserve(&applier.flags, count):
            raise MemoryError
        stored = applier.contact_list(customer)
        start = NULL
        size = 0
        if stored is not None:
            start = <const uint8_t*><const char*>stored
            size = len(stored)
        code = contacts_merge(
            start, size, <ContactEntry*>applier.entries.data, count, applier.flags.data, &applier.merged)
        if code < 0:
            raise MemoryError
        if code:
            raise damaged(code, f"Customer {customer}'s contact history")
        merged = applier.merged.data[:applier.merged.size]
        if merged != stored:
            applier.contacts[customer] = merged
        became = [_STATUSES[applier.flags.data[<size_t>index]] for index in range(len(rows))]
        past = {row[2] for row, status in zip(rows, became, strict=True) if status is OutcomeStatus.TOO_OLD}
        # (at, dedup, instance, value, offer, outcome, channel) of those that count now.
        share_contacts(applier, customer, [
            row[1:] for row, status in zip(rows, became, strict=True) if status is OutcomeStatus.APPLIED])
        for row, status in zip(rows, became, strict=True):
            # A repeat of one that was not kept repeats nothing that counts.
            statuses[row[0]] = OutcomeStatus.TOO_OLD if row[2] in past else status
    return tuple(statuses)


register(RecordOutcomes, _record_outcomes)
