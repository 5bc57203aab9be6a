"""What the data plane holds of the process and of the kernel: threads, descriptors, listeners, certificates."""

from __future__ import annotations

import mmap
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from server import front as fronts
from server.config import Config
from server.transport import plane, refusals
from server.transport.tls import Context
from tests import raw_http2 as h2
from tests.conformance.party import Authority
from tests.front_subject import ROOT, FrontProcess, FrontSubject, decide
from tests.raw_http2 import Client


def eventually(true: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    bound = time.monotonic() + h2.SECONDS
    waited = threading.Event()
    while not true():
        assert time.monotonic() < bound, "it never came true"
        waited.wait(0.005)


def test_native_threads_have_names_from_their_beginning(tmp_path: Path) -> None:
    """A thread that named itself had its maker's name until it first ran. Who looks for the loops by name, to leave them their
    place before all other threads of the process, then slowed them with the rest."""
    with FrontProcess(tmp_path, settings={"threads_loops": 3, "threads_models": 2}) as server:
        tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
        names = Counter((task / "comm").read_text().strip() for task in tasks)
        assert (names["rapport-loop"], names["rapport-worker"]) == (3, 2)


@pytest.mark.parametrize("secure", [False, True])
def test_connections_leave_no_descriptor_however_they_end(secure: bool, tmp_path: Path) -> None:
    """A server lives for months, and one descriptor lost with each client that vanished would end it."""
    settings: dict[str, str] = {}
    context = None
    if secure:
        authority = Authority(tmp_path, "ours")
        pair = authority.sign("server")
        settings = {"tls_certificate": str(pair.certificate), "tls_key": str(pair.key)}
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.set_alpn_protocols(["h2"])

    with FrontProcess(tmp_path / "front", settings=settings) as server:
        held = Path(f"/proc/{server.process.pid}/fd")
        host, _, port = server.address.rpartition(":")

        def whole() -> None:
            with Client(server.address, tls=context).greet() as client:
                assert client.call(decide()).status == 0

        def half() -> None:
            with Client(server.address, tls=context).greet() as client:
                client.ask(None)

        def garbage() -> None:
            with socket.create_connection((host, int(port))) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n")

        def vanished() -> None:
            with socket.create_connection((host, int(port))) as raw:
                # Closed so, it is reset.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                raw.sendall(h2.MAGIC[:10])

        for kind in (whole, half, garbage, vanished):
            kind()
        eventually(lambda: server.counters()["open_connections"] == 0)
        before = len(list(held.iterdir()))
        for _ in range(25):
            for kind in (whole, half, garbage, vanished):
                kind()
        eventually(lambda: server.counters()["open_connections"] == 0)
        eventually(lambda: len(list(held.iterdir())) == before)


def in_epolls() -> list[str]:
    """The inodes, in hexadecimal, of what the epolls of this process watch, under whatever descriptor."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") != "anon_inode:[eventpoll]":
                continue
            entries = Path(f"/proc/self/fdinfo/{name}").read_text().splitlines()
        except FileNotFoundError:
            continue
        # tfd: 6 events: 19 data: 5591 pos:0 ino:1a2b sdev:9
        found += [line.rpartition("ino:")[2].split()[0] for line in entries if line.startswith("tfd:")]
    return found


def watched(listener: socket.socket) -> int:
    """How many epolls of this process watch a socket."""
    return in_epolls().count(f"{os.fstat(listener.fileno()).st_ino:x}")


def test_a_closed_connection_leaves_epoll_while_a_child_holds_its_descriptor(tmp_path: Path) -> None:
    """A model is tried in a child, which holds a copy of every socket until it executes something else. A socket closed
    meanwhile stayed in epoll, which told of it in every round, under an address that was free by then."""
    with FrontSubject(tmp_path, settings={"threads_loops": 1}) as subject:
        before = len(in_epolls())
        with Client(subject.address).greet() as client:
            assert len(in_epolls()) == before + 1
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(writing)
                os.read(reading, 1)  # until the parent is done, or dead
                os._exit(0)
            client.socket.shutdown(socket.SHUT_RDWR)  # the child has a copy of this one, too
        try:
            eventually(lambda: subject.front.counters()["open_connections"] == 0)
            assert len(in_epolls()) == before
        finally:
            os.close(writing)
            os.close(reading)
            os.waitpid(child, 0)


def test_a_loop_that_drains_forgets_its_unix_socket(tmp_path: Path) -> None:
    """Loops share one Unix socket by several descriptors. Closing one alone leaves the socket in that loop's epoll, which then
    tells of each new client without end, and the loop spins while its last calls are served."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        # This test's own descriptor goes on listening, as another loop's that is not there yet.
        made = plane.DataPlane(
            [listener.dup().detach() for _ in range(2)], workers=1, methods={h2.DECIDE: plane.HANDED},
            refusals=refusals.table(1000), limits=fronts._limits(Config(), 2),
        )
        made.start()
        try:
            assert watched(listener) == 2
            with Client(f"unix:{tmp_path / 's'}").greet() as client:
                half = client.ask(None)
                client.settle()
                made.drain()
                client.until(lambda: len(client.goaways) == 1)
                eventually(lambda: watched(listener) == 0)
                # And the call that was under way is served.
                client.send(h2.frame(h2.DATA, h2.END_STREAM, half, h2.message(b"abc")))
                handed = made.take()
                assert handed is not None
                handed.answer(b"answer")
                assert client.wait(half).message == b"answer"
                client.until_closed()
        finally:
            made.end()
            made.close()


def test_certificates_are_replaced_while_clients_connect_and_python_is_busy(tmp_path: Path) -> None:
    """A context must live until the last connection that was made with it, and each connection has one of the two, whole."""
    authority = Authority(tmp_path, "ours")
    pairs = [authority.sign("one"), authority.sign("two")]
    names = {ssl.PEM_cert_to_DER_cert(each.certificate.read_text()): each.certificate.stem for each in pairs}
    trusting = ssl.create_default_context(cafile=str(authority.certificate))
    trusting.set_alpn_protocols(["h2"])
    settings = {"tls_certificate": str(pairs[0].certificate), "tls_key": str(pairs[0].key)}
    shown: list[str] = []
    failed: list[BaseException] = []
    over = threading.Event()

    with FrontSubject(tmp_path / "front", settings=settings) as subject:

        def connect(count: int) -> None:
            try:
                for _ in range(count):
                    with Client(subject.address, tls=trusting).greet() as client:
                        assert client.call(decide()).status == 0
                        assert isinstance(client.socket, ssl.SSLSocket)
                        certificate = client.socket.getpeercert(binary_form=True)
                        assert certificate is not None
                        shown.append(names[certificate])
            except BaseException as error:
                failed.append(error)

        def spin() -> None:
            while not over.is_set():
                sum(range(1000))

        busy = threading.Thread(target=spin)
        clients = [threading.Thread(target=connect, args=(20,)) for _ in range(2)]
        for thread in (busy, *clients):
            thread.start()
        swaps = 0
        while any(thread.is_alive() for thread in clients):
            pair = pairs[swaps % 2]
            subject.front._plane.certificates(Context(str(pair.certificate), str(pair.key)))
            swaps += 1
        over.set()
        for thread in (busy, *clients):
            thread.join(h2.SECONDS)
            assert not thread.is_alive()
        assert not failed, failed
        assert len(shown) == 40
        assert set(shown) == {"one", "two"}, swaps
        # What was set last holds for whoever comes now.
        subject.front._plane.certificates(Context(str(pairs[1].certificate), str(pairs[1].key)))
        shown.clear()
        connect(4)
        assert shown == ["two"] * 4


# Connects again and again, and counts in the file's first eight bytes, which its parent reads without giving up Python's lock.
CONNECTING = """
import mmap, ssl, sys
from tests.front_subject import decide
from tests.raw_http2 import Client

address, authority, path = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.set_alpn_protocols(["h2"])
with open(path, "r+b") as file, mmap.mmap(file.fileno(), 8) as counted:
    done = 0
    while counted[7] == 0:
        with Client(address, tls=context).greet() as client:
            assert client.call(decide()).status == 0
        done += 1
        counted[:4] = done.to_bytes(4, "little")
"""


def test_a_busy_python_does_not_keep_the_loops_from_accepting_while_certificates_are_replaced(tmp_path: Path) -> None:
    """Whoever replaced them waited for Python's lock with the loops' lock held: no loop accepted until Python was done."""
    authority = Authority(tmp_path, "ours")
    pair = authority.sign("one")
    context = Context(str(pair.certificate), str(pair.key))
    shared = tmp_path / "counted"
    shared.write_bytes(bytes(8))
    go, begun = threading.Event(), threading.Event()
    seen: list[int] = []
    settings = {"tls_certificate": str(pair.certificate), "tls_key": str(pair.key)}
    with (
        FrontSubject(tmp_path / "front", settings=settings) as subject,
        shared.open("r+b") as file,
        mmap.mmap(file.fileno(), 8) as counted,
    ):
        client = subprocess.Popen(
            [sys.executable, "-c", CONNECTING, subject.address, str(authority.certificate), str(shared)], cwd=ROOT,
        )
        interval = sys.getswitchinterval()
        try:
            eventually(lambda: counted[0] > 0)

            def spin() -> None:
                go.wait()
                # From here on nothing gives up Python's lock. Some connections may be past the loops' lock already.
                begun.set()
                until = time.monotonic() + h2.SECONDS / 3
                first = last = int.from_bytes(counted[:4], "little")
                while last < first + 5 and time.monotonic() < until:
                    last = int.from_bytes(counted[:4], "little")
                seen.append(last - first)

            spinning = threading.Thread(target=spin)
            # Whoever has Python's lock keeps it until it waits for something.
            sys.setswitchinterval(h2.SECONDS)
            spinning.start()
            go.set()
            # The other thread gets Python's lock in the middle of one of these, the only place where it is given up.
            while not begun.is_set():
                subject.front._plane.certificates(context)
            spinning.join()
        finally:
            sys.setswitchinterval(interval)
            counted[7] = 1
            assert client.wait(h2.SECONDS) == 0
    assert seen[0] >= 5, "no loop accepted"


def loop_thread(server: FrontProcess) -> int:
    """The id of the only loop's thread."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    found = [int(task.name) for task in tasks if (task / "comm").read_text().strip() == "rapport-loop"]
    assert len(found) == 1
    return found[0]


def sleeps(server: FrontProcess, thread: int) -> int:
    """How often a thread has gone to sleep by itself."""
    for line in Path(f"/proc/{server.process.pid}/task/{thread}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise AssertionError("the kernel counts no switches")


def test_a_loop_that_polls_sleeps_only_when_calls_stay_away(tmp_path: Path) -> None:
    slept = {}
    for poll_us in (0, 100_000):
        settings = {"threads_loops": 1, "threads_busy_poll_us": poll_us}
        with FrontProcess(tmp_path / str(poll_us), settings=settings) as server, Client(server.address).greet() as client:
            loop = loop_thread(server)
            assert client.call(decide()).status == 0
            before = sleeps(server, loop)
            for _ in range(100):
                assert client.call(decide()).status == 0
            slept[poll_us] = sleeps(server, loop) - before
            rested = sleeps(server, loop)
            # It does not poll for ever.
            eventually(lambda: sleeps(server, loop) > rested)  # noqa: B023
    assert slept[100_000] * 2 < slept[0], slept


def test_loops_run_in_real_time_where_the_kernel_lets_them(tmp_path: Path) -> None:
    try:
        fronts._try_realtime()
    except ConfigError as error:
        pytest.skip(str(error))
    with FrontProcess(tmp_path, settings={"threads_loops": 1, "threads_realtime": True}) as server:
        loop = loop_thread(server)
        eventually(lambda: os.sched_getscheduler(loop) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR)
        tasks = {int(task.name) for task in Path(f"/proc/{server.process.pid}/task").iterdir()}
        assert {os.sched_getscheduler(task) for task in tasks - {loop}} == {os.SCHED_OTHER}


def test_a_kernel_that_refuses_real_time_is_told_before_anything_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an operator would believe in a guarantee that nothing gives."""

    def refuse(pid: int, policy: int, param: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(ConfigError, match=r"threads\.realtime.*not permitted") as refused:
        FrontSubject(tmp_path, settings={"threads_realtime": True}).__enter__()
    assert "CAP_SYS_NICE" in refused.value.hint
