"""One bit of a store or of a backup is not what was written: what is answered is right, or told as damage.

LMDB 0.9 has no checksums on its pages. Ours cover every value, and are looked at whenever one is read. What LMDB relies on
between the entries is looked at before it is trusted (core/hub/pages.pyx), and a store in which it does not fit is refused. One
thing no read can tell: a key that changed without leaving its place hides its entry from who looks for it. The check, every
backup and the server's look after its start find that. What may never happen is that somebody is answered with what is
another's, or that a process that reads is ended.
RAPPORT_CRASH_ROUNDS of 1,000 and more flips 10,000 bits, otherwise 300.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from core.decision import Identifier
from core.errors import RestoreRefused, StoreCorrupt, StoreError, StoreUnavailable
from core.hub import keeping
from core.hub.checking import check_apart
from core.hub.customer_profile import Profile
from core.hub.mutations import Erase, Join, Outcome, RecordOutcomes, SaveProgram, Upsert
from core.hub.store import Store
from core.programs.source import Sources
from tests.crash import short_life
from tests.crash.short_life import NOW, cookie, crm, visit
from tests.faulting import quick_folder

PEOPLE = 100
FLIPS = 10_000 if int(os.environ.get("RAPPORT_CRASH_ROUNDS", "0")) >= 1000 else 300
PAGE = 4096
# Where a page keeps its header and the places of its entries: a bit here leads LMDB astray, in a value it meets our checksums.
STRUCTURE = 96


def fill(path: Path) -> None:
    with Store.open(path) as store:
        store.declare(short_life.SCHEMA, ["card"], ["web"])
        for number in range(PEOPLE):
            note = f"note {number} " * (number % 20)
            store.apply(Upsert(identifiers=crm(number) + cookie(number), attributes={"n": number, "note": note}, at_us=NOW))
            store.apply(visit(number, number, crm(number)))
            shown = Outcome(identifiers=crm(number), offer="card", outcome="shown", channel="web", at_us=NOW, instance=number + 1)
            store.apply(RecordOutcomes(outcomes=(shown,)))
        store.apply(Join(identifiers=crm(1) + cookie(2), at_us=NOW))
        store.apply(Upsert(identifiers=crm(5), attributes={"points": 3}, source="a", at_us=NOW))
        store.apply(Erase(identifiers=crm(7), at_us=NOW))
        files = {"program.yaml": b"name: shop" * 900}
        store.apply(SaveProgram(name="shop", digest=Sources(files).digest, sources=files, at_us=NOW))


Answers = dict[Identifier, Profile | str]


def answers(store: Store) -> Answers:
    """Everybody's profile by each identifier, or that it is nobody's, or damaged."""
    found: Answers = {}
    for number in range(PEOPLE):
        for one in crm(number) + cookie(number):
            try:
                found[one] = store.profile([one]) or "nobody"
            except StoreCorrupt:
                found[one] = "damaged"
    return found


def flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    place = chance.randrange(len(data))
    if chance.random() < 0.5:
        place = place // PAGE * PAGE + chance.randrange(STRUCTURE)
    changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def in_a_child(work: Callable[[], str]) -> str:
    """What ``work`` says in a process of its own, or the signal that ended it."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        said = "a test that failed"
        try:
            said = work()
        except BaseException as error:
            said = f"untyped: {type(error).__name__} {error}"
        finally:
            os.write(tell, said.encode()[:4000])
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said if status == 0 else "killed"


def read(path: Path, right: Answers) -> str:
    """How a store answers that ought to answer what is ``right``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where LMDB writes why it gives up
    try:
        store = Store.open(path, read_only=True)
    except (StoreCorrupt, StoreUnavailable):
        return "refused"
    with store:
        found = answers(store)
    wrong = [(profile, right[one]) for one, profile in found.items() if profile not in ("damaged", right[one])]
    for profile, correct in wrong:
        if isinstance(profile, Profile) and (isinstance(correct, str) or profile.customer != correct.customer):
            return "another's"
    if wrong:
        return "misses"
    return "damage told" if "damaged" in found.values() else "right"


def checked(path: Path) -> str:
    try:
        faults = check_apart(str(path)).faults
    except StoreError:
        return "refused"
    return "faults" if faults else "sound"


def test_a_flipped_bit_is_never_another_answer_that_nobody_tells() -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    chance = random.Random(seed)
    tally: Counter[tuple[str, str]] = Counter()
    with quick_folder() as base:
        fill(base / "store")
        saved, _ = keeping.backup(str(base / "store"), str(base / "backups"), now_us=1_000_000)
        with Store.open(base / "store", read_only=True) as store:
            right = answers(store)
        data = (base / "store" / "data.mdb").read_bytes()
        broken = base / "broken"
        for _ in range(FLIPS):
            broken.mkdir()
            changed = flipped(data, chance)
            (broken / "data.mdb").write_bytes(changed)
            found = in_a_child(lambda: read(broken, right)), in_a_child(lambda: checked(broken))
            tally[found] += 1
            place = next(at for at, (one, other) in enumerate(zip(data, changed, strict=True)) if one != other)
            where = f"byte {place}, seed {seed}: {found}"
            assert found[0] in ("right", "damage told", "refused", "misses"), where
            # What changes an answer the check finds.
            assert found[1] in ("faults", "refused") or (found[0] == "right" and found[1] == "sound"), where
            shutil.rmtree(broken)
        print(f"seed {seed}, {FLIPS} flips in {len(data) // PAGE} pages:", *sorted(tally.items()), sep="\n  ")
        # Only a key can hide what is there.
        assert sum(count for (answer, _), count in tally.items() if answer == "misses") <= FLIPS // 50
        # The way back: nobody has to touch a file.
        keeping.restore(str(saved), str(base / "restored"))
        with Store.open(base / "restored") as store:
            assert answers(store) == right
            store.apply(Upsert(identifiers=crm(5), attributes={"n": 6}, at_us=NOW))


def test_a_backup_with_a_flipped_bit_is_refused() -> None:
    seed = int(os.environ.get("RAPPORT_SEED", "20261126"))
    print(f"seed {seed}")
    chance = random.Random(seed)
    with quick_folder() as base:
        fill(base / "store")
        saved, _ = keeping.backup(str(base / "store"), str(base / "backups"), now_us=1_000_000)
        data = (saved / "data.mdb").read_bytes()
        for _ in range(FLIPS // 10):
            (saved / "data.mdb").write_bytes(flipped(data, chance))
            with pytest.raises(RestoreRefused, match="SHA-256"):
                keeping.restore(str(saved), str(base / "restored"))
            assert not (base / "restored").exists()
        (saved / "data.mdb").write_bytes(data)
        keeping.restore(str(saved), str(base / "restored"))
