"""The composition root: from settings to a running server, and back to nothing.

Made in this order, undone in the reverse: store, models, engine, sweep, services, addresses. Whatever fails on the way up closes
what was opened before it and leaves as the error that it is. The addresses are bound before a program is compiled, so that a port
in use is told at once, and answer from the start: health says NOT_SERVING until a program is loaded. What settings alone tell to
be wrong is refused before a store is made.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from core.engine import Engine
from core.errors import ConfigError, EventsLost, ProgramError, RequestError, StoreCorrupt, StoreError
from core.hub.environment import Environment
from core.hub.pages import examine
from core.hub.preloading import preload, room
from core.hub.store import Store
from core.hub.watching import Alarm, Watch
from core.inference.registry import Registry, State, Version
from core.programs.collecting import paused
from core.scores import Scores
from core.segments import Segments
from core.sweep import Bands, Joins, Retention, Sweep
from server import front, logs, status
from server.config import Config
from server.process import Process, Served
from server.services import calls, decisions, ingest, models, profiles, programs, segments

# How long two looks at a model's files must agree before they are read: longer than the gaps in a copy.
SETTLE_SECONDS = 1.0
# Of threads that do not decide: 10 is a tenth of the weight of 0 (sched(7)).
NICE = 10


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises what kept the server from starting. Main thread only."""
    logs.configure(config.log_level, "json" if config.log_format == "json" else "console")
    log = logs.get("app")
    begun = time.monotonic()
    _plaintext(config)
    _repository(config)
    front.check(config)
    if config.programs_path and (config.programs_at_start == "always" or not _stored(config)):
        _folder(config)
    with contextlib.ExitStack() as opened:
        store = Store.open(config.store_path, **config.store_bounds)
        opened.callback(store.close)
        log.info("store open", path=config.store_path, customers=store.customer_count())
        if store.journal_gap:
            log.warning(
                "the journal has a gap", problem=store.journal_gap,
                hint="Take a backup now: a restore to a moment begins with it.",
            )

        with paused():
            registry = _registry(config)
            opened.callback(registry.close)
            engine = Engine(store, registry, on_lost=_lost)
            opened.callback(engine.close)
            sweep = Sweep([Bands(engine, calls.now_us), Joins(store), Retention(store)], clock_us=calls.now_us, on_error=_failed)
            sweep.add(Scores(engine, sweep.wake))
            segmented = Segments(engine, sweep, calls.now_us)
            opened.callback(sweep.stop)
            # Modules and the program stay until the end: no collection has to walk them, neither now nor while decisions run.
            gc.freeze()

        most = config.limits_control_message_bytes
        # ProgramService tells the process that a program serves, and the process serves ProgramService.
        process: list[Process] = []
        segmenting = segments.SegmentService(segmented, engine, store, most, max(1, config.threads_control // 2))
        deciding = decisions.DecisionService(engine, config.limits_message_bytes)
        feeding = ingest.IngestService(store, engine, os.path.realpath(config.store_path))
        process.append(
            Process(
                config,
                channels=[Served(decisions.NAME, deciding.handlers())],
                control=[
                    Served(
                        programs.NAME,
                        programs.ProgramService(engine, most, lambda version: process[0].ready()).handlers(),
                    ),
                    Served(profiles.NAME, profiles.ProfileService(store, most, engine.products).handlers()),
                    Served(models.NAME, models.ModelService(registry, most).handlers()),
                    Served(segments.NAME, segmenting.handlers(), segmenting.drain),
                    Served(ingest.NAME, feeding.handlers(), feeding.drain),
                ],
                front=None if config.shared else front.Front(config, deciding.methods(), engine),
            )
        )
        server = process[0]
        store.follow_writes(lambda trouble: _writes(server, trouble))
        server.take_signals()
        server.start()
        sweep.start()
        watch = _watch(config, store, server)
        opened.callback(watch.stop)
        opened.callback(status.follow_damage(watch.tell_damage))
        if config.store_watch_seconds > 0:
            watch.start()
        if not config.shared:
            _give_way()
        log.info("listening", **{key.replace(".", "_"): address for key, address in server.addresses.items()})
        try:
            if config.programs_path and (config.programs_at_start == "always" or not engine.loaded):
                version = _load(engine, config)
                log.info("program loaded", program=version)
        except BaseException:
            server.end()
            server.wait()
            raise
        if engine.loaded:
            server.ready()
            log.info("ready", program=engine.plan.version, seconds=round(time.monotonic() - begun, 3))
        else:
            log.warning("no program is loaded", hint="Load one: rapport program load FOLDER.")
        opened.callback(_preloading(store.environment, watch))
        if config.models_poll_seconds > 0:
            registry.watch(config.models_poll_seconds, _told)
        server.wait(before_exit=opened.pop_all().close)


def _preloading(environment: Environment, watch: Watch) -> Callable[[], None]:
    """Starts to read the store's file into memory and to look at its pages, beside what the server does; what it gives ends that.

    The watch is told of a page that is damaged. A store too large for memory is looked at by its backups only.
    """
    over = threading.Event()
    log = logs.get("app")

    def read() -> None:
        begun, most = time.monotonic(), room()
        try:
            done = preload(Path(environment.path) / "data.mdb", most, over)
        except OSError as error:
            log.warning("the store could not be read into memory", error=str(error), hint="Decisions read what they need.")
            return
        if done is None:
            log.info("the store is not read into memory", room=most, hint="It is larger: decisions read what they need.")
        elif not over.is_set():
            log.info("store in memory", bytes=done, seconds=round(time.monotonic() - begun, 3))
            look()

    def look() -> None:
        begun = time.monotonic()
        try:
            with environment.reader():
                examine(environment.path, values=True, over=over)
        except StoreCorrupt as error:
            watch.tell_damage(error)
        except StoreError as error:
            log.warning("the store's pages could not be looked at", error=str(error))
        else:
            log.info("store's pages are sound", seconds=round(time.monotonic() - begun, 3))

    reading = threading.Thread(target=read, name="store-preload")
    reading.start()

    def end() -> None:
        over.set()
        reading.join()

    return end


def _plaintext(config: Config) -> None:
    """What TLS is asked for is never served without it, and what stays without is told where others can reach it."""
    if not config.tls_certificate:
        return
    if config.shared:
        raise ConfigError(
            "listen.control",
            "makes one address of both, whose transport speaks no TLS, and tls.certificate is set",
            hint="Give listen.control an address of its own, or leave it empty for the port after that of listen.decisions.",
        )
    if not config.control_address.startswith(("unix:", "127.", "localhost:", "[::1]:")):
        logs.get("app").warning(
            "listen.control speaks no TLS", address=config.control_address, hint="Keep it on this machine: 127.0.0.1:7401."
        )


def _repository(config: Config) -> None:
    """A models.path that somebody set has to be there: a server without its models would serve fallbacks. The default need not,
    for many programs use no model."""
    folder = Path(config.models_path)
    if folder.is_dir() or (config.origins.get("models.path", "default") == "default" and not folder.exists()):
        return
    raise ConfigError(
        "models.path",
        f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}",
        hint="Correct the path, or make the folder; it may be empty.",
    )


def _watch(config: Config, store: Store, server: Process) -> Watch:
    """Looks after the store: a line in the log as an alarm begins and as it ends, and what health says of it."""
    log = logs.get("store")

    def begun(alarm: Alarm) -> None:
        server.tell_store(sound=False)
        log.warning("alarm", alarm=alarm.name, problem=alarm.problem, hint=alarm.hint)

    def ended(alarm: Alarm) -> None:
        server.tell_store(sound=not watch.alarms)
        log.info("alarm ended", alarm=alarm.name)

    watch = Watch(
        store.environment, config.store_thresholds, seconds=config.store_watch_seconds, begun=begun, ended=ended,
        journal_gone=lambda: store.journal_gone,
    )
    return watch


def _give_way() -> None:
    """Makes every thread but the data plane's, and those that they will start, a little less urgent to the kernel.

    Where they share a processor, a decision then waits for a Python thread no longer than it takes to interrupt it. A weight of
    a tenth leaves them enough to commit what is written however busy the loops are.
    """
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            if not (thread / "comm").read_text().startswith("rapport-"):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), NICE)


