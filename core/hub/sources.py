"""Who said what of an attribute, and which of it holds.

An attribute that declares sources keeps, beside the value in the record, the newest value of each source with its time, in
the database `origins`: a customer's entry (core.hub.owned) is MessagePack, a list of (attribute number, list of
(source number, microseconds, value or nil, and where it said something else before: microseconds, value or nil)), both
ascending. A value is as the record holds it (money's minor units, an
enum's code, a set as its members in order); nil says that the source cleared it. Decisions never read this.

Of one source the newest statement stands whatever order they came in, and one at the same microsecond corrects it. What
holds is worked out anew from all of them by the attribute's rule, so late and repeated feeds change nothing they should not.

What a source said before is its newest statement of another value than that of now. Statements that repeat a value may be
forgotten, and still the two that are kept come out the same whatever order they arrive in: the older of two neighbours with
different values is always one of those kept.

Source 0 is what the attribute had before any listed source spoke. It, and sources that are listed no more, hold only
while no listed one has said anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from core.errors import BadValue, StoreCorrupt
from core.hub.catalog import AttributeEntry
from core.hub.owned import opened, sealed
from core.schema import SourceRule

# A value as the record holds it.
Stored = bool | int | float | str | frozenset[str]


class Statement(NamedTuple):
    """The newest that a source says of an attribute, and the newest before it that says something else; None was cleared."""

    at: int  # microseconds
    value: Stored | None
    before: tuple[int, Stored | None] | None = None


# By source number.
Said = dict[int, Statement]
# By attribute number.
Origins = dict[int, Said]

_Value = bool | int | float | str | list[str] | None


class _Packed(msgspec.Struct, array_like=True):
    source: int
    at: int
    value: _Value
    before_at: int | None = None
    before: _Value = None


_decoder: Final = msgspec.msgpack.Decoder(list[tuple[int, list[_Packed]]])
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
            each.source: Statement(
                each.at, _unpacked(each.value), None if each.before_at is None else (each.before_at, _unpacked(each.before)))
            for each in said
        }
        for attribute, said in packed
    }


def encode(origins: Origins, customer: int) -> bytes:
    """The customer's entry: equal contents are equal bytes."""
    packed = [
        (
            attribute,
            [
                (source, each.at, _packed(each.value))
                if each.before is None
                else (source, each.at, _packed(each.value), each.before[0], _packed(each.before[1]))
                for source, each in sorted(said.items())
            ],
        )
        for attribute, said in sorted(origins.items())
    ]
    return sealed(customer, _encoder.encode(packed))


def _packed(value: Stored | None) -> _Value:
    return sorted(value) if isinstance(value, frozenset) else value


def _unpacked(value: _Value) -> Stored | None:
    return frozenset(value) if isinstance(value, list) else value


def found(origins: Origins, attribute: int, at: int, value: Stored | None) -> None:
    """Keep what an attribute had before it had sources; None is nothing."""
    if value is not None:
        origins[attribute] = {0: Statement(at, value)}


def note(origins: Origins, attribute: int, source: int, at: int, value: Stored | None) -> bool:
    """Keep what a source says, as what it says now or said before, unless it said both later; whether it was kept."""
    said = origins.setdefault(attribute, {})
    known = said.get(source)
    if known is None:
        said[source] = Statement(at, value)
        return True
    before = known.before
    if at < known.at:
        if value == known.value or (before is not None and before[0] > at):
            return False
        said[source] = known._replace(before=(at, value))
        return True
    if value != known.value:
        if at > known.at:
            before = (known.at, known.value)
        elif before is not None and before[1] == value:
            before = None  # a correction to what it said before: what was there before that is not known any more
    said[source] = Statement(at, value, before)
    return True


def unite(mine: Origins, theirs: Origins) -> None:
    """Take what is newer from those of another customer, who is joined into this one; of equal times mine stands."""
    for attribute, said in theirs.items():
        for source, each in said.items():
            for at, value in (() if each.before is None else (each.before,)) + ((each.at, each.value),):
                known = mine.get(attribute, {}).get(source)
                if known is None or (at != known.at and (known.before is None or at != known.before[0])):
                    note(mine, attribute, source, at, value)


def effective(entry: AttributeEntry, said: Mapping[int, Statement], *, joined: bool = False) -> Stored | None:
    """The value that holds by the attribute's rule; None is missing.

    A sum that its type cannot hold raises BadValue, which is for whoever says it; of customers who are ``joined``, for whom
    nobody says it, it is the largest that the type holds.
    """
    listed = [(said[source].at, said[source].value, rank) for rank, source in enumerate(entry.sources) if source in said]
    if not listed:
        return max(((each.at, -source, each.value) for source, each in said.items()), default=(0, 0, None))[2]
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
            most: int | float = _HIGHEST if isinstance(total, int) else sys.float_info.max
            if not -most <= total <= most:
                if not joined:
                    problem = "makes a sum with what its other sources say that its type cannot hold"
                    raise BadValue(f"attributes['{entry.name}']", problem, "Look whether it was multiplied twice.")
                return most if total > 0 else -most
            return total
        case _:
            return values[0]


def _number(value: Stored) -> int | float:
    assert isinstance(value, int | float), "rules about numbers are declared for numbers only"
    return value
