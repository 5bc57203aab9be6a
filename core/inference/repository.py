"""What lies in a models folder.

    models/<name>/<version>/model.onnx
    models/<name>/<version>/model.yaml

Versions are whole numbers from 1, without leading zeros; anything else in the folder is left alone and told. What the two
files are is told in `core.inference.package`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core import limits
from core.errors import ModelError
from core.inference.package import DESCRIPTION_BYTES, DESCRIPTION_FILE, MODEL_FILE, NAME, Package, package

_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Found:
    """A version folder as a scan sees it. ``stamp`` changes whenever either file does."""

    name: str
    version: int
    folder: Path
    stamp: tuple[tuple[int, int, int], ...]  # inode, size, modification time in ns, of both files; empty when one is missing
    changed_ns: int = 0  # when either file's inode last changed, ns since 1970; 0 when one is missing


@dataclass(frozen=True, slots=True)
class Listing:
    """A scan: versions found, by name and number, and what was left alone, with the reason."""

    found: tuple[Found, ...]
    ignored: tuple[str, ...]


def scan(folder: Path) -> Listing:
    """Versions under a models folder, by name and number. A folder that is missing holds none."""
    found: list[Found] = []
    ignored: list[str] = []
    if not folder.is_dir():
        return Listing((), (f"{folder.name}: there is no such folder.",))
    for model in sorted(folder.iterdir()):
        if model.name.startswith((".", "__")) or not model.is_dir():
            continue
        if not NAME.fullmatch(model.name) or len(model.name) > limits.NAME_LENGTH:
            ignored.append(f"{model.name}: not a model's name (a to z, 0 to 9 and _, beginning with a letter).")
            continue
        for version in sorted(model.iterdir(), key=lambda path: (len(path.name), path.name)):
            if version.name.startswith((".", "__")) or not version.is_dir():
                continue
            if not _VERSION.fullmatch(version.name):
                ignored.append(f"{model.name}/{version.name}: not a version (a whole number from 1).")
                continue
            found.append(Found(model.name, int(version.name), version, *_stamp(version)))
    return Listing(tuple(found), tuple(ignored))


def _stamp(folder: Path) -> tuple[tuple[tuple[int, int, int], ...], int]:
    stamps: list[tuple[int, int, int]] = []
    changed_ns = 0
    for name in (MODEL_FILE, DESCRIPTION_FILE):
        try:
            status = (folder / name).stat()
        except OSError:
            return (), 0
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
        changed_ns = max(changed_ns, status.st_ctime_ns)
    return tuple(stamps), changed_ns


def load(found: Found) -> Package:
    """Reads a version's two files. Raises ModelError when one is missing, unreadable, too large, or lies outside the folder."""
    label = f"{found.name}/{found.version}"
    contents: list[bytes] = []
    for name, limit in ((MODEL_FILE, limits.MODEL_BYTES), (DESCRIPTION_FILE, DESCRIPTION_BYTES)):
        path = found.folder / name
        try:
            if path.resolve().parent != found.folder.resolve():
                raise ModelError(label, f"{name} is a link to a file outside the version's folder",
                                 "Copy the file itself there.")
            size = path.stat().st_size
            if size > limit:
                raise ModelError(label, f"{name} has {size} bytes; the limit is {limit}", "Deploy a smaller one.")
            contents.append(path.read_bytes())
        except FileNotFoundError:
            raise ModelError(label, f"{name} is missing", f"A version's folder holds {MODEL_FILE} and {DESCRIPTION_FILE}."
                             ) from None
        except OSError as error:
            raise ModelError(label, f"{name} cannot be read: {error.strerror}") from error
    return package(found.name, found.version, contents[0], contents[1], f"{label}/{DESCRIPTION_FILE}")
