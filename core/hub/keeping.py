"""Backup, restore and compaction: whole stores copied, proven, and moved into place by one rename.

A backup is taken by a process of its own that reads beside the server: LMDB gives it a snapshot, so the server neither
waits nor knows, and a fault in the copier cannot reach it. While the snapshot is held, pages freed since are not reused, so
the store's file may grow by what is written meanwhile. A backup holds a complete data.mdb and backup.json, which is
written last and under a name that only a finished backup gets.

Compaction is offline: it holds rapport.lock, copies into the folder `making`, and exchanges the file. LMDB's lock.mdb
knows the number of the last transaction, which a new file does not continue, so it goes with the old file; no process can
open between the two steps, because opening takes a shared lock on the folder. A process that reads meanwhile keeps the
old file until it closes. Killed anywhere, a store is wholly the old or wholly the new one. Then the journal is rid of those
erased (core/hub/replaying.py).

A restore with a journal does again what came after the backup. Who was erased since the backup, as far as the journal or a
named store knows, is taken out of what is restored. The result goes its own way from there: it gets a journal of its own,
which begins with it, and none of the old one's numbers are taken for its own (`core.hub.journal.lineage_of`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from core import limits
from core.durable import sync_folder, write_file
from core.errors import BackupRefused, RestoreRefused, StoreCorrupt, StoreFull, StoreUnavailable
from core.hub import journal, replaying
from core.hub.copying import copy
from core.hub.environment import Environment, open_environment
from core.hub.opening import FORMAT_VERSION, OLDEST_FORMAT

MANIFEST = "backup.json"
# In the store's folder: which backups were taken of it, for its watch and for `rapport store status`.
TAKEN = "backups.json"
TAKEN_KEPT = 100
PART = ".part"
# In the folder a restore writes into, held while it runs: what is left with it by one that was killed may be removed.
RESTORING = "restoring"
# What a backup that was cut off leaves, and nothing else may be removed: the folder is the user's.
_LEFT = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]+" + re.escape(PART))
_OURS = frozenset({"data.mdb", "lock.mdb", "rapport.lock", MANIFEST, RESTORING})
_CHUNK = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_BACKUP = "no backup was made"
_RAISE = "raise the limit (ulimit -f)."

Progress = Callable[[int], object]


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What backup.json says. ``seq`` is the last mutation in it, ``at`` when it was taken (ISO, UTC)."""

    format: int
    seq: int
    at: str
    bytes: int
    sha256: str
    entries: int

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.at)  # what is no time is refused where the file is read


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was taken of a store: when, up to which change, and where it was put."""

    at: str
    seq: int
    folder: str

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.at)  # as of a backup: a list that somebody wrote in must not end the watch

    @property
    def at_us(self) -> int:
        """When, in microseconds."""
        return _microseconds(self.at)


def _microseconds(at: str) -> int:
    return (datetime.fromisoformat(at) - _EPOCH) // timedelta(microseconds=1)


def taken(store: str) -> tuple[list[Taken], list[str]]:
    """The backups taken of a store that are known and there, oldest first; and of each that cannot be used, where and why.

    One that was moved or removed is in neither: it may be kept elsewhere.
    """
    try:
        listed = _listed(store)
    except (OSError, msgspec.DecodeError) as error:
        return [], [f"{Path(store, TAKEN)} cannot be read: {_why(error)}"]
    usable, unusable = [], []
    for each in listed:
        try:
            manifest = _manifest(Path(each.folder))
        except RestoreRefused as refused:
            unusable.append(f"{each.folder}: {refused.metadata['problem']}")
            continue
        if manifest.seq != each.seq:
            unusable.append(f"{each.folder}: {MANIFEST} says change {manifest.seq}, and it was taken at change {each.seq}")
        else:
            usable.append(each)
    return usable, unusable


def _listed(store: str) -> list[Taken]:
    """What is noted of backups that were not moved or removed. Raises what reading the list fails with."""
    try:
        listed = msgspec.json.decode(Path(store, TAKEN).read_bytes(), type=list[Taken])
    except FileNotFoundError:
        return []
    return [each for each in listed if not _gone(Path(each.folder, MANIFEST))]


def _gone(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        # It may be there: whoever may not look must not say that it is not.
        return False
    return False


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def backup(store: str, into: str, *, now_us: int, progress: Progress | None = None) -> tuple[Path, Backup]:
    """Copy the store folder ``store`` as of now into a new folder under ``into``, which is made where its parent exists.

    ``now_us`` is the clock at the call. Works beside a server that serves it. Returns the backup's folder and its manifest, once
    all of it is durable and was read back. Leftovers of backups that were cut off are removed, and one that fails leaves none.
    Raises BackupRefused, StoreUnavailable, StoreCorrupt, StoreFull.
    """
    begun = time.monotonic_ns()
    require(store)
    target = Path(into)
    source = Path(store).resolve()
    with _failing(BackupRefused, into, _NO_BACKUP):
        _refuse_inside(BackupRefused, target)
        if not target.is_dir():
            if target.exists() or target.is_symlink():
                raise BackupRefused(into, "it is not a folder", "Name a folder: each backup gets one of its own in it.")
            _refuse_parent(BackupRefused, target)
            target.mkdir(mode=0o700)
            # Without it a power cut may take the folder with every backup in it.
            sync_folder(target.absolute().parent)
    with _failing(BackupRefused, into, _NO_BACKUP), _alone(target):
        for left in target.glob(f"*{PART}"):
            if _LEFT.fullmatch(left.name) and _strange(left) is None:
                shutil.rmtree(left, ignore_errors=True)
        environment = open_environment(store, read_only=True)
        try:
            # A backup that was killed left its slot, for which the server would keep every page freed since.
            environment.clear_readers()
            with environment.reader() as reader:
                seq = msgspec.msgpack.decode(reader.get("meta", b"applied") or b"\x00", type=int)
                # Whatever was committed until here is in it, so a restore to any moment before is refused.
                taken = _EPOCH + timedelta(microseconds=now_us + (time.monotonic_ns() - begun) // 1000)
                name = f"{taken:%Y%m%dT%H%M%SZ}-{seq}"
                part = target / (name + PART)
                if (target / name).exists():
                    raise BackupRefused(str(target / name), "this state was saved a moment ago", "Use that backup.")
                if os.path.lexists(part):
                    raise BackupRefused(str(part), "it is in the way, and not what a backup leaves", "Move it away.")
                # Whatever ends it, a copy that nobody can use would keep the disk full.
                with _removing(part):
                    entries = copy(reader, str(part), progress)
        finally:
            environment.close()
        with _removing(part):
            _prove(part)
            file = part / "data.mdb"
            manifest = Backup(
                format=FORMAT_VERSION, seq=seq, at=f"{taken:%Y-%m-%dT%H:%M:%S.%fZ}", bytes=file.stat().st_size,
                sha256=_digest(file), entries=entries,
            )
            write_file(part / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
            sync_folder(part)
            part.rename(target / name)
            sync_folder(target)
    _note(source, Taken(at=manifest.at, seq=seq, folder=str((target / name).absolute())))
    return target / name, manifest


def _note(store: Path, new: Taken) -> None:
    """Note a backup beside its store. The backup counts without: where the folder cannot be written, only the watch misses it."""
    part = store / (TAKEN + PART)
    try:
        known = _listed(str(store))
    except (OSError, msgspec.DecodeError):
        known = []
    with contextlib.suppress(OSError):
        try:
            write_file(part, msgspec.json.format(msgspec.json.encode([*known, new][-TAKEN_KEPT:])) + b"\n")
            part.rename(store / TAKEN)
        finally:
            part.unlink(missing_ok=True)


def restore(
    saved: str,
    into: str,
    *,
    journal_folder: str = "",
    until_seq: int | None = None,
    until_us: int | None = None,
    accept_cut: bool = False,
    erasures: str = "",
    progress: Progress | None = None,
) -> tuple[Backup, replaying.Reached]:
    """Make a store folder ``into``, which must not exist or be empty, from a backup's folder; its manifest, and what was reached.

    With ``journal_folder`` the changes since the backup are done again, up to and with change ``until_seq``, or the last one
    not after ``until_us``, or all; ``accept_cut`` takes a journal whose end is not whole for one that ends there. Erasures that
    the journal or the store folder ``erasures`` know of are applied again.
    The bytes are compared with the manifest's digest and read through before the folder gets its name. Raises
    RestoreRefused with what to do.
    """
    source, target = Path(saved), Path(into)
    manifest = _manifest(source)
    again = _erased(erasures) if erasures else []
    part = target.absolute().with_name(target.name + PART)
    with _failing(RestoreRefused, into, "nothing was restored"), _restoring(part, target):
        digest = _copied(source / "data.mdb", part / "data.mdb")
        if digest != manifest.sha256:
            raise RestoreRefused(saved, "data.mdb is not what was saved: its SHA-256 differs from backup.json's",
                                 "Use another backup; this one was changed or damaged.")
        reached = _forward(saved, part, manifest, journal_folder, until_seq, until_us, accept_cut, again, progress)
        _prove(part)
        sync_folder(part)
        part.rename(target)
        (target / RESTORING).unlink()
        sync_folder(target)
        sync_folder(target.absolute().parent)
    return manifest, reached


def _erased(store: str) -> list[replaying.Erased]:
    """The erasures that are known to the store which a restore replaces."""
    try:
        known = open_environment(store, read_only=True)
    except StoreUnavailable as error:
        raise RestoreRefused(
            store, error.metadata["problem"], "Name the folder of the store that this one replaces: --erasures STORE.") from error
    try:
        return replaying.erased(known)
    finally:
        known.close()


def _free(target: Path) -> None:
    """Raise unless a restore may make its folder there."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise RestoreRefused(str(target), "it is not a folder", "Name a new folder.")
    if target.exists() and any(target.iterdir()):
        raise RestoreRefused(
            str(target), "there is something in it already",
            "Name a new folder; point store.path at it, or move the old folder away first, with the server stopped.")
    _refuse_inside(RestoreRefused, target)
    _refuse_parent(RestoreRefused, target)


