"""Programs as the store keeps them: one small header a version, its sources, its image, and which one is active.

Keys of the database ``programs``: ``program/<name>/<version>``, ``sources/...``, ``image/...`` (versions with ten
digits, so that they list in order), and ``active``.
"""

from __future__ import annotations

from typing import Final

import msgspec

ACTIVE: Final = b"active"
PROGRAMS: Final = b"program/"


class SavedProgram(msgspec.Struct, frozen=True):
    """A version of a program that was saved; ``compiler`` says what made its image ('' without one)."""

    name: str
    version: int
    digest: str
    saved_us: int
    compiler: str = ""


class ActiveProgram(msgspec.Struct, frozen=True):
    """The version that serves after a restart."""

    name: str
    version: int
    at_us: int


def program_key(name: str, version: int) -> bytes:
    """Key of a version's header."""
    return f"program/{name}/{version:010}".encode()


def sources_key(name: str, version: int) -> bytes:
    """Key of a version's sources: MessagePack of file name to bytes."""
    return f"sources/{name}/{version:010}".encode()


def image_key(name: str, version: int) -> bytes:
    """Key of a version's image."""
    return f"image/{name}/{version:010}".encode()
