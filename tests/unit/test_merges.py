"""Joins taken back: by whom, until when, in what order, and that nothing is kept for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core import limits
from core.decision import Identifier
from core.errors import BadValue, NotFound, NotUndoable, StoreFull
from core.hub import merges, mutations
from core.hub.environment import DATABASES
from core.hub.ingest import ItemReader
from core.hub.mutations import (
    CloseCase,
    EndUndo,
    Erase,
    Join,
    OpenCase,
    Outcome,
    RecordedEvent,
    RecordEvents,
    RecordOutcomes,
    Unmerge,
    Upsert,
)
from core.hub.store import Store
from core.schema import EventType, Field, Namespace, Normaliser, Schema, ValueType
from core.sweep import Joins
from tests.feeds import batch_of

SCHEMA = Schema(
    attributes={"age": Field("age", ValueType.INT)}, events={"visit": EventType("visit")},
    namespaces={"crm": Namespace("crm", trust=9), "cookie": Namespace("cookie")}, case_kinds=("fault",),
)
ANA, ONE, TWO = Identifier("crm", "ana"), Identifier("cookie", "one"), Identifier("cookie", "two")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s") as opened:
        opened.declare(SCHEMA)
        for number, who in enumerate((ANA, ONE, TWO)):
            opened.apply(Upsert(identifiers=(who,), attributes={"age": number}, at_us=number))
        yield opened


def dump(store: Store) -> list[tuple[bytes, bytes]]:
    with store.environment.reader() as reader:
        return [
            pair for name in ("profiles", "contacts", "events", "origins", "identifiers") for pair in reader.items(name)
        ]


def undoing(store: Store, *who: Identifier, merge: int = 0, at_us: int = 50) -> mutations.UnmergeResult:
    result: mutations.UnmergeResult = store.apply(Unmerge(identifiers=who, merge=merge, at_us=at_us))
    return result


def test_undoing_a_join_gives_back_the_same_bytes_and_once_only(store: Store) -> None:
    before = dump(store)
    joined = store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    assert store.customer([ONE]) == store.customer([ANA]) == 1
    assert undoing(store, ONE) == mutations.UnmergeResult(1, (2,), 0, 0)
    assert dump(store) == before
    for merge in (0, joined.merge):
        with pytest.raises(NotFound):
            undoing(store, ANA, merge=merge)
    assert dump(store) == before


def test_what_was_kept_for_an_undo_goes_when_its_time_is_over(store: Store) -> None:
    """Images of who was joined were kept for ever where nothing more was told of the survivor: only a message ended them."""
    store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    joins = Joins(store)
    assert store.undoable()
    for at_us, kept in ((9 + limits.UNDO_US, True), (10 + limits.UNDO_US + limits.SWEEP_MOVED_US, False)):
        assert joins.due_us(at_us) <= at_us
        assert joins.step(1024, at_us) == (0 if kept else 1)
        assert joins.due_us(at_us) == at_us + limits.SWEEP_MOVED_US
        assert store.undoable() is kept
    with store.environment.reader() as reader:
        assert not [key for key, _ in reader.items("meta") if key.startswith(b"merge/")]
    with pytest.raises(NotFound):
        undoing(store, ANA, at_us=10)
    applied = store.applied
    joins.step(1024, 10 * limits.UNDO_US)
    assert store.applied == applied, "nothing to end, nothing written"
    assert store.apply(EndUndo(at_us=10 * limits.UNDO_US)) == 0


def test_many_joins_end_some_at_a_time(store: Store) -> None:
    """All of a day ended in one change, however many, and nobody wrote meanwhile."""
    for number in range(limits.UNDO_ENDED + 3):
        store.apply(Upsert(identifiers=(Identifier("crm", f"c{number}"),), at_us=1))
        store.apply(Upsert(identifiers=(Identifier("cookie", f"k{number}"),), at_us=1))
        store.apply(Join(identifiers=(Identifier("crm", f"c{number}"), Identifier("cookie", f"k{number}")), at_us=9))
    joins, past = Joins(store), 10 + limits.UNDO_US
    assert joins.step(1024, past) == limits.UNDO_ENDED
    assert joins.due_us(past) == past
    assert joins.step(1024, past) == 3
    assert not store.undoable()


def test_a_login_a_week_does_not_keep_every_join_for_ever(store: Store) -> None:
    """Only the newest join's age was looked at: who joins a cookie now and then kept all, each with his whole history."""
    week = 7 * 86_400_000_000
    for number in range(12):
        cookie, at_us = Identifier("cookie", f"w{number}"), 100 + number * week
        store.apply(Upsert(identifiers=(cookie,), at_us=at_us))
        store.apply(Join(identifiers=(ANA, cookie), at_us=at_us))
        store.apply(EndUndo(at_us=at_us))
    kept = store.merges([ANA])
    assert kept is not None
    assert [each.at_us for each in kept] == [100 + number * week for number in range(11, 6, -1)]
    assert undoing(store, ANA, at_us=100 + 11 * week).restored
    assert store.check().faults == ()