def _refuse_inside(refused: type[BackupRefused | RestoreRefused], target: Path) -> None:
    """Raise for a place in a store or in a backup: whoever removes or moves that one takes it along."""
    for folder in (target.resolve(), *target.resolve().parents):
        if os.path.exists(folder / "data.mdb"):
            kind = "backup" if os.path.exists(folder / MANIFEST) else "store"
            raise refused(str(target), f"it is inside the {kind} {folder}", "Name a folder elsewhere, on another disk.")


def _refuse_parent(refused: type[BackupRefused | RestoreRefused], target: Path) -> None:
    """Raise unless a folder can be made there as far as what it would stand in goes."""
    parent = target.absolute().parent
    if not parent.exists():
        raise refused(str(target), f"the folder {parent} does not exist", "Create it first.")
    if not parent.is_dir():
        raise refused(str(target), f"{parent} is not a folder", "Name a folder in one.")


@contextlib.contextmanager
def _restoring(part: Path, target: Path) -> Iterator[None]:
    """Have the folder that a restore writes into, empty and alone; it is gone again whatever ends the restore.

    Its file `RESTORING` is held with flock: one that nobody holds was left by a restore that was killed.
    """
    running = RestoreRefused(str(target), "another restore into it is running", "Wait for it, or name another folder.")

    def in_the_way(why: str) -> RestoreRefused:
        return RestoreRefused(str(target), f"{part} is in the way: {why}", "Move it away, or restore into another folder.")

    _free(target)
    with contextlib.suppress(FileExistsError):
        part.mkdir(mode=0o700)
    try:
        if part.is_symlink():
            raise in_the_way("it is a link")
        # Asked twice: another restore may have moved it into place between the first two questions.
        if any(part.iterdir()) and not (part / RESTORING).exists() and any(part.iterdir()):
            raise in_the_way(_strange(part) or "it holds a store's files, which no restore left there")
        descriptor = os.open(part / RESTORING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except NotADirectoryError:
        raise in_the_way("it is not a folder") from None
    except FileNotFoundError:
        raise running from None  # it has moved its folder into place this moment
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), (part / RESTORING).stat()):
                raise running
        except (BlockingIOError, FileNotFoundError):
            raise running from None
        # Only now: while another is at it, its files come and go.
        strange = _strange(part)
        if strange is not None:
            raise in_the_way(strange)
        with _removing(part):
            for left in part.iterdir():
                if left.name != RESTORING:
                    left.unlink()
            _free(target)
            yield
    finally:
        os.close(descriptor)


