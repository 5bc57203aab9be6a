"""The journal: what each commit changed, in files beside data.mdb, durable before the commit is acknowledged.

A frame a commit holds what its mutations put and deleted (core/hub/transaction.pxd has the layout), so a backup and the
frames since make the store as it was at any mutation in between: `replay`. Effects are kept and not messages, because
a later release may understand a message otherwise, and because an effect is about one customer: an erasure can take his and
leave everybody else's (`blank`).

The order is journal, data.mdb, acknowledgement. The journal's sync therefore makes a commit durable, and LMDB need not sync
the page that names its newest transaction: the next commit's sync does, so a power cut undoes one at most, and the next
writing open does it again from the journal (`recover`). A commit costs two syncs, with the journal as without. Where
LMDB refuses a batch whose frame is written, the frame is taken back before anybody is told.

Files are named by their first mutation and hold up to `SEGMENT_BYTES`; the oldest are removed when they are older than the
journal is to be kept, or when it is larger. A file is filled with zeros ahead of what is written, so that a sync seldom
has to note a new length. A tail that is not whole was never acknowledged, and is zeroed by the next open.

`lineage` says which history the numbers count: a store that was restored goes its own way, so it gets a new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from core.durable import sync_folder
from core.errors import StoreCorrupt, StoreFull, StoreReadOnly, StoreUnavailable
from core.hub import erasing, redo
from core.hub.environment import DATABASES, Environment, Reader
from core.hub.lmdb import error_of
from core.hub.transaction import Transaction

FOLDER: Final = "journal"
SUFFIX: Final = ".journal"
SEGMENT_BYTES: Final = 64 << 20
SEGMENT_SECONDS: Final = 86_400  # a quiet store's file ends after a day, so that it can be removed when it is old
FILL_BYTES: Final = 256 << 10
# What is done again at open: the commit that LMDB may have lost and the one that was not acknowledged.
RECOVERED_FRAMES: Final = 2
LINEAGE: Final = b"lineage"

ANOTHERS: Final = "it is the journal of another store, or from before a restore"

_MAGIC: Final = b"RAPJRNL1"
# Magic, CRC-32 of the rest, bytes of the head, first, made_us, flags, lineage, bytes of the names behind it.
_HEAD: Final = struct.Struct("<8sIIQqI16sI")
_HEAD_MOST: Final = 4096
_BEGINS: Final = 1  # nothing before this file leads up to it


@dataclass(frozen=True, slots=True)
class Segment:
    """One file: the number of its first mutation, when it was made, and the databases' names by their place in changes.

    ``begins`` says that what is before it does not lead up to it: the journal was off, lost or begun anew.
    """

    path: Path
    lineage: bytes
    first: int
    made_us: int
    begins: bool
    names: tuple[str, ...]
    head_bytes: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A commit in a segment."""

    at: int
    size: int
    first: int
    last: int
    committed_us: int


@dataclass(frozen=True, slots=True)
class Extent:
    """What a journal reaches: from ``first``, made after ``from_us``, to ``last``; its bytes."""

    first: int
    from_us: int
    last: int
    bytes: int


def lineage_of(reader: Reader) -> bytes:
    """Which history the store's numbers count: its own since it was restored, else that of the store made with its key."""
    own = reader.get("meta", LINEAGE)
    if own is not None:
        return own
    return hashlib.sha256(b"lineage" + (reader.get("meta", b"signing_key") or b"")).digest()[:16]


def applied_of(reader: Reader) -> int:
    """Number of the last mutation in the store."""
    return msgspec.msgpack.decode(reader.get("meta", b"applied") or b"\x00", type=int)


def _segment(path: Path, data: bytes) -> Segment | None:
    """What a file's head says; None when it is damaged or was never finished."""
    if len(data) < _HEAD.size:
        return None
    magic, checksum, head_bytes, first, made_us, flags, lineage, names = _HEAD.unpack(data[: _HEAD.size])
    if magic != _MAGIC or not _HEAD.size <= head_bytes <= len(data) or head_bytes < _HEAD.size + names:
        return None
    if zlib.crc32(data[12:head_bytes]) != checksum:
        return None
    listed = bytes(data[_HEAD.size : _HEAD.size + names]).decode().split("\n")
    return Segment(path, lineage, first, made_us, bool(flags & _BEGINS), tuple(listed), head_bytes)


