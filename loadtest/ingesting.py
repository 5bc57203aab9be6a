"""``python -m loadtest ingest``: what a feed does to the disk and to decisions, and what one durable write costs.

The server that is started serves the starter program over an empty store. Five things are measured, in turns, so that whatever
else the machine does meets all of them: single writes, one after the other, each beside one fdatasync of the same folder's disk;
decisions alone at a fixed rate; the same beside `rapport import --rows-per-second` of new customers; the same while one stream
of events goes as fast as it is acknowledged; and single writes beside that stream, which then gives way to them. Messages of the
feed are put together beforehand: the generator's processor is the server's neighbour.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtest import calls, measuring, servers
from loadtest.generator import Generator
from loadtest.servers import Serving
from loadtest.taken import Call, Kind, Pace
from protos.rapport.v1 import decision_pb2, ingest_pb2, values_pb2
from protos.rapport.v1.decision_pb2_grpc import DecisionServiceStub
from protos.rapport.v1.ingest_pb2_grpc import IngestServiceStub

ITEMS = 256  # of a message
AHEAD = 96 * ITEMS  # events sent and not acknowledged: as many as the server takes ahead of its disk
WRITES = 200  # single ones in a round
MOST_PER_S = 200_000  # events that a round has at hand for each of its seconds
PAGE = bytes(4096)
ROWS_PER_S = 10_000  # of the import: a million customers in two minutes
MAPPING = """
mapping: newcomers
source: crm
row: profile
identifiers: {crm: id}
attributes: {first_name: name, age: age, country: country, vip: vip}
"""


@dataclass(slots=True)
class Figures:
    """What the rounds came to; times in milliseconds, a value a round unless said otherwise."""

    events_per_s: list[float] = field(default_factory=list)  # beside decisions
    events_per_s_beside: list[float] = field(default_factory=list)  # beside single writes
    server_us: list[float] = field(default_factory=list)  # its processor time for an event, microseconds
    decide_p99: list[float] = field(default_factory=list)  # alone
    decide_p99_fed: list[float] = field(default_factory=list)  # beside the feed
    decide_p99_imported: list[float] = field(default_factory=list)  # beside an import
    rows_per_s: list[float] = field(default_factory=list)  # of that import
    record: list[float] = field(default_factory=list)  # a value a write
    fdatasync: list[float] = field(default_factory=list)  # a value a write
    record_fed: list[float] = field(default_factory=list)  # a value a write, beside the feed
    failed: int = 0  # decisions without an answer

    def rows(self) -> list[tuple[str, str]]:
        """What to say, and the figure."""
        ratio = [fed / alone for fed, alone in zip(self.decide_p99_fed, self.decide_p99, strict=True)]
        return [
            ("durable events/s, one stream, median (lowest) of the rounds",
             f"{statistics.median(self.events_per_s):,.0f} ({min(self.events_per_s):,.0f})"),
            ("the same while single writes come one after the other", f"{statistics.median(self.events_per_s_beside):,.0f} "
             f"({min(self.events_per_s_beside):,.0f})"),
            ("server's processor time for an event, commits, stream and decisions included, median",
             f"{statistics.median(self.server_us):.1f} us"),
            ("Decide p99 alone / beside the feed, medians", f"{statistics.median(self.decide_p99):.2f} / "
             f"{statistics.median(self.decide_p99_fed):.2f} ms (ratio {statistics.median(ratio):.2f})"),
            (f"Decide p99 beside an import of {statistics.median(self.rows_per_s):,.0f} rows/s "
             f"(--rows-per-second {ROWS_PER_S}), median", f"{statistics.median(self.decide_p99_imported):.2f} ms"),
            ("one durable Record, p50 / p99", _two(self.record)),
            ("fdatasync of the same disk, between them", _two(self.fdatasync)),
            ("one durable Record beside the feed", _two(self.record_fed)),
        ]


def _two(times: list[float]) -> str:
    cut = statistics.quantiles(times, n=100)
    return f"{statistics.median(times):.2f} / {cut[98]:.2f} ms of {len(times)}"


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """A server of the starter program over an empty store in ``folder``."""
    made = [sys.executable, "-m", "server.cli.main", "init", str(folder / "site")]
    subprocess.run(made, cwd=servers.ROOT, check=True, capture_output=True)
    settings = {
        "RAPPORT_LISTEN_DECISIONS": "127.0.0.1:0", "RAPPORT_LISTEN_CONTROL": "127.0.0.1:0", "PYTHONPATH": str(servers.ROOT),
    }  # fmt: skip
    with servers.running([sys.executable, "-m", "server"], servers.cores()[0], settings, folder / "site") as server:
        yield server


def messages(customers: int, count: int, start: int, seed: int) -> list[tuple[int, bytes]]:
    """(last seq, message) of so many requests of ``ITEMS`` events for customers drawn at random."""
    generator = random.Random(seed)
    found = []
    for number in range(count):
        request = ingest_pb2.IngestRequest()
        for at in range(1, ITEMS + 1):
            item = request.items.add(seq=start + number * ITEMS + at)
            item.identifiers.add(namespace="crm", value=str(generator.randrange(customers)))
            item.event.type, item.event.key = "visit", f"{start + number * ITEMS + at}"
            item.event.fields["page"].string_value = "/home"
        found.append((start + (number + 1) * ITEMS, request.SerializeToString()))
    return found


class Feed:
    """One stream that sends prepared messages as fast as they are taken. Use as a context manager."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Bytes as they are: putting a message together again would be the generator's own work.
        call: Any = channel.stream_stream("/rapport.v1.IngestService/Ingest")
        self._stream: Iterator[bytes] = call(iter(self._queue.get, None))
        self.acked = 0
        self._acks: list[tuple[float, int]] = []  # when, and up to which seq; appended by the reader
        self._moved = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for data in self._stream:
            answer = ingest_pb2.IngestResponse.FromString(data)
            if answer.failures:
                raise ValueError(f"The server refuses an event: {answer.failures[0].failure.message}")
            with self._moved:
                self.acked = answer.acked
                self._acks.append((time.monotonic(), answer.acked))
                self._moved.notify_all()

    def send(self, data: bytes) -> None:
        """Hand a message over."""
        self._queue.put(data)

    def wait(self, seq: int) -> None:
        """Until everything up to ``seq`` is durable."""
        with self._moved:
            while self.acked < seq and self._reader.is_alive():
                self._moved.wait(1)

    def rate(self, begins: float) -> float:
        """Events a second from the first acknowledgement after that moment to the last; 0 where there are not two."""
        since = [ack for ack in self._acks if ack[0] >= begins]
        return (since[-1][1] - since[0][1]) / (since[-1][0] - since[0][0]) if len(since) > 1 else 0.0

    def close(self) -> None:
        """Half-close, and hear the last of it."""
        self._queue.put(None)
        self._reader.join()


