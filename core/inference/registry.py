"""What is live: which version of each model serves, which were refused and why, and the way back.

A version goes through one gate, whoever brings it (a call, or a scan of the folder): read, tried in a child
process, loaded and checked here, offered to the listeners, and only then live. The engine is a listener: it
builds a plan with the new version beside the running one and raises when the program's schema does not carry the
model's inputs, which refuses the version. Until the last step nothing has changed for anybody, so a refusal costs
nothing and the version before serves on.

The runner of the version that was live before stays loaded, so that `rollback` takes no loading; older ones are let
go. A runner's memory is freed when the last plan and the last late run have dropped it.

Someone's explicit choice (`activate`, `rollback`) is kept in ``models/<name>/ACTIVE``, a line of text, and
survives a restart; without one the highest version that passes serves. A version put into the folder later, with
a higher number, is a new release and takes over.

Half-written copies: a version is read only when two looks at it, `settle_seconds` apart, saw the same files. The look
at the start of a process takes the file system's word instead: what last changed longer ago than that has settled.
`deploy` writes to a hidden folder beside, syncs, and renames.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from core.durable import sync_folder, write_file
from core.errors import ModelError, NotFound, RapportError
from core.inference.package import DESCRIPTION_FILE, MODEL_FILE, Description, Package, package
from core.inference.repository import Found, load, scan
from core.programs.model_binding import ModelBinding

if TYPE_CHECKING:
    from core.inference import trial
    from core.inference.runner import Runner

ACTIVE_FILE: Final = "ACTIVE"


class State(enum.Enum):
    """Where a version stands."""

    LIVE = "LIVE"  # serves
    READY = "READY"  # passed, and could serve
    REFUSED = "REFUSED"  # did not pass; the cause says why
    RETIRED = "RETIRED"  # served or passed before; no longer loaded, or gone from the folder


@dataclass(frozen=True, slots=True)
class Version:
    """One version as listings show it."""

    name: str
    version: int
    state: State
    cause: str = ""  # of a refusal, with the hint
    digest: str = ""  # SHA-256 of both files, hex
    since_us: int = 0  # when it came to this state, by the system clock
    facts: trial.Verdict | None = None  # what its trial found; None when refused or never tried

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A version that serves: what a plan needs. Holding it keeps the runner loaded."""

    name: str
    version: int
    digest: str
    description: Description
    runner: Runner
    binding: ModelBinding

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    @property
    def fallback(self) -> float | None:
        """What offers compete with when the model is late or fails; None: they leave."""
        return self.description.fallback

    def takes_text(self, position: int) -> bool:
        """Whether the columns of the input at this position are texts."""
        return self.runner.inputs[position].element == "string"


# Told the models that are about to be live, by name. Raising ModelError or ProgramError refuses the change.
Listener = Callable[[Mapping[str, LiveModel]], None]