def test_what_is_kept_of_a_survivors_joins_is_bounded_in_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MERGE_BYTES", 2000)
    for number in range(8):
        cookie = Identifier("cookie", f"w{number}")
        store.apply(Upsert(identifiers=(cookie,), at_us=10))
        store.apply(Join(identifiers=(ANA, cookie), at_us=10 + number))
        store.apply(Upsert(identifiers=(ANA,), attributes={"age": number}, at_us=20 + number))
    with store.environment.reader() as reader:
        kept = [len(value) for key, value in reader.items("meta", merges.PREFIX) if key.startswith(merges.PREFIX)]
    assert 1000 < sum(kept) <= 2000
    found = store.merges([ANA])
    assert found is not None
    assert found[0].merge == max(each.merge for each in found)
    assert undoing(store, ANA).restored


def test_an_erasure_after_a_commit_that_failed_still_knows_who_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is named by what undo keeps was noted inside the failed commit, without the join that its undo had taken back."""
    carl = Identifier("crm", "carl")
    store.apply(Upsert(identifiers=(carl,), attributes={"age": 40}, at_us=1))
    store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    event = RecordedEvent(type="visit", key="v", at_us=10, fields={})
    store.apply(RecordEvents(identifiers=(ANA, carl), events=(event,), received_us=10))
    committer = store._committer  # the commit that fails is one of its own
    assert committer is not None
    with monkeypatch.context() as broken:
        broken.setattr(committer, "_make_durable", lambda: (_ for _ in ()).throw(StoreFull("disk", "it is full")))
        with pytest.raises(StoreFull):
            store.apply(Unmerge(identifiers=(ANA,), at_us=11))
        with pytest.raises(StoreFull):
            store.apply(Erase(identifiers=(TWO,), request="R-1", at_us=12))
    store.apply(Erase(identifiers=(carl,), request="R-2", at_us=13))
    assert store.merges([ANA]) == (), "its undo would name him"
    assert store.profile([carl]) is None


def test_an_undo_brings_back_no_event_that_retention_let_go_of_meanwhile(tmp_path: Path) -> None:
    day = 86_400_000_000
    kept = Schema(namespaces=SCHEMA.namespaces, events={"visit": EventType("visit", retention_us=10 * day)})
    with Store.open(tmp_path / "s") as store:
        store.declare(kept)
        for who, at_us in ((ANA, day), (ONE, day), (ONE, 9 * day)):
            event = mutations.RecordedEvent(type="visit", key=f"v{at_us}", at_us=at_us, fields={})
            store.apply(RecordEvents(identifiers=(who,), events=(event,), received_us=at_us))
        store.apply(Join(identifiers=(ANA, ONE), at_us=9 * day))
        undoing(store, ANA, at_us=15 * day)
        found = [[event.at_us for event in store.profile([who]).events] for who in (ANA, ONE)]  # type: ignore[union-attr]
        assert found == [[], [9 * day]]
        # Nor one that was told of them meanwhile.
        store.apply(Join(identifiers=(ANA, ONE), at_us=15 * day))
        event = mutations.RecordedEvent(type="visit", key="later", at_us=15 * day, fields={})
        store.apply(RecordEvents(identifiers=(ANA,), events=(event,), received_us=15 * day))
        undoing(store, ANA, at_us=26 * day)
        found = [[event.at_us for event in store.profile([who]).events] for who in (ANA, ONE)]  # type: ignore[union-attr]
        assert found == [[], []]


def test_a_message_that_an_undo_cannot_apply_takes_nothing_else_along(store: Store) -> None:
    """Messages between two copies of what an undo has changed are applied again when one after them is refused; a refused event
    of a feed put back all that the undo had restored."""
    store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    for number in range(limits.UNDO_PASSED + 10):
        store.apply(Upsert(identifiers=(ANA,), attributes={"age": number}, at_us=10 + number))
        if number % 7 == 3:
            # Once they are apart the cookie's owner is nobody's whose case this is.
            store.apply(OpenCase(identifiers=(ANA,), kind="fault", key=f"T-{number}", at_us=10 + number))
            store.apply(CloseCase(identifiers=(ONE,), kind="fault", key=f"T-{number}", at_us=11 + number))
    result = undoing(store, ANA)
    assert (result.restored, result.dropped) == ((2,), len(range(3, limits.UNDO_PASSED + 10, 7)))
    mine, other = store.profile([ANA]), store.profile([ONE])
    assert mine is not None
    assert other is not None
    assert mine.attributes["age"] == limits.UNDO_PASSED + 9
    assert [case.closed_us for case in mine.cases] == [None] * result.dropped
    assert other.cases == ()


def test_the_newest_join_is_undone_first(store: Store) -> None:
    before = dump(store)
    first = store.apply(Join(identifiers=(ANA, ONE), at_us=9)).merge
    second = store.apply(Join(identifiers=(ANA, TWO), at_us=10)).merge
    found = store.merges([TWO])
    assert found is not None
    assert [(each.merge, each.absorbed, each.since) for each in found] == [(second, {3: (TWO,)}, 0), (first, {2: (ONE,)}, 0)]
    with pytest.raises(NotUndoable, match=f"Undo {second} first"):
        undoing(store, ONE, merge=first)
    with pytest.raises(NotFound, match="Merge '999'"):
        undoing(store, ONE, merge=999)
    undoing(store, ANA)
    undoing(store, ANA)
    assert dump(store) == before
    assert store.merges([ANA]) == ()


def test_a_join_is_final_after_its_time(store: Store) -> None:
    store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    with pytest.raises(NotUndoable, match="older than 30 days"):
        undoing(store, ANA, at_us=10 + limits.UNDO_US)
    # The next thing said of the customer then ends it, so that what is kept does not grow for ever.
    store.apply(Upsert(identifiers=(ANA,), attributes={"age": 8}, at_us=10 + limits.UNDO_US))
    with pytest.raises(NotFound):
        undoing(store, ANA)
    assert store.merges([ANA]) == ()


@pytest.mark.parametrize("limit", ["MERGE_MESSAGES", "MERGE_BYTES"])
def test_a_join_that_would_need_too_much_is_final(store: Store, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, limit, 3)
    joined = store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    assert bool(joined.merge) == (limit == "MERGE_MESSAGES")
    for number in range(4):
        store.apply(RecordEvents(identifiers=(ONE,), events=(RecordedEvent(type="visit", key=f"{number}", at_us=20),)))
    with pytest.raises(NotFound):
        undoing(store, ANA)
    assert store.merges([ANA]) == ()
    assert store.customer([ONE]) == 1


def test_a_refused_message_is_not_kept_and_a_kept_one_survives_a_restart(store: Store, tmp_path: Path) -> None:
    store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    with pytest.raises(BadValue):
        store.apply(Upsert(identifiers=(ONE,), attributes={"age": "x"}, at_us=10))
    store.apply(Upsert(identifiers=(ONE,), attributes={"age": 7}, at_us=10))
    store.close()
    with Store.open(tmp_path / "s") as again:
        assert undoing(again, ANA).reapplied == 1
        ages = []
        for who in (ANA, ONE):
            profile = again.profile([who])
            assert profile is not None
            ages.append(profile.attributes["age"])
        assert ages == [0, 7]


def test_of_a_feed_with_a_refused_item_an_undo_gives_everybody_his_own(store: Store) -> None:
    """Where an item is refused, the batch is applied item by item; each was then remembered for the undo as the batch's
    first, so the undo gave the survivor what somebody else had done, and took his own."""
    for start in range(0, limits.IDENTIFIERS_PER_CUSTOMER, 15):
        more = tuple(Identifier("cookie", f"t{number}") for number in range(start, min(start + 15, 255)))
        store.apply(Upsert(identifiers=(TWO, *more), at_us=1))
    store.apply(Join(identifiers=(ANA, ONE), at_us=9))
    batch = batch_of(ItemReader(store.catalog), *(
        (who, RecordedEvent(type="visit", key=f"k{seq}", at_us=10 + seq))
        for seq, who in enumerate(((TWO,), (TWO, Identifier("cookie", "too-many")), (ONE,), (ANA,), (ONE,)), 1)
    ))
    assert [place for place, _ in store.apply(batch).failures] == [1]
    assert undoing(store, ANA).reapplied == 1
    found = [store.profile([who]) for who in (ANA, ONE, TWO)]
    seen = [[event.at_us for event in each.events] for each in found if each is not None]
    assert seen == [[14], [13, 15], [11]]


@pytest.mark.parametrize("erased", [ANA, TWO], ids=["the survivor", "one whom a message claims"])
def test_erasing_leaves_nothing_of_a_person_in_what_an_undo_would_need(tmp_path: Path, erased: Identifier) -> None:
    """An erased customer could be read in the images of his joins and in the messages kept since, and an undo of the join
    would have made him again: his own joins, those of whom he absorbed, and any whose messages name him become final."""
    schema = Schema(
        attributes={"note": Field("note", ValueType.STRING, sources=("billing", "web"))},
        namespaces=SCHEMA.namespaces, events={"visit": EventType("visit", (Field("page", ValueType.STRING),))},
    )
    with Store.open(tmp_path / "s") as store:
        store.declare(schema)
        for who in (ANA, ONE, TWO):
            store.apply(Upsert(identifiers=(who,), attributes={"note": f"text-of-{who.value}"}, source="web", at_us=1))
        store.apply(Join(identifiers=(ANA, ONE), at_us=2))
        event = RecordedEvent(type="visit", key="1", at_us=3, fields={"page": "text-of-ana-seen"})
        store.apply(RecordEvents(identifiers=(ANA, TWO), events=(event,)))
        if erased == ANA:
            store.apply(Join(identifiers=(Identifier("crm", "older"), ANA), at_us=4))
        texts = [f"text-of-{each.value}".encode() for each in ((ANA, ONE) if erased == ANA else (TWO,))]
        for text in texts:
            assert any(text in value for _, value in every_entry(store)), "nothing to remove: the test proves nothing"
        store.apply(Erase(identifiers=(erased,), at_us=5))
        for text in (*texts, *((b"ana", b"\xa3one") if erased == ANA else (b"two",))):
            assert [key for key, value in every_entry(store) if text in key or text in value] == []
        assert store.profile([erased]) is None
        with pytest.raises(NotFound):
            undoing(store, erased)
        if erased == TWO:
            assert store.merges([ANA]) == ()
            with pytest.raises(NotFound):
                undoing(store, ANA)
        assert store.check().faults == ()


def every_entry(store: Store) -> list[tuple[bytes, bytes]]:
    with store.environment.reader() as reader:
        return [pair for name in DATABASES for pair in reader.items(name)]


# With addresses that are claimed.
CLAIMING = Schema(
    events=SCHEMA.events,
    namespaces={**SCHEMA.namespaces, "email": Namespace("email", Normaliser.LOWER, 50, verified=True)},
)


@pytest.mark.parametrize("news", ["events", "a feed", "a report"])
def test_a_claim_that_named_nobody_names_nobody_in_an_undo(tmp_path: Path, news: str) -> None:
    """A message named the survivor and an e-mail that nobody had and that is only claimed, so it was the survivor's. The
    address then became somebody else's, and an undo, which looked the message's identifiers up anew, gave it to him."""
    claimed = Identifier("email", "Bob@x.org")
    with Store.open(tmp_path / "s") as store:
        store.declare(CLAIMING, ["card"])
        for who in (ANA, ONE):
            store.apply(Upsert(identifiers=(who,), at_us=1))
        store.apply(Join(identifiers=(ANA, ONE), at_us=2))
        visit = RecordedEvent(type="visit", key="1", at_us=3)
        if news == "events":
            store.apply(RecordEvents(identifiers=(claimed, ONE), events=(visit,)))
        elif news == "a feed":
            store.apply(batch_of(ItemReader(store.catalog), ((claimed, ONE), visit)))
        else:
            shown = Outcome(identifiers=(claimed, ONE), offer="card", outcome="shown", at_us=3, key="1")
            store.apply(RecordOutcomes(outcomes=(shown,)))
        store.apply(Upsert(identifiers=(Identifier("email", "bob@x.org"),), at_us=4))
        assert undoing(store, ANA) == mutations.UnmergeResult(1, (2,), 1, 0)
        found = [store.profile([who]) for who in (ANA, ONE, claimed)]
        assert [len(each.events) + len(each.contacts) for each in found if each is not None] == [0, 1, 0]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_what_a_later_item_of_a_batch_gives_an_identifier_is_not_the_earlier_ones(tmp_path: Path, together: bool) -> None:
    """The first item claimed an address that nobody had, the second gave it to somebody: the undo then gave him the first's."""
    claimed = Identifier("email", "e@x.org")
    with Store.open(tmp_path / "s") as store:
        store.declare(CLAIMING, ["card"])
        for who in (ANA, ONE):
            store.apply(Upsert(identifiers=(who,), at_us=1))
        store.apply(Join(identifiers=(ANA, ONE), at_us=2))
        items = [
            (identifiers, RecordedEvent(type="visit", key=key, at_us=3))
            for identifiers, key in (((ONE, claimed), "of one"), ((claimed,), "of the address"))
        ]
        for batch in [items] if together else [[each] for each in items]:
            store.apply(batch_of(ItemReader(store.catalog), *batch))
        undoing(store, ANA)
        found = [store.profile([who]) for who in (ANA, ONE, claimed)]
        assert [[event.at_us for event in each.events] for each in found if each is not None] == [[], [3], [3]]