@contextmanager
def importing(server: Serving, folder: Path, first: int, rows: int) -> Iterator[Callable[[], int]]:
    """An import of so many new customers, who are numbered from ``first``, while the block runs; how many the store has by now.

    It has begun when the block does. OSError where it ends before that.
    """
    (folder / "newcomers.yaml").write_text(MAPPING)
    lines = (f"n{number},N{number % 1000},{18 + number % 70},PT,{number % 2}\n" for number in range(first, first + rows))
    (folder / "newcomers.csv").write_text("id,name,age,country,vip\n" + "".join(lines))
    command = [sys.executable, "-m", "server.cli.main", "import", "newcomers.csv", "-m", "newcomers.yaml", "--program",
               str(Path("site", "program")), "--server", server.control, "--rows-per-second", str(ROWS_PER_S)]
    with grpc.insecure_channel(server.control) as control:
        stub = IngestServiceStub(control)

        def there() -> int:
            return int(stub.DescribeStore(ingest_pb2.DescribeStoreRequest()).customers)

        before = there()
        environment = {**os.environ, "PYTHONPATH": str(servers.ROOT)}
        with (
            tempfile.TemporaryFile("w+", dir=folder) as said,
            subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said) as process,
        ):
            try:
                while there() == before:
                    if process.poll() is not None:
                        said.seek(0)
                        raise OSError(f"the import has ended: {said.read().strip()}")
                yield there
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()