def _registry(config: Config) -> Registry:
    """The models, those already in the folder live where they pass."""
    folder = Path(config.models_path)
    registry = Registry(folder, settle_seconds=SETTLE_SECONDS)
    if not folder.is_dir():
        return registry
    registry.scan(at_start=True)
    if registry.settling:
        # Somebody copies into the folder at this moment; the second look tells whether he is done.
        threading.Event().wait(SETTLE_SECONDS)
        registry.scan()
    for version in registry.versions():
        _told(version)
    return registry


def _told(version: Version) -> None:
    """Log a model's state: whoever put it into the folder waits for no answer."""
    say = logs.get("models").warning if version.state is State.REFUSED else logs.get("models").info
    say("model", model=version.label, state=version.state.value, cause=version.cause)


def _load(engine: Engine, config: Config) -> str:
    # The readers of YAML, which a server that serves what it has needs not.
    from core.programs.source import read

    folder = _folder(config)
    try:
        return engine.load_program(read(folder).files, calls.now_us())
    except ProgramError as error:
        raise error.under(str(folder)) from error
    except EventsLost as error:
        raise error.otherwise(
            f"If they are to go, start once with RAPPORT_PROGRAMS_AT_START=when_none and load it: rapport program load {folder} "
            "--accept-loss. Else keep them for as long as before."
        ) from None


def _stored(config: Config) -> bool:
    return (Path(config.store_path) / "data.mdb").exists()


def _folder(config: Config) -> Path:
    folder = Path(config.programs_path)
    if not folder.is_dir():
        raise ConfigError(
            "programs.path", f"{folder} is not a folder", hint="Name the folder that holds program.yaml."
        )
    return folder


def _writes(server: Process, trouble: StoreError | None) -> None:
    """Tell health and the log that the store refuses writes, and that it takes them again."""
    server.writes(trouble is None)
    if trouble is None:
        logs.get("store").info("writes are taken again")
    else:
        logs.get("store").error("writes are refused", reason=trouble.reason, problem=trouble.message, hint=trouble.hint)


def _failed(task: str, error: BaseException) -> None:
    """Nobody waits for the sweep: only the log can tell."""
    logs.get("sweep").error("a task of the sweep failed; it is tried again in a minute", task=task, exc_info=error)


def _lost(error: BaseException) -> None:
    """An event sent along with a decision could not be kept: the decision was answered, so only the log can tell."""
    if isinstance(error, RequestError):
        # The caller's mistake, which the decision refuses too; where in our code it was seen helps nobody.
        logs.get("engine").warning("an event sent with a decision was not kept", reason=error.reason)
        return
    logs.get("engine").error("an event sent with a decision was not kept", exc_info=error)
