"""Programs and the audit trail as the store keeps them.

Keys of the database ``programs``: ``program/<name>/<version>`` (a small header a version), ``sources/...``, ``image/...``
(versions with ten digits, so that they list in order), and ``active``, which is the one that serves. The audit trail is in
the database ``meta``: ``audit/<sequence number>``; so are the edges of bands, all of them under ``bands``.
``erased/<sequence number>`` lists the ids that an erasure took, numbers that lead to nobody any more: whoever restores an older
backup takes them out of it again.
"""

from __future__ import annotations

from typing import Final

import msgspec

ACTIVE: Final = b"active"
PROGRAMS: Final = b"program/"
AUDIT: Final = b"audit/"
ERASED: Final = b"erased/"
BANDS: Final = b"bands"


class SavedProgram(msgspec.Struct, frozen=True):
    """A version of a program that was saved; ``compiler`` says what made its image ('' without one)."""

    name: str
    version: int
    digest: str
    saved_us: int
    compiler: str = ""


class ActiveProgram(msgspec.Struct, frozen=True):
    """The version that serves after a restart, and the one that did before it: name and version, None for the first."""

    name: str
    version: int
    at_us: int
    before: tuple[str, int] | None = None


class AuditEntry(msgspec.Struct, frozen=True, array_like=True):
    """Something that was done: ``action``, when, and the request it answers; never to whom."""

    action: str
    at_us: int
    request: str


class BandEdges(msgspec.Struct, frozen=True):
    """The edges of a band: quantiles of all customers who have its value.

    ``definition`` is `core.programs.program.Band.definition`, so that edges never serve a band that was declared otherwise
    since; ``customers`` are those who had a value when they were made, at ``at_us``.
    """

    definition: str
    edges: tuple[float, ...]
    customers: int
    at_us: int


def erased_key(seq: int) -> bytes:
    """Key of the ids that the erasure with this sequence number took."""
    return ERASED + f"{seq:020}".encode()


def program_key(name: str, version: int) -> bytes:
    """Key of a version's header."""
    return f"program/{name}/{version:010}".encode()


def sources_key(name: str, version: int) -> bytes:
    """Key of a version's sources: MessagePack of file name to bytes."""
    return f"sources/{name}/{version:010}".encode()


def image_key(name: str, version: int) -> bytes:
    """Key of a version's image."""
    return f"image/{name}/{version:010}".encode()