def writes(
    stub: DecisionServiceStub, token: str, count: int, keys: Iterator[int], beside: Path | None
) -> tuple[list[float], list[float]]:
    """Milliseconds of ``count`` Records, and of an fdatasync behind each where ``beside`` names a file."""
    recorded, synced = [], []
    with open(beside or os.devnull, "wb", buffering=0) as file:
        for _ in range(count):
            outcome = decision_pb2.Outcome(token=token, outcome="clicked", key=str(next(keys)))
            began = time.perf_counter()
            stub.Record(decision_pb2.RecordRequest(outcomes=[outcome]))
            recorded.append((time.perf_counter() - began) * 1e3)
            if beside is not None:
                os.pwrite(file.fileno(), PAGE, 0)
                began = time.perf_counter()
                os.fdatasync(file.fileno())
                synced.append((time.perf_counter() - began) * 1e3)
    return recorded, synced


def measure(rounds: int, seconds: float, rate: float, customers: int, into: Path) -> Figures:
    """All of it. OSError and ValueError when the server does not start or answers what it should not."""
    into.mkdir(parents=True, exist_ok=True)
    figures = Figures()
    _, core = servers.cores()
    with (
        tempfile.TemporaryDirectory(prefix="ingest-", dir=into) as folder,
        serving(Path(folder)) as server,
        grpc.insecure_channel(server.control) as control,
        grpc.insecure_channel(f"{server.host}:{server.port}") as decisions,
    ):
        os.sched_setaffinity(0, {core})
        # It answers from the start, and decides once its program is loaded.
        watched: Any = health_pb2_grpc.HealthStub(control)
        for health in watched.Watch(health_pb2.HealthCheckRequest()):
            if health.status == health_pb2.HealthCheckResponse.SERVING:
                break
        made = messages(customers, max(1, customers * 4 // ITEMS), 0, 1)
        feed = Feed(control)
        for _, data in made:
            feed.send(data)
        feed.wait(made[-1][0])
        last = made[-1][0]
        stub = DecisionServiceStub(decisions)
        asked = [
            decision_pb2.DecideRequest(
                identifiers=[values_pb2.Identifier(namespace="crm", value=str(number % customers))], channel="web",
                placements=[decision_pb2.PlacementRequest(name="home_hero")],
            )
            for number in range(1000)
        ]
        token = stub.Decide(asked[0]).placements[0].offers[0].token
        generator = Generator(
            server.host, server.port,
            [Call("decide", calls.DECIDE, [each.SerializeToString() for each in asked], 1.0, Kind.DECIDE)],
        )
        keys = iter(range(1 << 62))
        pace = Pace(seconds, rate, poisson=True)
        for number in range(rounds):
            recorded, synced = writes(stub, token, WRITES, keys, Path(folder) / "beside")
            # Longer than a feed gives way after an online write, unless the rounds are very short.
            alone = generator.run(pace)
            with importing(server, Path(folder), number * 10_000_000, int(seconds * 2 + 2) * ROWS_PER_S) as customers_there:
                began, before = time.monotonic(), customers_there()
                imported = generator.run(pace)
                figures.rows_per_s.append((customers_there() - before) / (time.monotonic() - began))
            # More than any stream has taken yet, for the feed must not end before the single writes beside it do.
            made = messages(customers, int(seconds * MOST_PER_S / ITEMS), last, 2 + number)
            last = made[-1][0]
            stop = threading.Event()

            def pour(made: list[tuple[int, bytes]] = made, stop: threading.Event = stop) -> None:
                sent = feed.acked
                for seq, data in made:
                    if stop.is_set():
                        break
                    feed.send(data)
                    sent = seq
                    # A bounded number ahead, so that the end of the round is the end of the stream.
                    feed.wait(seq - AHEAD)
                feed.wait(sent)

            pouring = threading.Thread(target=pour)
            before, used, began = feed.acked, measuring.used(server.pid)[0], time.monotonic()
            pouring.start()
            fed = generator.run(pace)
            figures.server_us.append((measuring.used(server.pid)[0] - used) * 1e6 / max(1, feed.acked - before))
            figures.events_per_s.append(feed.rate(began))
            began = time.monotonic()
            figures.record_fed += writes(stub, token, WRITES, keys, None)[0]
            figures.events_per_s_beside.append(feed.rate(began))
            stop.set()
            pouring.join()
            figures.decide_p99.append(alone.latency.percentile(99) / 1e6)
            figures.decide_p99_fed.append(fed.latency.percentile(99) / 1e6)
            figures.decide_p99_imported.append(imported.latency.percentile(99) / 1e6)
            figures.failed += sum(each.failed + each.unsent for each in (alone, imported, fed))
            figures.record += recorded
            figures.fdatasync += synced
        feed.close()
    return figures
