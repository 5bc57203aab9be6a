"""What fuzzing has found worth keeping is given to the same targets again, and changed a little.

`make fuzz-bytes` looks for inputs that take new ways through the decoders and the transport, and keeps a few under corpus/,
each file an input. They are replayed here in seconds, with every answer judged and not one in SAMPLE; then some of them are
changed by the fuzzer's own changes. RAPPORT_CASES sets how many (default 2,000), RAPPORT_SEED the first seed. Under
`make sanitize` the same inputs meet AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest

from core.hub.catalog import Catalog
from core.hub.ingest import ItemReader
from tests.fuzz import feeding, prepare, targets
from tests.property.test_desk_equals_engine import DONE, ELSEWHERE
from tests.property.test_ingest_equals_tell import NOW_US, SCHEMA

CORPUS = Path(__file__).parent / "corpus"
CORPUS_BYTES = 500_000
CASES = min(int(os.environ.get("RAPPORT_CASES", "2000")), 50_000)
SEED = int(os.environ.get("RAPPORT_SEED", "20250615"))


def kept(target: str) -> dict[str, bytes]:
    """A target's kept inputs by file name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}


def found(target: str, data: bytes, what: str) -> str:
    """What a target found in an input; '' when nothing."""
    number = targets.run(target, data)
    return f"{target}: {what}: {targets.FOUND[number]}" if number else ""


def test_the_corpus_is_small() -> None:
    sizes = [path.stat().st_size for target in prepare.TARGETS for path in (CORPUS / target).iterdir()]
    assert len(sizes) > 100
    assert sum(sizes) < CORPUS_BYTES


def test_every_kept_request_is_answered_as_python_does_or_not_at_all(tmp_path: Path) -> None:
    codes: dict[int, int] = {}
    with prepare.requests(tmp_path, 1) as worlds:
        inputs = kept("request")
        for name, data in inputs.items():
            assert not found("request", data, name)
            if data:
                desk = worlds[data[0] % len(worlds)].desk
                desk.decide(data[1:])
                codes[desk.code] = codes.get(desk.code, 0) + 1
        print(f"\n{len(inputs)} inputs; seed {SEED}, {CASES} changed; codes {codes}")
        for seed in range(SEED, SEED + CASES):
            data = prepare.request_changed(random.Random(seed).choice(list(inputs.values())), 4096, seed)
            assert not found("request", data, f"seed {seed}: {data.hex()}")
    # Both ends are met, and nothing else: no failure, nothing too late.
    assert set(codes) == {DONE, ELSEWHERE}
    assert min(codes.values()) > len(inputs) // 20


def test_every_kept_connection_leaves_nothing(tmp_path: Path) -> None:
    with prepare.transport(tmp_path) as front:
        # And the first inputs: two that take the same edges may be refused for different reasons.
        inputs = kept("transport") | {f"first {number}": data for number, data in enumerate(prepare.connection_seeds())}
        for name, data in inputs.items():
            assert not found("transport", data, name)
        counters = front.counters()
        print(f"\n{len(inputs)} inputs; seed {SEED}, {CASES} changed", {name: value for name, value in counters.items() if value})
        # They reach what they are meant to: every refusal but those for want of memory, and every end.
        missed = {name for name in counters if not counters[name]} - {
            "connections_refused", "accepts_failed", "slow", "refused_memory", "open_connections", "open_calls", "held_bytes",
        }
        assert not missed
        for seed in range(SEED, SEED + CASES):
            data = prepare.connection_changed(random.Random(seed).choice(list(inputs.values())), 12_000, seed)
            assert not found("transport", data, f"seed {seed}: {data.hex()}")


def test_every_kept_feed_is_read_as_the_library_does_or_left_to_it() -> None:
    with feeding.ready(1) as judge:
        inputs = kept("feed")
        for name, data in inputs.items():
            assert not found("feed", data, name)
        print(f"\n{len(inputs)} inputs; seed {SEED}, {CASES} changed; {judge.packed} items packed, {judge.left} left, "
              f"{judge.refused} messages refused; columns {judge.formed}")
        assert min(judge.packed, judge.left, judge.refused, *judge.formed) > len(inputs) // 50
        for seed in range(SEED, SEED + CASES):
            data = prepare.feed_changed(random.Random(seed).choice(list(inputs.values())), 3000, seed)
            assert not found("feed", data, f"seed {seed}: {data.hex()}")


def test_a_target_tells_what_it_finds(tmp_path: Path) -> None:
    """A connection that is no input's is seen as left over, and an answer that its judge rejects as a finding."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with prepare.transport(tmp_path / "one") as front:
        host, _, port = front.address.rpartition(":")
        with socket.create_connection((host, int(port))):
            assert "a connection is left" in found("transport", next(prepare.connection_seeds()), "with another")
    with prepare.requests(tmp_path / "two", 1) as worlds:

        def never(data: bytes) -> None:
            raise AssertionError(f"no answer to {data.hex()} is right")

        targets.prepare_requests([each.desk for each in worlds], [never] * len(worlds), 1)
        data = next(data for data in kept("request").values() if data and worlds[data[0] % len(worlds)].desk.decide(data[1:]))
        assert "Python's way" in found("request", data, "judged")
    with feeding.ready(1) as judge:
        text = bytes([feeding.COLUMNS, 1, 255, 1, 0]) + b"x"
        assert not found("feed", text, "one text")
        assert judge.formed == [0, 1]
        targets.prepare_feed(ItemReader(Catalog()), 0, judge.message, judge.texts, 1)
        assert not found("feed", next(feeding.seeds(SEED)), "left to the library, for nothing is declared")
        reader = ItemReader(Catalog().declared(SCHEMA))
        targets.prepare_feed(reader, NOW_US + 1, judge.message, judge.texts, 1)
        assert "Python's way" in found("feed", next(feeding.seeds(SEED)), "packed at another time than it is judged")


def test_a_target_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no target"):
        targets.run("nothing", b"")
