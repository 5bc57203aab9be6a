"""What is done with a journal beside writing it: the store as it was at a moment, and nothing left of whom was erased.

`replay` does the changes again upon a restored backup. Whoever was erased at any time that the journal knows of is
taken out, also where the moment asked for is before: an erasure holds for every copy made from then on.

`blank` leaves out of the journal's files what they hold of erased customers: every change about one of them, every identifier
of his, and what was kept for an undo that names him. Two things cannot be told apart from what is about others: the changes
of somebody with whom he was one and who was not erased with him, and the contacts of a household in which he was, whose list
holds all members' in one. Where the journal has either, it begins anew and only a later backup leads on.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from core.durable import sync_folder
from core.errors import RestoreRefused
from core.hub import catalog as catalogs
from core.hub import erasing, journal, merges, redo, saved
from core.hub.environment import Environment
from core.hub.journal import Damage, Frame, Reading, Segment
from core.hub.membership import of_household, unpack_membership
from core.hub.transaction import Transaction

# Changes done again in one transaction: its pages stay in memory until it commits.
TRANSACTION_BYTES: Final = 32 << 20
TOLD_EVERY: Final = 1_000
# Ids that one history may give, and how many ranges of them a restore draws from. Two restores of one backup draw the same one
# once in 65,536 times; a store may be restored from a backup of a restored one 30,000 times before its ids reach those of
# households, which begin at 1 << 62.
LIFE: Final = 1 << 32
LIVES: Final = 1 << 16
_SHARED: Final = "somebody erased was in a household that is still there"

# What of `meta` a restored store has of its own, for its history is another than that of the store that was saved.
OWN: Final = frozenset({journal.LINEAGE, b"next_customer", b"next_household"})

Progress = Callable[[int], object]

# The ids that an erasure took, and the keys of their identifiers.
Erased: TypeAlias = tuple[list[int], list[bytes]]


@dataclass(frozen=True, slots=True)
class Reached:
    """Where a restore ended: the last change, when it was committed, and how many erasures were applied to it again.

    ``note`` says what stands behind that in the journal and cannot be read, '' when nothing does.
    """

    seq: int
    at_us: int
    erasures: int
    note: str = ""


def replay(
    environment: Environment,
    folder: Path,
    *,
    saved: Path,
    taken_us: int,
    until_seq: int | None = None,
    until_us: int | None = None,
    accept_cut: bool = False,
    progress: Progress | None = None,
) -> tuple[Reached, list[Erased]]:
    """Do again the journal's changes upon a store that was restored, up to a change or a time, both inclusive, or to its end.

    ``saved`` is the backup's folder, ``taken_us`` when it was taken. Returns what was reached and the erasures behind that.
    Raises RestoreRefused where the journal does not lead there, with how far it does; so it does where its end is not whole and a
    time was asked for, unless ``accept_cut``: what is missing may have come before that time.
    """
    with environment.reader() as reader:
        applied = journal.applied_of(reader)
        reading = Reading(folder, journal.lineage_of(reader))
    if until_seq is not None and until_seq < applied:
        raise _refused(saved, f"the backup is at change {applied}, which is past {until_seq}", "Restore an earlier backup.")
    if until_us is not None and until_us < taken_us:
        raise _refused(saved, f"the backup was taken at {told(taken_us)}, which is past {told(until_us)}",
                       "Restore an earlier backup.")
    if not journal.files(folder):
        raise _refused(
            folder, "there is no journal in it",
            "Name the folder journal of the store that was saved. Where rapport store compact began it anew there is none until "
            "the next change: restore with --erasures STORE instead.")
    reached, at_us, begun = applied, taken_us, 0
    passed = False
    later: list[Erased] = []
    joins = erasing.KeptJoins()
    txn = Transaction(environment)
    try:
        for number, (segment, data, frame) in enumerate(reading.frames(applied)):
            wanted = frame.last if until_seq is None else min(until_seq, frame.last)
            if until_us is not None and frame.committed_us > until_us:
                wanted = 0
            if wanted >= frame.first and not passed:
                reached = redo.redo(txn, data, frame.at, segment.names, reached, wanted, joins)
                at_us = frame.committed_us
                begun += frame.size
                if begun > TRANSACTION_BYTES:
                    txn.commit()
                    txn = Transaction(environment)
                    begun = 0
            if wanted < frame.last:
                passed = True
                later += [(ids, keys) for seq, ids, keys in redo.erasures(data, frame.at) if seq > wanted]
            if progress is not None and number % TOLD_EVERY == TOLD_EVERY - 1:
                progress(reached)
        if reading.damage is None and reading.last < applied:
            problem = (f"the journal ends with change {reading.last}, before the backup's {applied}: nothing that came since is "
                       "in it, so who was erased since the backup is in it again")
            reading.damage = Damage(folder, reading.last, problem, tail=True)
        _check(reading, reached, passed or reached == until_seq, until_seq)
        if reading.damage is not None and until_us is not None and not (passed or accept_cut):
            whole = f"Give --accept-cut for what is whole: change {reached}, of {told(at_us)}."
            if reading.damage.after < applied:
                raise _refused(reading.damage.path, reading.damage.problem,
                               f"Name a copy of the journal that was made after the backup. {whole}")
            raise _refused(
                reading.damage.path, f"{reading.damage.problem}, and may have come before {told(until_us)}",
                f"A server that was killed leaves such an end, which was never acknowledged. {whole}")
        txn.commit()
    except BaseException:
        txn.abort()
        raise
    note = "" if reading.damage is None else f"{reading.damage.path}: {reading.damage.problem}"
    return Reached(reached, at_us, 0, note), later


def _check(reading: Reading, reached: int, there: bool, until_seq: int | None) -> None:
    """Raise unless the journal led where it should."""
    damage = reading.damage
    if there:
        return
    if damage is not None and not damage.tail:
        if damage.after >= reached and reading.last >= reached:
            offer = f"Give --until {reached} for all that can be restored from this backup, or use a later backup."
        else:
            offer = "Use a later backup."
        if damage.problem == journal.ANOTHERS:
            offer = "Name the folder journal of the store that was saved."
        raise _refused(damage.path, damage.problem, offer)
    if until_seq is not None:
        raise _refused(reading.folder, f"the journal ends with change {reached}, before {until_seq}",
                       f"Give --until {reached}, or leave it out.")


def _refused(where: Path, problem: str, hint: str) -> RestoreRefused:
    return RestoreRefused(str(where), problem, hint)


def told(at_us: int) -> str:
    """A time as it is shown."""
    seconds, micro = divmod(at_us, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micro:06}Z"


def finish(environment: Environment, erasures: list[Erased], *, lineage: bytes, now_us: int) -> int:
    """Take the erased out of a restored store and give it a history of its own; how many erasures took somebody.

    Its ids go on beyond any that the history it left can have given after the backup: an id of that history, in an erasure
    that another restore applies or in a token that is reported on, must lead to nobody.
    """
    with environment.reader() as reader:
        applied = journal.applied_of(reader)
        following = {name: _beyond(_number(reader.get("meta", name))) for name in (b"next_customer", b"next_household")}
    txn = Transaction(environment)
    try:
        taken, ids = erasing.erase_from(txn, erasures) if erasures else (0, [])
        if taken:
            place = f"{applied:020}/restored".encode()
            entry = saved.AuditEntry("restore", now_us, f"erasures applied again: {taken}")
            redo.put_meta(txn, saved.ERASED + place, msgspec.msgpack.encode(ids))
            redo.put_meta(txn, saved.AUDIT + place, msgspec.msgpack.encode(entry))
        for name, following_id in following.items():
            redo.put_meta(txn, name, msgspec.msgpack.encode(following_id))
        redo.put_meta(txn, journal.LINEAGE, lineage)
        txn.commit()
    except BaseException:
        txn.abort()
        raise
    environment.sync()
    return taken


def _number(value: bytes | None) -> int:
    """Of the next customer or household: from 1, as households are told."""
    return 1 if value is None else msgspec.msgpack.decode(value, type=int)


def _beyond(following: int) -> int:
    """Where ids of a restored store go on: the first of a range of LIFE ids, drawn among the next LIVES of them, for two stores
    that were restored from one backup must not give the same either."""
    return (following // LIFE + 1 + secrets.randbelow(LIVES)) * LIFE


def erased(environment: Environment) -> list[Erased]:
    """The erasures that a store knows of; it has forgotten the keys."""
    with environment.reader() as reader:
        found: list[Erased] = []
        for key, value in reader.items("meta", saved.ERASED):
            if not key.startswith(saved.ERASED):
                break
            found.append((msgspec.msgpack.decode(value, type=list[int]), []))
        return found


# --- erasure -------------------------------------------------------------------------------------------------


def blank(environment: Environment) -> str:
    """Leave what the journal holds of erased customers out of its files. '' or why it had to begin anew.

    The store must be open for writing, and nothing write to it. Cut off anywhere, it is done again by the next call: that
    somebody is to be blanked is noted in the file rewritten last.
    """
    folder = Path(environment.path, journal.FOLDER)
    with environment.reader() as reader:
        lineage = journal.lineage_of(reader)
        catalog = catalogs.loaded(reader.items("catalog"))
    pending: list[tuple[int, list[int], list[bytes]]] = []
    for path in journal.files(folder):
        segment, data, frames, whole = journal.read(path)
        if segment is None or not whole or segment.lineage != lineage:
            return _anew(folder, f"{path.name} is damaged") if _any_erased(environment) else ""
        for frame in frames:
            pending += [each for each in redo.erasures(data, frame.at) if each[2]]
    if not pending:
        return ""
    ids = {one for _, customers, _ in pending for one in customers}
    own: dict[bytes, int] = {}
    for seq, _, keys in pending:
        own.update(dict.fromkeys(keys, seq))
    newest = max(seq for seq, _, _ in pending)
    named: dict[int, int] = {}  # survivors of whose undo something names an erased one -> up to which change
    moved: dict[int, set[int]] = {}  # change -> the households whose members it changed
    left: set[int] = set()  # changes by which an erased one was in a household no more
    counted: dict[int, int] = {}  # household -> the first change of its contacts
    paths = journal.files(folder)
    for path in paths:
        segment, data, frames, _ = journal.read(path)
        assert segment is not None, "it was read a moment ago"
        for frame in frames:
            if frame.first > newest:
                break
            for seq, kind, place, subject, key, value in redo.changes(data, frame.at):
                database = segment.names[place] if kind != redo.ERASE else ""
                if database == "memberships" and of_household(subject):
                    moved.setdefault(seq, set()).add(subject)
                elif database == "memberships":
                    household = unpack_membership(value, subject)[0] if kind == redo.PUT else 0
                    if household and (household in ids) != (subject in ids):
                        return _anew(folder, _SHARED)
                    if subject in ids:
                        left.add(seq)
                elif database == "contacts" and of_household(subject):
                    counted.setdefault(subject, seq)
                if database == "identifiers" and key.startswith(erasing.JOINED):
                    joined = int.from_bytes(key[2:], "big")
                    if (joined in ids) != (subject in ids):
                        return _anew(folder, "somebody erased was one with somebody who was not")
                elif database == "identifiers" and kind == redo.PUT and seq <= own.get(key, 0) and subject not in ids:
                    # His record of that time holds it, and is his.
                    return _anew(folder, "an identifier of somebody erased was another's before")
                elif database == "meta" and key.startswith(merges.PREFIX) and kind == redo.PUT:
                    for erased_at, customers, keys in pending:
                        if seq < erased_at and erasing.holds(catalog, key, value, keys, customers):
                            named[merges.parts(key)[0]] = erased_at
    # In which household somebody was who entered it before this journal began, only his leaving it tells.
    if any(counted.get(home, seq) < seq for seq in left for home in moved.get(seq, set()) - ids):
        return _anew(folder, _SHARED)

    def unwanted(seq: int, kind: int, database: str, subject: int, key: bytes, value: bytes) -> bool | bytes:
        if kind == redo.ERASE:
            customers, keys = redo.erasure(value)
            if not keys:
                return False
            count = len(customers).to_bytes(4, "little")
            return count + bytes(4) + value[8 : 8 + 8 * len(customers)]
        if subject in ids:
            return True
        if database == "identifiers":
            return seq <= own.get(key, 0)
        if database == "meta" and key.startswith(merges.PREFIX):
            return seq < named.get(merges.parts(key)[0], 0)
        return False

    for path in paths:
        segment, data, frames, _ = journal.read(path)
        assert segment is not None, "it was read a moment ago"
        if frames and frames[0].first <= newest:
            _rewrite(path, segment, data, frames, unwanted)
    return ""


def _rewrite(
    path: Path,
    segment: Segment,
    data: bytes,
    frames: list[Frame],
    unwanted: Callable[[int, int, str, int, bytes, bytes], bool | bytes],
) -> None:
    """Exchange a file for one without the unwanted."""
    written = [data[: segment.head_bytes]]
    changed = False
    for frame in frames:
        fresh = redo.without(data, frame.at, segment.names, unwanted)
        changed = changed or fresh is not None
        written.append(data[frame.at : frame.at + frame.size] if fresh is None else fresh)
    if not changed:
        return
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        os.chmod(part, 0o600)
        file.writelines(written)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)


def _any_erased(environment: Environment) -> bool:
    return bool(erased(environment))


def _anew(folder: Path, why: str) -> str:
    for path in journal.files(folder):
        path.unlink()
    sync_folder(folder)
    return why