def _strange(part: Path) -> str | None:
    """What of a folder is not what a backup or restore that was cut off leaves; None when nothing is."""
    if part.is_symlink() or not part.is_dir():
        return "it is not a folder"
    for each in sorted(part.iterdir()):
        if each.name not in _OURS or each.is_symlink() or not each.is_file():
            return f"it holds '{each.name}'"
    return None


@contextlib.contextmanager
def _removing(part: Path) -> Iterator[None]:
    """Remove a folder that is not finished, whatever ends its making."""
    try:
        yield
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def require(store: str) -> None:
    """Raise unless a store's folder is there that may be worked on: a writing open would make one."""
    refuse_lost(store)
    if _gone(Path(store)):
        raise StoreUnavailable(store, "there is no such folder", "Check store.path.")
    if os.path.isdir(store) and _gone(Path(store, "data.mdb")):
        raise StoreUnavailable(store, "there is no store in it", "Check store.path, or start the server once.")


def refuse_lost(store: str) -> None:
    """Raise StoreCorrupt where what lies beside a store is there and its data.mdb is not: a new one would be empty."""
    beside = next((name for name in (journal.FOLDER, TAKEN) if not _gone(Path(store, name))), "")
    if not beside or not _gone(Path(store, "data.mdb")):
        return
    usable, _ = taken(store)
    saved = usable[-1].folder if usable else "BACKUP"
    kept = f" --journal {Path(store, journal.FOLDER)}" if journal.files(Path(store, journal.FOLDER)) else ""
    raise StoreCorrupt(
        f"The store at {store}", f"data.mdb is missing, and {beside} beside it says that there was one",
        f"Put data.mdb back, or restore: rapport store restore {saved} --into NEW{kept}")


