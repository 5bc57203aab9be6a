"""What a disk may hold after its power went, made from the trace that tests/native/faultdisk.c keeps.

The model is the strict one of the standard: a file's bytes are sure after its fsync, or at once where its descriptor is
O_DSYNC; a name is sure after the fsync of its folder. Everything else may be there or not, page by page and name by name, in
any combination. File systems promise more; a store that is right here is right on them.
"""

from __future__ import annotations

import copy
import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096  # what a page cache writes at once
SECTOR = 512  # what a disk writes whole


@dataclass(frozen=True, slots=True)
class Call:
    """One record of a trace. ``name``: write, length, allocate, sync, create, mkdir, rename, unlink, ack."""

    name: str
    synchronous: bool
    offset: int
    length: int
    path: str
    to: str
    data: bytes


def calls(trace: Path) -> Iterator[Call]:
    """The trace's records in their order."""
    raw = trace.read_bytes()
    place = 0
    while place < len(raw):
        end = raw.index(b"\n", place)
        name, flag, offset, length, where = raw[place:end].decode().split(" ", 4)
        place = end + 1
        path, _, to = where.partition(" -> ")
        data = raw[place:place + int(length)] if name in ("write", "ack") else b""
        place += len(data)
        yield Call(name, flag == "d", int(offset), int(length), path, to, data)


class Kept(enum.Enum):
    """What of the unsure is still there."""

    ALL = "all"
    NONE = "none"
    HALF = "half"
    TORN = "torn"  # all, and of the write that was under way the first sectors


@dataclass(slots=True)
class File:
    """A file as programs see it, and as it is sure to be."""

    seen: bytearray = field(default_factory=bytearray)
    sure: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)  # pages in which they differ

    def write(self, offset: int, data: bytes, synchronous: bool) -> None:
        _put(self.seen, offset, data)
        pages = range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1)
        self.dirty.update(pages)
        if synchronous:
            for page in pages:
                self._settle(page)
            self.dirty.difference_update(pages)

    def resize(self, length: int) -> None:
        del self.seen[length:]
        self.seen.extend(bytes(length - len(self.seen)))

    def sync(self) -> None:
        self.sure = bytearray(self.seen)
        self.dirty.clear()

    def left(self, kept: Kept, chance: random.Random) -> bytes:
        if kept is Kept.NONE:
            return bytes(self.sure)
        if kept is not Kept.HALF:
            return bytes(self.seen)
        found = bytearray(self.sure)
        for page in sorted(self.dirty):
            if chance.random() < 0.5:
                _put(found, page * PAGE, bytes(self.seen[page * PAGE:(page + 1) * PAGE]))
        # Its length is of the file's own record, which may have been written or not.
        if chance.random() < 0.5:
            del found[len(self.seen):]
            found.extend(bytes(max(len(self.seen) - len(found), 0)))
        return bytes(found)

    def _settle(self, page: int) -> None:
        _put(self.sure, page * PAGE, bytes(self.seen[page * PAGE:(page + 1) * PAGE]))


def _put(into: bytearray, offset: int, data: bytes) -> None:
    if data and len(into) < offset:
        into.extend(bytes(offset - len(into)))
    into[offset:offset + len(data)] = data


Folder = dict[str, int]  # name -> node


@dataclass(frozen=True, slots=True)
class _Naming:
    """A change of names that is not sure yet: in which folders, what goes and what comes."""

    gone: tuple[tuple[int, str], ...]
    come: tuple[tuple[int, str, int], ...]

    def touches(self, folder: int) -> bool:
        return any(where == folder for where, _ in self.gone) or any(where == folder for where, _, _ in self.come)

    def do(self, folders: dict[int, Folder]) -> None:
        for where, name in self.gone:
            folders[where].pop(name, None)
        for where, name, node in self.come:
            folders[where][name] = node


class Disk:
    """A disk below one folder, told of each call in turn."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.files: dict[int, File] = {}
        self._now: dict[int, Folder] = {0: {}}
        self._sure: dict[int, Folder] = {0: {}}
        self._unsure: list[_Naming] = []
        self._next = 1

    def do(self, call: Call) -> None:
        """Do what the call did."""
        match call.name:
            case "create" | "mkdir":
                node = self._next
                self._next += 1
                if call.name == "create":
                    self.files[node] = File()
                else:
                    self._now[node] = {}
                    self._sure[node] = {}
                folder, name = self._place(call.path)
                self._name(_Naming((), ((folder, name, node),)))
            case "rename":
                old, new = self._place(call.path), self._place(call.to)
                self._name(_Naming((old,), ((*new, self._now[old[0]][old[1]]),)))
            case "unlink":
                self._name(_Naming((self._place(call.path),), ()))
            case "write":
                self.files[self._node(call.path)].write(call.offset, call.data, call.synchronous)
            case "length":
                self.files[self._node(call.path)].resize(call.length)
            case "allocate":
                file = self.files[self._node(call.path)]
                file.resize(max(len(file.seen), call.offset + call.length))
            case "sync":
                self._sync(self._node(call.path))

    def left(self, into: Path, kept: Kept, chance: random.Random, under_way: Call | None = None) -> None:
        """Write what is left to a new folder; ``under_way`` is the call that the cut met."""
        folders, torn = self._sure, None
        if kept is not Kept.NONE:
            folders = copy.deepcopy(self._sure)
            for naming in self._unsure:
                if kept is not Kept.HALF or chance.random() < 0.5:
                    naming.do(folders)
        if kept is Kept.TORN and under_way is not None and under_way.name == "write":
            whole = len(under_way.data) // SECTOR
            torn = (self._node(under_way.path), under_way.offset, under_way.data[:SECTOR * chance.randrange(whole + 1)])
        self._build(into, folders, 0, kept, chance, torn)

    def _build(
        self, into: Path, folders: dict[int, Folder], node: int, kept: Kept, chance: random.Random,
        torn: tuple[int, int, bytes] | None,
    ) -> None:
        into.mkdir()
        for name, child in sorted(folders[node].items()):
            if child in folders:
                self._build(into / name, folders, child, kept, chance, torn)
                continue
            data = self.files[child].left(kept, chance)
            if torn is not None and torn[0] == child:
                changed = bytearray(data)
                _put(changed, torn[1], torn[2])
                data = bytes(changed)
            (into / name).write_bytes(data)

    def _name(self, naming: _Naming) -> None:
        naming.do(self._now)
        self._unsure.append(naming)

    def _sync(self, node: int) -> None:
        if node not in self._now:
            self.files[node].sync()
            return
        for naming in self._unsure:
            if naming.touches(node):
                naming.do(self._sure)
        self._unsure = [naming for naming in self._unsure if not naming.touches(node)]

    def _place(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self._node(folder), name

    def _node(self, path: str) -> int:
        node = 0
        for name in filter(None, path.removeprefix(self._root).split("/")):
            node = self._now[node][name]
        return node
