"""What is known of a customer's cases beyond what decisions read: the texts of key, product and owner, and when due.

A record's case entry is numbers only (kind, hashes of key and product, from when to when), because decisions checksum and
walk it. The texts stand beside it in the database `cases`: the entry of a customer, or of a household (core.hub.owned), is
MessagePack, a list of (kind number, key hash, key, then product, owner and due, each nil or
(microseconds when it was told, value)), ascending. A case that was opened under format 2 has none, until somebody tells of
it again.

Of product, owner and due the newest telling stands whatever order they came in, and of two at one microsecond the greater
value; so do they when two customers are joined.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from core.errors import StoreCorrupt
from core.hub.membership import named
from core.hub.owned import opened, sealed


@dataclass(slots=True)
class CaseDetails:
    """Of one case. Each of the last three is None until told, then (microseconds when it was told, value)."""

    key: str
    product: tuple[int, str] | None = None
    owner: tuple[int, str] | None = None
    due: tuple[int, int] | None = None  # value: microseconds


# By kind number and key hash.
Details = dict[tuple[int, int], CaseDetails]

_Packed = list[tuple[int, int, str, tuple[int, str] | None, tuple[int, str] | None, tuple[int, int] | None]]
_decoder: Final = msgspec.msgpack.Decoder(_Packed)
_encoder: Final = msgspec.msgpack.Encoder()


def decode(data: bytes | None, owner: int) -> Details:
    """A customer's or household's entry taken apart; empty for None. Raises StoreCorrupt."""
    if data is None:
        return {}
    what = f"The entry of {named(owner)} in cases"
    try:
        packed = _decoder.decode(opened(owner, data, what))
    except msgspec.DecodeError as error:
        raise StoreCorrupt(what, str(error)) from error
    return {(kind, hashed): CaseDetails(key, product, owner, due) for kind, hashed, key, product, owner, due in packed}


def encode(details: Details, owner: int) -> bytes | None:
    """The owner's entry, None when there is nothing to keep: equal contents are equal bytes."""
    if not details:
        return None
    packed = [
        (kind, hashed, each.key, each.product, each.owner, each.due) for (kind, hashed), each in sorted(details.items())
    ]
    return sealed(owner, _encoder.encode(packed))


def tell(
    details: Details, case: tuple[int, int], key: str, at: int, *, product: str = "", owner: str = "", due: int | None = None
) -> CaseDetails:
    """Take in what was told of a case at a time; '' and None tell nothing of that."""
    known = details.setdefault(case, CaseDetails(key))
    _take(known, CaseDetails(
        key, (at, product) if product else None, (at, owner) if owner else None, (at, due) if due is not None else None))
    return known


def unite(mine: Details, theirs: Details) -> None:
    """Take what is newer from those of another customer, who is joined into this one."""
    for case, told in theirs.items():
        known = mine.setdefault(case, CaseDetails(told.key))
        _take(known, told)


def keep(details: Details, cases: Collection[tuple[int, int]]) -> None:
    """Forget the details of cases that the record has no more: of closed ones, which go when there are too many."""
    for case in details.keys() - cases:
        del details[case]


_T = TypeVar("_T", tuple[int, str], tuple[int, int])


def _newer(mine: _T | None, theirs: _T | None) -> _T | None:
    return theirs if mine is None or (theirs is not None and theirs > mine) else mine


def _take(known: CaseDetails, told: CaseDetails) -> None:
    known.product = _newer(known.product, told.product)
    known.owner = _newer(known.owner, told.owner)
    known.due = _newer(known.due, told.due)