def refuse_backup(store: str) -> None:
    """Raise StoreUnavailable for the folder of a backup: written to, it would be what was saved no more."""
    if Path(store, MANIFEST).is_file():
        raise StoreUnavailable(
            store, f"it is a backup (it holds {MANIFEST}), and writing to it would spoil it",
            f"Make a store of it: rapport store restore {store} --into NEW.")


def _forward(
    saved: str,
    part: Path,
    manifest: Backup,
    journal_folder: str,
    until_seq: int | None,
    until_us: int | None,
    accept_cut: bool,
    again: list[replaying.Erased],
    progress: Progress | None,
) -> replaying.Reached:
    """Bring a restored copy to the moment asked for, without those who were erased since."""
    taken_us = _microseconds(manifest.at)
    environment = open_environment(str(part))
    try:
        with environment.reader() as reader:
            applied = journal.applied_of(reader)
        if applied != manifest.seq:
            raise RestoreRefused(saved, f"{MANIFEST} says change {manifest.seq}, and its data is at change {applied}",
                                 "Use another backup; this one was changed.")
        if journal_folder:
            reached, later = replaying.replay(
                environment, Path(journal_folder), saved=Path(saved), taken_us=taken_us, until_seq=until_seq, until_us=until_us,
                accept_cut=accept_cut, progress=progress)
            again = again + later
        else:
            reached = replaying.Reached(manifest.seq, taken_us, 0)
        taken_again = replaying.finish(environment, again, lineage=secrets.token_bytes(16), now_us=time.time_ns() // 1000)
    finally:
        environment.close()
        for name in ("lock.mdb", "rapport.lock"):
            (part / name).unlink(missing_ok=True)
    return replaying.Reached(reached.seq, reached.at_us, taken_again, reached.note)


def compact(store: str, *, map_bytes: int = limits.MAP_BYTES, progress: Progress | None = None) -> tuple[int, int, str]:
    """Rewrite the store so that its files hold what is live and nothing else; its bytes before and after.

    What the journal holds of erased customers is left out of it; the text says why it had to begin anew instead, mostly it is
    empty. Needs the store to itself (stop the server) and room for a second copy. Raises StoreUnavailable while a server has it
    open, StoreCorrupt where a record is damaged (nothing is changed then), StoreFull.
    """
    require(store)
    refuse_backup(store)
    environment = open_environment(store, map_bytes=map_bytes)
    making = Path(store, "making")
    file = Path(store, "data.mdb")
    try:
        kept = journal.files(Path(store, journal.FOLDER))
        if kept:
            # Brings store and journal in step, and ends a write that was cut off.
            journal.Journal.open(environment, keep_seconds=limits.JOURNAL_SECONDS, keep_bytes=limits.JOURNAL_BYTES).close()
        before = file.stat().st_size
        with _failing(StoreUnavailable, store, "the store is as it was"):
            with environment.reader() as reader:
                copy(reader, str(making), progress)
            with _alone(Path(store), wait=True):
                Path(store, "lock.mdb").unlink(missing_ok=True)
                (making / "data.mdb").rename(file)
                sync_folder(Path(store))
            anew = replaying.blank(environment) if kept else ""
        return before, file.stat().st_size, anew
    finally:
        environment.close()
        shutil.rmtree(making, ignore_errors=True)


@contextlib.contextmanager
def _failing(
    refused: type[BackupRefused | RestoreRefused | StoreUnavailable], path: str, undone: str
) -> Iterator[None]:
    """What the system says about files, and a full disk, as what a backup, a restore or a compaction says of its place."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or path)
        if error.errno == errno.EFBIG:
            raise StoreFull("file", f"This process may not write {where} so large: {_RAISE}", undone) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("disk", f"Free space on the disk that holds {where}, and do it again.", undone) from error
        hint = "Look at the path, and for disk errors in the system's log."
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "Let the user who runs this read and write there, or name another folder."
        elif error.errno == errno.EROFS:
            hint = "Its file system is read-only: name another folder."
        raise refused(where, _why(error), hint) from error
    except StoreFull as error:
        what = error.metadata["what"]
        if what == "disk":
            raise StoreFull(what, f"Free space on the disk that holds {path}, and do it again.", undone) from error
        if what == "store's file":
            raise StoreFull("file", f"This process may not write it so large: {_RAISE}", undone) from error
        raise


@contextlib.contextmanager
def _alone(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the folder's own lock: one backup into it at a time, and nobody opens a store in it meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise BackupRefused(str(folder), "another backup into it is running", "Wait for it, or name another folder.") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _manifest(folder: Path) -> Backup:
    other = "Use another backup."
    try:
        if not folder.is_dir():
            raise RestoreRefused(
                str(folder), "there is no such folder", "Name one of the folders that rapport store backup made.")
        if folder.name.endswith(PART):
            raise RestoreRefused(str(folder), "this backup was cut off", "Use a folder without .part in its name.")
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Backup)
        there = (folder / "data.mdb").is_file()
    except FileNotFoundError:
        raise RestoreRefused(str(folder), f"it holds no {MANIFEST}",
                             "Name the folder of one backup: FOLDER/<time>-<number>.") from None
    except PermissionError as error:
        raise RestoreRefused(str(folder), f"it cannot be read: {_why(error)}",
                             "Let the user who runs this read the folder and its files.") from error
    except (OSError, msgspec.DecodeError) as error:
        raise RestoreRefused(str(folder), f"{MANIFEST} cannot be read: {_why(error)}", other) from error
    if not OLDEST_FORMAT <= manifest.format <= FORMAT_VERSION:
        raise RestoreRefused(
            str(folder), f"its format is {manifest.format}; this Rapport reads formats {OLDEST_FORMAT} to {FORMAT_VERSION}",
            "Restore it with the release that made it.")
    if not there:
        raise RestoreRefused(str(folder), "its data.mdb is missing", other)
    return manifest


def _prove(folder: Path) -> None:
    """Open what was written and read it through; nothing of that stays in the folder."""
    environment: Environment = open_environment(str(folder), read_only=True)
    try:
        environment.verify()
    finally:
        environment.close()
        (folder / "lock.mdb").unlink(missing_ok=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _copied(source: Path, target: Path) -> str:
    """Copy a file durably; the digest of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    target.chmod(0o600)
    return digest.hexdigest()
