"""What is online goes before feeds, and feeds before nothing: how the committer takes from its two queues."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from core.decision import Identifier
from core.hub import committer
from core.hub.mutations import Mutation, Upsert
from core.hub.store import Store
from core.schema import Field, Namespace, Schema, ValueType

SCHEMA = Schema(attributes={"n": Field("n", ValueType.INT)}, namespaces={"crm": Namespace("crm")})
SECONDS = 60


def upsert(number: int) -> Upsert:
    return Upsert(identifiers=(Identifier("crm", str(number % 7)),), attributes={"n": number}, at_us=number)


def test_an_online_write_does_not_wait_for_a_long_feed(tmp_path: Path) -> None:
    """While the committer stands, 2,000 rows of a feed are queued and then one online write. It is in the next commit, with no
    more of the feed than BESIDE_ROWS; all of the feed follows, in its order."""
    still, go = threading.Event(), threading.Event()
    order: list[int] = []

    def noted(number: int) -> Any:
        def note(_: Future[Any]) -> None:
            order.append(number)

        return note

    def stand(_: Future[Any]) -> None:
        if threading.current_thread() is threading.main_thread():
            return  # it was done before it could be asked to stand
        still.set()
        go.wait(SECONDS)

    with Store.open(tmp_path / "store") as store:
        store.declare(SCHEMA)
        while not still.is_set():
            first = store.submit(upsert(0))
            first.add_done_callback(stand)
            first.result(SECONDS)
            still.wait(1)
        fed = [store.submit(upsert(number), background=True) for number in range(1, 2001)]
        for number, future in enumerate(fed, 1):
            future.add_done_callback(noted(number))
        online = store.submit(upsert(5000))
        online.add_done_callback(noted(5000))
        before = store.statistics()["commits"]
        go.set()
        online.result(SECONDS)
        fed[-1].result(SECONDS)
        assert order[0] == 5000
        assert order[1:] == list(range(1, 2001))
        # At least as many commits as the bound makes of them: online writes could have come between.
        assert store.statistics()["commits"] - before >= 2000 // 256
        found = store.profile([Identifier("crm", str(2000 % 7))])
        assert found is not None
        assert found.attributes["n"] == 2000


def test_an_online_write_ends_the_long_piece_of_a_feed_that_is_being_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone a feed gets thousands of rows a commit. Who comes while they are applied waits for what is applied by then, not for
    what could join; and an acknowledgement never comes before the commit that it stands for."""
    weigh, order, came, go = committer._weight, list[int](), list[Future[Any]](), threading.Event()
    monkeypatch.setattr(committer, "QUIET_SECONDS", -1.0)

    def noted(number: int) -> Any:
        return lambda _: order.append(number)

    with Store.open(tmp_path / "store") as store:
        store.declare(SCHEMA)

        def weighed(mutation: Mutation) -> int:
            # On the committer's thread, as it takes the mutation for the commit at hand. The first waits for all to be queued.
            go.wait(SECONDS)
            if mutation == upsert(300):
                came.append(store.submit(upsert(5000)))
                came[0].add_done_callback(noted(5000))
            return weigh(mutation)

        monkeypatch.setattr(committer, "_weight", weighed)
        fed = []
        for number in range(1, 2001):
            fed.append(store.submit(upsert(number), background=True))
            fed[-1].add_done_callback(noted(number))
        go.set()
        fed[-1].result(SECONDS)
        came[0].result(SECONDS)
    assert order == [*range(1, 301), 5000, *range(301, 2001)]
