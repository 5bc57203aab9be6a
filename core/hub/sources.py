"""Who said what of an attribute, and which of it holds.

An attribute that declares sources keeps, beside the value in the record, the newest value of each source with its time, in
the database `origins`: a customer's entry (core.hub.owned) is MessagePack, a list of (attribute number, list of
(source number, microseconds, value or nil)), both ascending. A value is as the record holds it (money's minor units, an
enum's code, a set as its members in order); nil says that the source cleared it. Decisions never read this.

Of one source the newest statement stands whatever order they came in, and one at the same microsecond corrects it. What
holds is worked out anew from all of them by the attribute's rule, so late and repeated feeds change nothing they should not.

Source 0 is what the attribute had before any listed source spoke. It, and sources that are listed no more, hold only
while no listed one has said anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from core.errors import BadValue, StoreCorrupt
from core.hub.catalog import AttributeEntry
from core.hub.owned import opened, sealed
from core.schema import SourceRule

# A value as the record holds it.
Stored = bool | int | float | str | frozenset[str]
# (microseconds, value) of each source number; None was cleared.
Said = dict[int, tuple[int, Stored | None]]
# By attribute number.
Origins = dict[int, Said]

_Packed = list[tuple[int, list[tuple[int, int, bool | int | float | str | list[str] | None]]]]
_decoder: Final = msgspec.msgpack.Decoder(_Packed)
_encoder: Final = msgspec.msgpack.Encoder()
_HIGHEST: Final = 0x7FFF_FFFF_FFFF_FFFF


def decode(data: bytes | None, customer: int) -> Origins:
    """A customer's entry taken apart; empty for None. Raises StoreCorrupt."""
    if data is None:
        return {}
    what = f"Customer {customer}'s entry in origins"
    try:
        packed = _decoder.decode(opened(customer, data, what))
    except msgspec.DecodeError as error:
        raise StoreCorrupt(what, str(error)) from error
    return {
        attribute: {
            source: (at, frozenset(value) if isinstance(value, list) else value) for source, at, value in said
        }
        for attribute, said in packed
    }


def encode(origins: Origins, customer: int) -> bytes:
    """The customer's entry: equal contents are equal bytes."""
    packed = [
        (
            attribute,
            [
                (source, at, sorted(value) if isinstance(value, frozenset | set) else value)
                for source, (at, value) in sorted(said.items())
            ],
        )
        for attribute, said in sorted(origins.items())
    ]
    return sealed(customer, _encoder.encode(packed))


def found(origins: Origins, attribute: int, at: int, value: Stored | None) -> None:
    """Keep what an attribute had before it had sources; None is nothing."""
    if value is not None:
        origins[attribute] = {0: (at, value)}


def note(origins: Origins, attribute: int, source: int, at: int, value: Stored | None) -> bool:
    """Keep what a source says, unless it said something later; whether it was kept."""
    said = origins.setdefault(attribute, {})
    known = said.get(source)
    if known is not None and known[0] > at:
        return False
    said[source] = (at, value)
    return True


def unite(mine: Origins, theirs: Origins) -> None:
    """Take what is newer from those of another customer, who is joined into this one."""
    for attribute, said in theirs.items():
        for source, (at, value) in said.items():
            known = mine.get(attribute, {}).get(source)
            if known is None or known[0] < at:
                mine.setdefault(attribute, {})[source] = (at, value)


def effective(entry: AttributeEntry, said: Mapping[int, tuple[int, Stored | None]]) -> Stored | None:
    """The value that holds by the attribute's rule; None is missing. Raises BadValue for a sum outside 64 bits."""
    listed = [(*said[source], rank) for rank, source in enumerate(entry.sources) if source in said]
    if not listed:
        return max(((at, -source, value) for source, (at, value) in said.items()), default=(0, 0, None))[2]
    if entry.rule is SourceRule.LATEST:
        return max(listed, key=lambda each: (each[0], -each[2]))[1]
    values = [value for _, value, _ in listed if value is not None]
    if not values:
        return None
    match entry.rule:
        case SourceRule.MAX:
            return max(values, key=_number)
        case SourceRule.UNION:
            return frozenset().union(*(value for value in values if isinstance(value, frozenset | set)))
        case SourceRule.SUM:
            total = sum(_number(value) for value in values)
            if isinstance(total, int) and not -_HIGHEST <= total <= _HIGHEST:
                raise BadValue(f"attribute {entry.name}", "the sum of its sources' values is outside 64 bits")
            return total
        case _:
            return values[0]


def _number(value: Stored) -> int | float:
    assert isinstance(value, int | float), "rules about numbers are declared for numbers only"
    return value