class Registry:
    """The models of one installation. Every method may be called from any thread; changes are made one at a time.

    ``folder`` None keeps everything in memory: nothing is scanned, and what is deployed is gone with the process.
    """

    def __init__(self, folder: Path | None, *, settle_seconds: float = 1.0,
                 clock_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self.folder = folder
        self._settle_seconds = settle_seconds
        self._clock_us = clock_us
        # Held over a whole change, trial included, so that two deployments cannot pass each other. Readers never take it.
        self._changing = threading.RLock()
        # Replaced, never altered: readers take it without a lock.
        self._live: Mapping[str, LiveModel] = MappingProxyType({})
        self._versions: dict[tuple[str, int], Version] = {}  # changed under _changing, copied by versions()
        self._previous: dict[str, LiveModel] = {}  # by name: served before the live one, still loaded
        self._packages: dict[tuple[str, int], tuple[Package, trial.Verdict]] = {}  # without a folder: all there is
        self._listeners: list[Listener] = []
        self._seen: dict[tuple[str, int], tuple[tuple[tuple[int, int, int], ...], float]] = {}
        self._tried: dict[tuple[str, int], tuple[tuple[int, int, int], ...]] = {}
        self._ignored: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    # --- reading ----------------------------------------------------------------------------------------------

    def live(self) -> Mapping[str, LiveModel]:
        """The models that serve now, by name: an immutable snapshot."""
        return self._live

    def versions(self, name: str = "") -> tuple[Version, ...]:
        """Every version known, of one model or of all, by name and number."""
        # Copied without the lock, which a trial may hold for long: a dictionary's copy is one step to other threads.
        return tuple(version for key, version in sorted(self._versions.copy().items()) if name in ("", key[0]))

    def ignored(self) -> tuple[str, ...]:
        """What the last scan left alone in the folder, and why."""
        return self._ignored

    def listen(self, listener: Listener) -> None:
        """Adds a listener; it is told of changes from now on, on the thread that makes them, before they count."""
        with self._changing:
            self._listeners.append(listener)

    # --- changing ---------------------------------------------------------------------------------------------

    def deploy(self, name: str, version: int, model: bytes, description: bytes, *, activate: bool = True) -> Version:
        """Takes a version from bytes: tries it, keeps it in the folder, and (by default) makes it live.

        Deploying the same bytes again is no change. Raises ModelError when the version is refused or its number is
        taken by other bytes; the version before serves on.
        """
        source = package(name, version, model, description)
        with self._changing:
            known = self._versions.get((name, version))
            if known is not None and known.state is not State.REFUSED and known.digest != source.digest:
                raise ModelError(source.label, "this version exists with other contents",
                                 "Versions never change; deploy it under the next number.")
            if known is not None and known.digest == source.digest and known.state in (State.LIVE, State.READY):
                return self.activate(name, version) if activate and known.state is State.READY else known
            verdict = self._try(source)
            if self.folder is not None:
                self._keep(self.folder, source)
            entered = self._enter(source, verdict, activate=activate)
            if activate:
                self._remember(name, version)
            return entered

    def activate(self, name: str, version: int) -> Version:
        """Makes a version live that is in the folder or was deployed, and remembers the choice.

        Raises NotFound, or ModelError when it is refused; the version before serves on.
        """
        with self._changing:
            live = self._live.get(name)
            if live is None or live.version != version:
                previous = self._previous.get(name)
                if previous is not None and previous.version == version:
                    self._switch(previous)
                else:
                    self._switch(self._load(name, version))
            self._remember(name, version)
            return self._versions[(name, version)]

    def rollback(self, name: str) -> Version:
        """Makes the version live that served before. Nothing is loaded: it was kept for this.

        Raises NotFound when none served before.
        """
        with self._changing:
            previous = self._previous.get(name)
            if previous is None:
                raise NotFound(
                    "earlier version of model", name, "Name the version: rapport model list shows those there are.",
                    f"No version of model '{name}' served before the one that serves now.",
                )
            return self.activate(name, previous.version)

    def retire(self, name: str) -> None:
        """Takes a model out of service. Its folder stays; a scan does not bring it back, `activate` does.

        Raises NotFound, or what a listener raises when offers still need the model.
        """
        with self._changing:
            live = self._live.get(name)
            if live is None:
                raise NotFound("live model", name, told=f"No version of model '{name}' serves.")
            remaining = {key: model for key, model in self._live.items() if key != name}
            self._tell(remaining)
            self._live = MappingProxyType(remaining)
            self._previous.pop(name, None)
            self._mark(name, live.version, State.RETIRED)
            self._remember(name, 0)

    @property
    def settling(self) -> bool:
        """Whether the last scan left versions for a next one, because their files may still be being written."""
        return bool(self._seen)

    def scan(self, *, at_start: bool = False) -> tuple[Version, ...]:
        """Looks through the folder once; what changed state is given back. Nothing is raised: a refusal is a state.

        A version seen for the first time, or changed since, waits for the next look after `settle_seconds`; with
        ``at_start`` only if its files changed (inode's time of change, by the system's clock) within that time. Should
        the two clocks disagree, a half-written file is tried, refused, and tried again when it is whole.
        """
        if self.folder is None:
            return ()
        changed: list[Version] = []
        with self._changing:
            listing = scan(self.folder)
            self._ignored = listing.ignored
            here = {(found.name, found.version) for found in listing.found}
            self._seen = {key: seen for key, seen in self._seen.items() if key in here}
            for key, known in list(self._versions.items()):
                if key not in here and known.state in (State.READY, State.REFUSED):
                    # A refused one keeps its cause: of a deployment by call nothing ever lay in the folder.
                    changed.append(self._mark(*key, State.RETIRED, known.cause))
                    self._tried.pop(key, None)
            # Highest first: of several new releases only the best is loaded, the others are tried and wait.
            for found in sorted(listing.found, key=lambda entry: (entry.name, -entry.version)):
                if self._settled(found, at_start):
                    changed.extend(self._consider(found))
        return tuple(changed)

    def watch(
        self, every_seconds: float = 5.0, on_change: Callable[[Version], None] = lambda version: None
    ) -> None:
        """Scans from now on, on a thread of its own, until `close`; ``on_change`` is told what changed state."""
        if self._watcher is not None:
            return

        def look() -> None:
            while not self._stop.wait(every_seconds):
                for version in self.scan():
                    on_change(version)

        self._watcher = threading.Thread(target=look, name="rapport-models", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Ends watching. What is live stays so."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None

    # --- the gate ---------------------------------------------------------------------------------------------

    def _settled(self, found: Found, at_start: bool) -> bool:
        key = (found.name, found.version)
        if self._tried.get(key) == found.stamp:
            self._seen.pop(key, None)
            return False
        if at_start and found.stamp and self._clock_us() - found.changed_ns // 1000 > self._settle_seconds * 1e6:
            return True
        if not found.stamp:
            # Half a version is either being copied, which the next look shows, or stays a mistake to be told.
            self._seen.setdefault(key, ((), time.monotonic()))
        before = self._seen.get(key)
        if before is None or before[0] != found.stamp:
            self._seen[key] = (found.stamp, time.monotonic())
            before = self._seen[key]
        return time.monotonic() - before[1] >= self._settle_seconds

    def _consider(self, found: Found) -> list[Version]:
        key = (found.name, found.version)
        self._seen.pop(key, None)
        self._tried[key] = found.stamp
        known = self._versions.get(key)
        try:
            source = load(found)
            if known is not None and known.digest == source.digest and known.state is not State.RETIRED:
                return []
            if known is not None and known.state is State.LIVE:
                raise ModelError(source.label, "its files changed while it serves; the version as loaded serves on",
                                 "Versions never change; put the new files under the next number.")
            return [self._enter(source, self._try(source), activate=self._takes_over(found))]
        except RapportError as error:
            if known is not None and known.state is State.LIVE:
                self._versions[key] = replace(known, cause=str(error))
            else:
                self._mark(*key, State.REFUSED, str(error))
            return [self._versions[key]]

    def _takes_over(self, found: Found) -> bool:
        """Whether a version found in the folder is to serve: the chosen one, or a higher one released since the choice."""
        live = self._live.get(found.name)
        if live is not None and live.version >= found.version:
            return False
        chosen = self._chosen(found.name)
        if chosen is None or chosen == found.version:
            return True
        if chosen == 0 or found.version < chosen or self.folder is None:
            return False
        try:
            # The time of the inode's change: unlike the time of modification, a copy does not bring it along.
            released = (found.folder / MODEL_FILE).stat().st_ctime_ns
            return released > (self.folder / found.name / ACTIVE_FILE).stat().st_ctime_ns
        except OSError:
            return False

    def _try(self, source: Package) -> trial.Verdict:
        from core.inference import trial  # loads the runtime, which a start without models does not need

        try:
            return trial.run(source)
        except ModelError as error:
            known = self._versions.get((source.name, source.version))
            if known is None or known.state in (State.REFUSED, State.RETIRED):
                self._mark(source.name, source.version, State.REFUSED, str(error), source.digest)
            raise

    def _enter(self, source: Package, verdict: trial.Verdict, *, activate: bool) -> Version:
        """A tried version becomes READY, and live when asked for. Raises ModelError when it does not load or is not taken."""
        key = (source.name, source.version)
        facts = replace(verdict, model=b"")
        if self.folder is None:
            self._packages[key] = (source, verdict)
        self._versions[key] = Version(source.name, source.version, State.READY, "", source.digest, self._clock_us(), facts)
        if activate:
            try:
                self._switch(_loaded(source, verdict))
            except RapportError as error:
                self._mark(*key, State.REFUSED, str(error))
                if isinstance(error, ModelError):
                    raise
                raise ModelError(source.label, f"the running program cannot use it: {error}") from error
        return self._versions[key]

    def _load(self, name: str, version: int) -> LiveModel:
        key = (name, version)
        if key in self._packages:
            return _loaded(*self._packages[key])
        if self.folder is None:
            raise NotFound("model version", f"{name}/{version}", self._near(name))
        found = next((found for found in scan(self.folder).found if (found.name, found.version) == key), None)
        if found is None:
            raise NotFound("model version", f"{name}/{version}", self._near(name))
        source = load(found)
        # Tried again even when it passed before: the file may be another one, and activating an old version is rare.
        verdict = self._try(source)
        self._tried[key] = found.stamp
        self._versions[key] = Version(name, version, State.READY, "", source.digest, self._clock_us(),
                                      replace(verdict, model=b""))
        return _loaded(source, verdict)

    def _switch(self, model: LiveModel) -> None:
        """Tells the listeners, then swaps. When one raises, nothing has changed."""
        wanted = dict(self._live)
        wanted[model.name] = model
        self._tell(wanted)
        before = self._live.get(model.name)
        self._live = MappingProxyType(wanted)
        if before is not None and before.version != model.version:
            dropped = self._previous.get(model.name)
            if dropped is not None and dropped.version not in (model.version, before.version):
                self._mark(dropped.name, dropped.version, State.RETIRED)
            self._previous[model.name] = before
            self._mark(before.name, before.version, State.READY)
        self._mark(model.name, model.version, State.LIVE)

    def _tell(self, wanted: Mapping[str, LiveModel]) -> None:
        told: list[Listener] = []
        snapshot = MappingProxyType(dict(wanted))
        for listener in self._listeners:
            try:
                listener(snapshot)
            except BaseException:
                # Those told before go back to what is live; that was accepted before and is accepted again.
                for earlier in told:
                    earlier(self._live)
                raise
            told.append(listener)

    # --- notes ------------------------------------------------------------------------------------------------

    def _mark(self, name: str, version: int, state: State, cause: str = "", digest: str = "") -> Version:
        known = self._versions.get((name, version))
        if known is None:
            known = Version(name, version, state)
        entry = replace(known, state=state, cause=cause, digest=digest or known.digest, since_us=self._clock_us())
        self._versions[(name, version)] = entry
        return entry

    def _near(self, name: str) -> str:
        versions = sorted(version for known, version in self._versions if known == name)
        return f"Versions known: {', '.join(map(str, versions))}." if versions else "No version of it is known."

    def _chosen(self, name: str) -> int | None:
        """The version somebody chose, 0 for none at all; None when nobody chose."""
        if self.folder is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / name / ACTIVE_FILE).read_text("ascii"))
        return None

    def _remember(self, name: str, version: int) -> None:
        if self.folder is None or not (self.folder / name).is_dir():
            return
        path = self.folder / name / ACTIVE_FILE
        try:
            _write(path.with_name(f".{ACTIVE_FILE}"), f"{version}\n".encode())
            os.replace(path.with_name(f".{ACTIVE_FILE}"), path)
        except OSError as error:
            label = f"{name}/{version}"
            raise ModelError(label, f"it serves, but the choice cannot be written to {ACTIVE_FILE}: {error.strerror}",
                             "After a restart the highest version would serve; make the models folder writable.") from error

    def _keep(self, folder: Path, source: Package) -> None:
        """Writes a version into the folder: all of it or nothing, durable when this returns."""
        home = folder / source.name
        final = home / str(source.version)
        partial = home / f".{source.version}.{os.getpid()}.{threading.get_ident()}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            try:
                _write(partial / MODEL_FILE, source.model)
                _write(partial / DESCRIPTION_FILE, source.description)
                if final.exists():
                    known = self._versions.get((source.name, source.version))
                    if _digest(final, source) == source.digest:
                        shutil.rmtree(partial)
                        return
                    if known is None or known.state is not State.REFUSED:
                        raise ModelError(source.label, "this version exists in the folder",
                                         "Versions never change; deploy it under the next number.")
                    shutil.rmtree(final)
                os.rename(partial, final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            sync_folder(home)
        except OSError as error:
            raise ModelError(source.label, f"it cannot be kept in the models folder: {error.strerror}",
                             "Check the folder's permissions and the disk's free space.") from error
        for found in scan(folder).found:
            if (found.name, found.version) == (source.name, source.version):
                self._tried[(source.name, source.version)] = found.stamp


def _loaded(source: Package, verdict: trial.Verdict) -> LiveModel:
    from core.inference import trial
    from core.inference.description import describe

    description = describe(source)
    runner = trial.runner_of(source, description, verdict)
    return LiveModel(source.name, source.version, source.digest, description, runner, description.binding(runner.inputs))


def _digest(folder: Path, source: Package) -> str:
    try:
        return load(Found(source.name, source.version, folder, ())).digest
    except ModelError:
        return ""


def _write(path: Path, data: bytes) -> None:
    write_file(path, data)
    sync_folder(path.parent)