def head(first: int, made_us: int, begins: bool, lineage: bytes) -> bytes:
    """The head of a file whose changes are those of this release's databases."""
    names = "\n".join(DATABASES).encode()
    head_bytes = -(-(_HEAD.size + len(names)) // 64) * 64
    rest = _HEAD.pack(_MAGIC, 0, head_bytes, first, made_us, _BEGINS if begins else 0, lineage, len(names)) + names
    rest = rest.ljust(head_bytes, b"\0")
    return rest[:8] + struct.pack("<I", zlib.crc32(rest[12:])) + rest[12:]


def _contents(path: Path) -> bytes:
    """The file's bytes; none when it was trimmed meanwhile. Read and not mapped: its writer may cut it beside us."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _head_of(path: Path) -> Segment | None:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        return _segment(path, file.read(_HEAD_MOST))
    return None


def _frames(data: bytes, at: int) -> Iterator[Frame]:
    """The whole frames from ``at`` on, up to the first place where there is none."""
    last = 0
    while (found := redo.frame(data, at)) is not None:
        frame = Frame(at, *found)
        if last and frame.first != last + 1:
            return
        last = frame.last
        yield frame
        at += frame.size


def files(folder: Path) -> list[Path]:
    """The journal's files, oldest first; none where there is no such folder. Raises OSError: what cannot be read may be there."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _first_of(path: Path) -> int:
    return int(path.name.removesuffix(SUFFIX)) if path.name.removesuffix(SUFFIX).isdigit() else 0


class Journal:
    """The journal of a store that is open for writing; for the committer's thread. Made by `Journal.open`.

    ``gap`` says why what was there before does not lead up to what is written now, '' when it does.
    """

    def __init__(self, folder: Path, lineage: bytes, keep_seconds: int, keep_bytes: int) -> None:
        self.folder = folder
        self.gap = ""
        self._lineage = lineage
        self._keep_seconds = keep_seconds
        self._keep_bytes = keep_bytes
        self._file = -1
        self._path = folder
        self._written: tuple[Path, os.stat_result] | None = None  # the file written to, as it was opened; replaced, never altered
        self._made_us = 0
        self._end = self._filled = 0  # bytes in use, and bytes written as frames or zeros
        self._frames = 0  # in the file written to
        self._last = 0  # number of the last mutation in it
        self._last_us = 0
        self._before: tuple[int, int, int] | None = None  # end, last and frames before the newest frame

    @classmethod
    def open(cls, environment: Environment, *, keep_seconds: int, keep_bytes: int) -> Journal:
        """The journal beside the store, brought in step with it: what is missing in the store is done again first.

        Raises StoreUnavailable when the journal is another store's, or so far ahead that data.mdb must have been exchanged.
        """
        with environment.reader() as reader:
            lineage = lineage_of(reader)
        folder = Path(environment.path, FOLDER)
        journal = cls(folder, lineage, keep_seconds, keep_bytes)
        if os.path.lexists(folder) and not folder.is_dir():
            raise StoreUnavailable(
                environment.path, f"{folder} is not a folder", "Move it away: the journal of changes is a folder of that name.")
        with _opening(folder):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                # Without it a power cut may take the folder with every change in it.
                sync_folder(folder.parent)
            end = recover(environment)
            with environment.reader() as reader:
                applied = applied_of(reader)
            journal._continue(applied, end)
        return journal

    def _continue(self, applied: int, end: _End | None) -> None:
        """Write on where the newest file ends, if that is where the store is; else in a new one."""
        segment = end.segment if end is not None else None
        if end is not None and segment is not None and end.last == applied and segment.names == DATABASES:
            self._file = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
            self._path, self._made_us = segment.path, segment.made_us
            self._written = segment.path, os.fstat(self._file)
            self._end = self._filled = end.at
            self._frames, self._last, self._last_us = end.frames, end.last, end.last_us
            self._clean()
            return
        led_up = end is None or end.last == applied
        if not led_up:
            assert end is not None
            self.gap = f"its changes {end.last + 1} to {applied} are missing"
        self._last = applied
        self._begin(applied + 1, begins=end is None or not led_up)

    def _clean(self) -> None:
        """Zero what a write that was cut off left behind the end; what is there was never acknowledged."""
        size = os.fstat(self._file).st_size
        at = self._end
        while at < size:
            chunk = os.pread(self._file, min(FILL_BYTES, size - at), at)
            if chunk.count(0) != len(chunk):
                os.ftruncate(self._file, self._end)
                os.fsync(self._file)
                return
            at += len(chunk)
        self._filled = size

    def _begin(self, first: int, *, begins: bool) -> None:
        """Make the file for the mutations from ``first`` on."""
        path = self.folder / f"{first:020}{SUFFIX}"
        made_us = time.time_ns() // 1000
        written = head(first, made_us, begins, self._lineage)
        part = path.with_name(path.name + ".part")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, written, 0)
            os.fsync(descriptor)
            part.rename(path)
            sync_folder(self.folder)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        if self._file >= 0:
            # The zeros ahead are of no more use.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            os.close(self._file)
        self._file, self._path, self._made_us = descriptor, path, made_us
        self._written = path, os.fstat(descriptor)
        self._end = self._filled = len(written)
        self._frames = 0

    @property
    def gone(self) -> bool:
        """Whether the file written to is no longer where it was made: nobody will find what is written. From any thread."""
        if self._written is None:
            return False
        path, was = self._written
        try:
            return not os.path.samestat(was, path.stat())
        except OSError:
            return True

    def append(self, txn: Transaction) -> None:
        """Write what the transaction noted, and sync it. Raises StoreFull, after which the next may be taken; StoreReadOnly."""
        now = time.time_ns() // 1000
        self._last_us = max(now, self._last_us)
        frame, first, last = txn.frame(self._last_us)
        if first != self._last + 1:
            raise StoreCorrupt("The journal", f"change {first} follows change {self._last}")
        try:
            old = now - self._made_us > SEGMENT_SECONDS * 1_000_000
            if self._frames and (self._end >= SEGMENT_BYTES or old):
                self._begin(first, begins=False)
                self.trim(now)
            self._fill(len(frame))
            _write(self._file, frame, self._end)
            os.fdatasync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._cut(self._end)
            raise _failed(error, self.folder) from error
        self._before = (self._end, self._last, self._frames)
        self._end += len(frame)
        self._filled = max(self._filled, self._end)
        self._last = last
        self._frames += 1

    def _fill(self, size: int) -> None:
        """Write zeros ahead, where there is room for them: a sync then need not note the file's new length."""
        if self._end + size <= self._filled or size >= FILL_BYTES:
            return
        try:
            _write(self._file, bytes(FILL_BYTES), self._filled)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            self._cut(self._filled)
            return
        self._filled += FILL_BYTES

    def _cut(self, end: int) -> None:
        os.ftruncate(self._file, end)
        os.fsync(self._file)
        self._filled = end

    def rewind(self) -> None:
        """Take the newest frame back, because the store did not take it: nobody may find it later. Raises StoreReadOnly."""
        if self._before is None:
            return
        self._end, self._last, self._frames = self._before
        self._before = None
        try:
            self._cut(self._end)
        except OSError as error:
            raise _failed(error, self.folder) from error

    def trim(self, now_us: int) -> int:
        """Remove the oldest files that are past what is kept, never the one written to; how many."""
        listed = files(self.folder)
        sizes = {path: path.stat().st_size for path in listed}
        total = sum(sizes.values())
        removed = 0
        for path, following in itertools.pairwise(listed):
            # A file is as old as its newest change, which is not newer than the next file.
            after = _head_of(following)
            old = after is not None and now_us - after.made_us > self._keep_seconds * 1_000_000
            if not old and total <= self._keep_bytes:
                break
            path.unlink()
            total -= sizes[path]
            removed += 1
        if removed:
            sync_folder(self.folder)
        return removed

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _write(descriptor: int, data: bytes | memoryview, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view = view[written:]
        at += written


def _failed(error: OSError, folder: Path) -> Exception:
    if error.errno == errno.EFBIG:
        return StoreFull("journal's file", "Raise the process's limit (ulimit -f) and start again; reads go on meanwhile.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error_of(error.errno, str(folder), True)
    return StoreReadOnly(
        f"{error.filename or folder}: {error.strerror}", "Look for disk errors in the system's log, then start the server again.")


@contextlib.contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """What the system says about the journal's files while the store is opened, as the store's own errors."""
    try:
        yield
    except PermissionError as error:
        raise StoreUnavailable(
            str(folder.parent), f"{error.filename or folder}: {error.strerror}",
            "Let the server's user read and write the folder journal and its files.") from error
    except OSError as error:
        raise _failed(error, folder) from error


@dataclass(frozen=True, slots=True)
class _End:
    """Where a journal ends: in which file (None: no head could be read), at which byte, and with which mutation."""

    segment: Segment | None
    at: int
    frames: int
    last: int
    last_us: int


def recover(environment: Environment) -> _End | None:
    """Do again what the journal holds beyond the store, which a power cut can undo; where the journal ends, None without one.

    Raises StoreUnavailable when it is another store's, or so far ahead that data.mdb must have been exchanged.
    """
    folder = Path(environment.path, FOLDER)
    with _opening(folder):
        return _recovered(environment, folder)


def _recovered(environment: Environment, folder: Path) -> _End | None:
    with environment.reader() as reader:
        applied = applied_of(reader)
        lineage = lineage_of(reader)
    for part in folder.glob("*.part"):
        part.unlink()
    listed = files(folder)
    if not listed:
        return None
    path = listed[-1]
    data = _contents(path)
    segment = _segment(path, data)
    if segment is None:
        return _End(None, 0, 0, _first_of(path) - 1, 0)
    if segment.lineage != lineage:
        raise StoreUnavailable(
            environment.path, f"the files in {folder} are the journal of another store",
            "Move the folder journal away; keep it as long as you may want to restore that store.",
        )
    found = list(_frames(data, segment.head_bytes))
    missing = [frame for frame in found if frame.last > applied]
    if len(missing) > RECOVERED_FRAMES or (missing and missing[0].first > applied + 1):
        raise StoreUnavailable(
            environment.path,
            f"data.mdb is at change {applied} and its journal goes on to change {found[-1].last}, so one of them was exchanged",
            f"To go on from change {applied}, move the folder journal away; "
            f"to get the rest, use rapport store restore BACKUP --journal {folder}.",
        )
    if missing:
        txn, joins = Transaction(environment), erasing.KeptJoins()
        try:
            for frame in missing:
                redo.redo(txn, data, frame.at, segment.names, applied, frame.last, joins)
            txn.commit()
        except BaseException:
            txn.abort()
            raise
        environment.sync()
    if not found:
        return _End(segment, segment.head_bytes, 0, segment.first - 1, segment.made_us)
    last = found[-1]
    return _End(segment, last.at + last.size, len(found), last.last, last.committed_us)


# --- reading a journal ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a journal cannot be read on: the file, the last change before, and what is wrong.

    ``tail`` says that it is at the very end, as a write that was cut off leaves it.
    """

    path: Path
    after: int
    problem: str
    tail: bool = False


class Reading:
    """Walks a journal's frames in order; ``damage`` says, once it has ended, why it ended before the end."""

    def __init__(self, folder: Path, lineage: bytes) -> None:
        self.folder = folder
        self.lineage = lineage
        self.damage: Damage | None = None
        self.last = self.last_us = 0

    def frames(self, after: int) -> Iterator[tuple[Segment, bytes, Frame]]:
        """The frames with changes behind number ``after``."""
        listed = files(self.folder)
        # The last file that begins no later than what is wanted.
        start = max((n for n, path in enumerate(listed) if _first_of(path) <= after + 1), default=0)
        for place, path in enumerate(listed[start:], start):
            data = _contents(path)
            segment = _segment(path, data)
            if segment is None:
                self.damage = Damage(path, self.last or after, "its head is damaged")
                return
            if segment.lineage != self.lineage:
                self.damage = Damage(path, self.last or after, ANOTHERS)
                return
            if place == start:
                self.last = min(segment.first - 1, after)
                if segment.first > after + 1:
                    self.damage = Damage(path, after, f"the journal begins with change {segment.first}")
                    return
                self.last = segment.first - 1
            elif segment.first != self.last + 1:
                self.damage = Damage(path, self.last, f"changes {self.last + 1} to {segment.first - 1} are missing before it")
                return
            at = segment.head_bytes
            for frame in _frames(data, at):
                if frame.first != self.last + 1:
                    break
                at = frame.at + frame.size
                self.last, self.last_us = frame.last, frame.committed_us
                if frame.last > after:
                    yield segment, data, frame
            if data[at:].strip(b"\0"):
                tail = path == listed[-1] and not _frame_behind(data, at)
                self.damage = Damage(path, self.last, f"what follows change {self.last}, at byte {at}, is not whole", tail)
                return


def _frame_behind(data: bytes, at: int) -> bool:
    """Whether a whole frame lies anywhere behind: then what is here was damaged, and not the last write."""
    magic = b"RPJF"
    place = data.find(magic, at + 8)
    while place >= 0:
        if (place - 4) % 8 == 0 and redo.frame(data, place - 4) is not None:
            return True
        place = data.find(magic, place + 1)
    return False


def read(path: Path) -> tuple[Segment | None, bytes, list[Frame], bool]:
    """(head, bytes, whole frames, whether nothing else is in it) of a file."""
    data = _contents(path)
    segment = _segment(path, data)
    if segment is None:
        return None, data, [], False
    frames = list(_frames(data, segment.head_bytes))
    end = frames[-1].at + frames[-1].size if frames else segment.head_bytes
    return segment, data, frames, not data[end:].strip(b"\0")


def extent(folder: Path, *, to_end: bool = True) -> Extent | None:
    """What the journal in a folder reaches without a gap, by its files' heads and its last file; None without one.

    Without ``to_end`` the last file, which may have 64 MiB, is not read, and ``last`` is that of the file before.
    """
    listed = files(folder)
    first = from_us = size = 0
    for path in listed:
        segment = _head_of(path)
        if segment is not None and (segment.begins or not first):
            first, from_us = segment.first, segment.made_us
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    if not first:
        return None
    last = first - 1
    data = _contents(listed[-1]) if to_end else b""
    segment = _segment(listed[-1], data) if to_end else _head_of(listed[-1])
    if segment is not None:
        last = segment.first - 1
        for frame in _frames(data, segment.head_bytes) if to_end else ():
            last = frame.last
    return Extent(first, from_us, last, size)


def committed_us(folder: Path, commits: int) -> int:
    """When the commit was made that so many others followed, as far back as the newest file; 0 without one."""
    listed = files(folder)
    if not listed:
        return 0
    segment, _, frames, _ = read(listed[-1])
    if segment is None:
        return 0
    return frames[-commits].committed_us if commits <= len(frames) else segment.made_us


def faults(folder: Path, applied: int, lineage: bytes) -> Iterator[tuple[Path, str]]:
    """What is wrong with the files of a journal beside a store of this lineage at this change: (file, problem)."""
    last: int | None = None
    try:
        listed = files(folder)
    except OSError as error:
        yield folder, f"it cannot be read: {error.strerror}"
        return
    for path in listed:
        try:
            data = _contents(path)
        except OSError as error:
            yield path, f"it cannot be read: {error.strerror}"
            last = None
            continue
        if not data and not path.exists():
            continue
        segment = _segment(path, data)
        if segment is None:
            yield path, "its head is damaged"
            last = None
            continue
        if segment.lineage != lineage:
            yield path, ANOTHERS
            last = None
            continue
        if last is not None and segment.first != last + 1 and not segment.begins:
            yield path, f"changes {last + 1} to {segment.first - 1} are missing before it"
        last, at = segment.first - 1, segment.head_bytes
        for frame in _frames(data, at):
            at, last = frame.at + frame.size, frame.last
        if data[at:].strip(b"\0") and (path != listed[-1] or _frame_behind(data, at)):
            yield path, f"what follows change {last}, at byte {at}, is not whole"
            last = None
    if last is not None and last < applied:
        yield folder, f"it ends with change {last}, and the store is at {applied}"
