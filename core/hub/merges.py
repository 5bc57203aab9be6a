"""Joins that can be taken back: what everybody was before, and what was said of the survivor since.

They lie in the database `meta`: ``merge/<survivor>/<join>/000000`` holds a `Before`, the numbers after it the mutations that
concerned the survivor since, in order. A join's number is that of the mutation, so it rises. The entries of a survivor
are a stack: only his newest join can be undone, which shows the one before it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from core.decision import Identifier

PREFIX: Final = b"merge/"


class Image(msgspec.Struct, frozen=True, array_like=True):
    """A customer as he was: the values of the databases, None where there was none."""

    customer: int
    record: bytes
    contacts: bytes | None
    events: bytes | None
    origins: bytes | None
    membership: bytes | None = None
    cases: bytes | None = None


class Before(msgspec.Struct, frozen=True, array_like=True):
    """Everybody in a join before it, the survivor first."""

    at_us: int
    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """A join that can be undone. ``absorbed`` are those joined into the survivor, with the identifiers that each had; ``since``
    counts the messages that would be applied again."""

    merge: int
    at_us: int
    survivor: int
    absorbed: Mapping[int, tuple[Identifier, ...]]
    since: int


class Stack(msgspec.Struct, frozen=True):
    """A survivor's joins that can be undone, (number, microseconds), oldest first, the messages since the newest, and the bytes
    of all that is kept."""

    joins: tuple[tuple[int, int], ...]
    messages: int = 0
    kept: int = 0


def key(survivor: int, merge: int, number: int) -> bytes:
    """Where a join's `Before` (number 0) or a message since lies."""
    return PREFIX + f"{survivor:020}/{merge:020}/{number:06}".encode()


def of_survivor(survivor: int) -> bytes:
    """What all keys of a survivor begin with."""
    return PREFIX + f"{survivor:020}/".encode()


def parts(found: bytes) -> tuple[int, int, int]:
    """(survivor, merge, number) of a key."""
    survivor, merge, number = found[len(PREFIX) :].split(b"/")
    return int(survivor), int(merge), int(number)
