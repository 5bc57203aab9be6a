"""The server's settings: one row each, with type, bounds, default, environment variable and when to change it.

A setting comes from its environment variable, else from the configuration file (YAML or TOML, by its ending), else from the
default. Paths in the file are relative to the file's folder, paths in the environment to the working directory.
What is unknown, of the wrong type or out of bounds is refused at start with the nearest right name; nothing is guessed.
`rapport config` prints what is in effect and where each value came from.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict

from core import limits
from core.errors import ConfigError, nearest
from server import logs

if TYPE_CHECKING:
    import yaml

    from core.hub.watching import Thresholds

# Where `rapport serve` looks when it is not told; made by `rapport init`.
FILE: Final = "rapport.yaml"
SAME: Final = "same"
LAST_PORT: Final = 65_535
FILE_ENVIRONMENT: Final = "RAPPORT_CONFIG"
# Sections inside each other: one, in what there is; an alias of what is around it has no end.
_SECTIONS_DEEP: Final = 8
# Settings of a section that an error lists.
_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one setting. ``low`` and ``high`` are inclusive; ``choices`` empty allows any text."""

    key: str
    when: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    path: bool = False

    @property
    def environment(self) -> str:
        """The environment variable that overrides it."""
        return "RAPPORT_" + self.key.upper().replace(".", "_")


def _row(
    key: str,
    when: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    path: bool = False,
) -> dict[str, Row]:
    return {"row": Row(key, when, low, high, choices, path)}


class StoreBounds(TypedDict):
    """How large a store and its journal may grow: what `Store.open` is given."""

    map_bytes: int
    journal_seconds: int
    journal_bytes: int


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in effect. A field's name is its key with an underscore; its type is the setting's type.

    ``origins`` says for each key where its value came from: 'default', 'file', or the environment variable.
    """

    listen_decisions: str = dataclasses.field(
        default="127.0.0.1:7400",
        metadata=_row(
            "listen.decisions",
            "Address of DecisionService: host:port, [v6]:port, or unix:/path. Port 0 takes a free "
            "one. Widen it beyond this "
            "machine only behind TLS or a private network.",
        ),
    )
    listen_control: str = dataclasses.field(
        default="",
        metadata=_row(
            "listen.control",
            "Address of the other services. Empty: the port after that of listen.decisions (a free one "
            "where that is 0). It speaks no TLS and serves DecisionService too: keep it on this machine or a private "
            "network. 'same': everything is served at listen.decisions, by the slower transport that these use.",
        ),
    )
    store_path: str = dataclasses.field(
        default="store",
        metadata=_row(
            "store.path",
            "Folder of the profiles' store. Put it on a local disk, never a network file system.",
            path=True,
        ),
    )
    store_map_bytes: int = dataclasses.field(
        default=limits.MAP_BYTES,
        metadata=_row(
            "store.map_bytes",
            "Address space reserved for the store: its upper bound, not what it takes. Lower it where"
            " a container limits virtual memory.",
            low=1 << 20,
            high=1 << 46,
        ),
    )
    store_journal_seconds: int = dataclasses.field(
        default=limits.JOURNAL_SECONDS,
        metadata=_row(
            "store.journal_seconds",
            "How long the journal in the store's folder is kept: so far back a backup can be brought to any moment after it.",
            low=0,
            high=10 * 365 * 86_400,
        ),
    )
    store_journal_bytes: int = dataclasses.field(
        default=limits.JOURNAL_BYTES,
        metadata=_row(
            "store.journal_bytes",
            "What the journal may take, in bytes: the oldest of it goes first. 0: none is kept, and a backup restores to its own "
            "moment only.",
            low=0,
            high=1 << 46,
        ),
    )
    store_watch_seconds: float = dataclasses.field(
        default=10.0,
        metadata=_row(
            "store.watch_seconds",
            "How often the server looks after its store and tells what will hurt: its log, and its health 'rapport.store'. 0: "
            "never.",
            low=0,
            high=3600,
        ),
    )
    store_alarm_percent: float = dataclasses.field(
        default=85.0,
        metadata=_row("store.alarm_percent", "Alarm from this much of store.map_bytes in use. 0: none.", low=0, high=100),
    )
    store_alarm_free_bytes: int = dataclasses.field(
        default=1 << 30,
        metadata=_row("store.alarm_free_bytes", "Alarm below this much room on the store's disk. 0: none.", low=0, high=1 << 46),
    )
    store_alarm_reader_seconds: float = dataclasses.field(
        default=600.0,
        metadata=_row(
            "store.alarm_reader_seconds",
            "Alarm when a process reads one state of the store for so long while others are written. 0: none.",
            low=0,
            high=86_400,
        ),
    )
    store_alarm_backup_seconds: float = dataclasses.field(
        default=7 * 86_400.0,
        metadata=_row(
            "store.alarm_backup_seconds",
            "Alarm when the newest backup that rapport store backup made is older, or there is none for so long. 0: none.",
            low=0,
            high=10 * 365 * 86_400,
        ),
    )
    programs_path: str = dataclasses.field(
        default="",
        metadata=_row(
            "programs.path",
            "Folder of a program to load at start. Empty: serve the store's active one.",
            path=True,
        ),
    )
    programs_at_start: str = dataclasses.field(
        default="when_none",
        metadata=_row(
            "programs.at_start",
            "Whether programs.path is loaded only while the store has no program, or at every start: "
            "choose always where the folder is "
            "deployed with the server, which then undoes a rollback.",
            choices=("when_none", "always"),
        ),
    )
    models_path: str = dataclasses.field(
        default="models",
        metadata=_row(
            "models.path",
            "Folder of the model repository: <name>/<version>/model.onnx and model.yaml. Once set it must be there; it may be "
            "empty.",
            path=True,
        ),
    )
    models_poll_seconds: float = dataclasses.field(
        default=5.0,
        metadata=_row(
            "models.poll_seconds",
            "How often the repository is looked through for new versions. 0: only at start and by DeployModel.",
            low=0,
            high=3600,
        ),
    )
    threads_loops: int = dataclasses.field(
        default=0,
        metadata=_row(
            "threads.loops",
            "Native threads that serve DecisionService, each with connections of its own; one uses a whole "
            "processor before the next helps. 0: one for each processor this process may use.",
            low=0,
            high=256,
        ),
    )
    threads_busy_poll_us: int = dataclasses.field(
        default=0,
        metadata=_row(
            "threads.busy_poll_us",
            "Microseconds for which a loop goes on asking for calls after the last one before it sleeps. Where calls come one by "
            "one, each is spared the time that waking takes; the loop's processor is busy all the while.",
            low=0,
            high=100_000,
        ),
    )
    threads_realtime: bool = dataclasses.field(
        default=False,
        metadata=_row(
            "threads.realtime",
            "Loops run under SCHED_RR: no other thread on their processor makes a decision wait. For machines with a "
            "processor more than loops, since a busy loop leaves others little. Needs CAP_SYS_NICE or an RLIMIT_RTPRIO of 1.",
        ),
    )
    threads_models: int = dataclasses.field(
        default=4,
        metadata=_row(
            "threads.models",
            "Native threads for decisions that may have to wait for a model. Raise it where slow models decide much.",
            low=1,
            high=256,
        ),
    )
    threads_handlers: int = dataclasses.field(
        default=4,
        metadata=_row(
            "threads.handlers",
            "Python threads behind DecisionService: reports, events, and every decision "
            "where listen.control is 'same'. They share one lock, so more help only while they wait.",
            low=1,
            high=256,
        ),
    )
    threads_control: int = dataclasses.field(
        default=4,
        metadata=_row(
            "threads.control",
            "Threads of the other services, when they have an address of their own. Raise it for many"
            " profile writers: each waits for the disk.",
            low=1,
            high=256,
        ),
    )
    limits_concurrent_calls: int = dataclasses.field(
        default=512,
        metadata=_row(
            "limits.concurrent_calls",
            "Calls taken in at once at an address; more are refused with RESOURCE_EXHAUSTED before "
            "they cost anything. Lower it when "
            "queueing shows in the tail.",
            low=1,
            high=100_000,
        ),
    )
    limits_message_bytes: int = dataclasses.field(
        default=limits.MESSAGE_BYTES,
        metadata=_row(
            "limits.message_bytes",
            "Largest request of DecisionService.",
            low=1024,
            high=limits.MESSAGE_BYTES,
        ),
    )
    limits_control_message_bytes: int = dataclasses.field(
        default=limits.MODEL_BYTES + (16 << 20),
        metadata=_row(
            "limits.control_message_bytes",
            "Largest request of the other services: a program's files together, a model's files "
            "together. Lower it where memory is short.",
            low=1 << 16,
            high=1 << 30,
        ),
    )
    limits_idle_seconds: float = dataclasses.field(
        default=0.0,
        metadata=_row(
            "limits.idle_seconds",
            "How long a connection of DecisionService may stay without a call. 0: for ever.",
            low=0,
            high=1e6,
        ),
    )
    limits_age_seconds: float = dataclasses.field(
        default=0.0,
        metadata=_row(
            "limits.age_seconds",
            "How old a connection of DecisionService may become before it is asked to go, so that clients "
            "spread anew over servers. 0: for ever.",
            low=0,
            high=1e6,
        ),
    )
    tls_certificate: str = dataclasses.field(
        default="",
        metadata=_row(
            "tls.certificate",
            "File of the certificate of listen.decisions (PEM), then those that lead to its authority. Empty: no TLS. "
            "Replaced files are used for new connections within seconds. The command line on this machine then uses "
            "listen.control; elsewhere it needs --ca and --server.",
            path=True,
        ),
    )
    tls_key: str = dataclasses.field(
        default="",
        metadata=_row("tls.key", "File of the certificate's private key (PEM, no passphrase).", path=True),
    )
    tls_client_authorities: str = dataclasses.field(
        default="",
        metadata=_row(
            "tls.client_authorities",
            "File of authorities (PEM): every client must show a certificate that one of them signed. Empty: none is asked.",
            path=True,
        ),
    )
    drain_seconds: float = dataclasses.field(
        default=20.0,
        metadata=_row(
            "drain.seconds",
            "How long calls may take to finish after SIGTERM. Keep it below what the supervisor "
            "allows before it kills.",
            low=0,
            high=3600,
        ),
    )
    log_level: str = dataclasses.field(
        default="info", metadata=_row("log.level", "Least severity that is logged.", choices=logs.LEVELS)
    )
    log_format: str = dataclasses.field(
        default="console",
        metadata=_row("log.format", "json for machines, console for people.", choices=("json", "console")),
    )
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, file: Path | None = None, environment: Mapping[str, str] | None = None) -> Self:
        """The settings in effect.

        ``file`` None looks at RAPPORT_CONFIG, then for rapport.yaml in the working directory, then does without a file.
        Raises ConfigError with the key, what is wrong and the nearest right name.
        """
        environment = os.environ if environment is None else environment
        if file is None:
            named = environment.get(FILE_ENVIRONMENT, "")
            file = Path(named) if named else Path(FILE)
            if not named and not file.exists():
                file = None
        try:
            written = _flatten(_read(file), str(file)) if file is not None else {}
        except RecursionError:
            raise ConfigError(
                str(file), "lists or sections are nested too deeply in it",
                hint="A setting is key: value, in one section; rapport config lists all.",
            ) from None
        known = {row.key for _, row in rows()}
        sections = {key.rpartition(".")[0] for key in known}
        for key, value in written.items():
            if key in sections and key and value not in (None, {}):
                inner = [each.removeprefix(f"{key}.") for each in sorted(known) if each.startswith(f"{key}.")]
                shown = ", ".join(inner[:_SHOWN]) + (", ..." if len(inner) > _SHOWN else "")
                raise ConfigError(
                    key, f"is a section of settings ({shown}), and is {value!r} (in {file})",
                    hint=f"Write one of them as {key}.{inner[0]}: VALUE, or as {key}: {{{inner[0]}: VALUE}}.",
                )
            if key not in known and key not in sections:
                close = nearest(key, known | sections)
                raise ConfigError(
                    key,
                    f"there is no such setting (in {file})",
                    hint=f"Did you mean '{close}'?" if close else "rapport config lists all settings.",
                )
        ours = {row.environment for _, row in rows()} | {FILE_ENVIRONMENT}
        for name in environment:
            close = nearest(name, ours) if name.startswith(_PREFIXES) and name not in ours else ""
            if close:
                raise ConfigError(
                    name, "this environment variable belongs to no setting", hint=f"Did you mean '{close}'?"
                )
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for field, row in rows():
            if row.environment in environment:
                origin, value = row.environment, _parse(field, row, environment[row.environment])
            elif row.key in written:
                origin, value = str(file), written[row.key]
                if row.path and isinstance(value, str) and value and file is not None:
                    value = str(file.parent / value)
            else:
                origin, value = "default", _default(field)
                if row.path and isinstance(value, str) and value and file is not None:
                    value = str(file.parent / value)
            values[field.name] = _check(field, row, value, origin)
            origins[row.key] = origin
        return cls(**values, origins=origins)

    def rows(self) -> Iterator[tuple[Row, bool | int | float | str, str]]:
        """Every setting with its value in effect and where that came from, in declared order."""
        for field, row in rows():
            yield row, getattr(self, field.name), self.origins.get(row.key, "default")

    @property
    def store_bounds(self) -> StoreBounds:
        """What every opening of the store for writing is given."""
        return {
            "map_bytes": self.store_map_bytes,
            "journal_seconds": self.store_journal_seconds,
            "journal_bytes": self.store_journal_bytes,
        }

    @property
    def store_thresholds(self) -> Thresholds:
        """Where the store's alarms begin."""
        from core.hub.watching import Thresholds

        return Thresholds(
            self.store_alarm_percent, self.store_alarm_free_bytes, self.store_alarm_reader_seconds,
            self.store_alarm_backup_seconds, self.store_journal_bytes > 0,
        )

    @property
    def shared(self) -> bool:
        """Whether one address serves everything; port 0 twice asks for two free ports."""
        same = self.listen_control == self.listen_decisions and not self.listen_control.endswith(":0")
        return same or self.listen_control == SAME

    @property
    def control_address(self) -> str:
        """Where the other services listen: as set, or beside listen.decisions."""
        if self.listen_control:
            return self.listen_decisions if self.shared else self.listen_control
        host, _, port = self.listen_decisions.rpartition(":")
        if self.listen_decisions.startswith("unix:"):
            return f"{self.listen_decisions}.control"
        if not port.isdigit():
            return self.listen_decisions
        if int(port) == LAST_PORT:
            raise ConfigError(
                "listen.control", f"there is no port after listen.decisions' {port}", hint="Give it an address of its own."
            )
        return f"{host}:{int(port) + 1 if int(port) else 0}"


def rows() -> list[tuple[dataclasses.Field[Any], Row]]:
    """Every setting's field and row, in declared order."""
    return [(field, field.metadata["row"]) for field in dataclasses.fields(Config) if "row" in field.metadata]


# Environment variables that look like a setting's, so that a misspelt one is noticed; RAPPORT_SHARED_DATA and its like are
# not ours to judge.
_PREFIXES: Final = tuple(
    sorted(
        {
            f"RAPPORT_{key}_"
            for key in ("LISTEN", "STORE", "PROGRAMS", "MODELS", "THREADS", "LIMITS", "TLS", "DRAIN", "LOG")
        }
    )
)


def _read(file: Path) -> object:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            str(file), f"cannot be read: {error.strerror}", hint="rapport init writes one."
        ) from error
    if file.suffix == ".toml":
        import tomllib

        try:
            return tomllib.loads(text.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(str(file), f"is not TOML: {error}") from error
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}
        _refuse_twice(node, str(file))
        return loader.construct_document(node) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), f"is not YAML: {error}") from error


def _refuse_twice(root: yaml.Node, file: str) -> None:
    """Raise ConfigError for a key or a section that a YAML file has twice: YAML keeps the last in silence."""
    import yaml

    settings: dict[str, yaml.Mark] = {}
    sections: list[tuple[str, yaml.Node]] = [("", root)]
    for prefix, section in sections:
        here: dict[str, yaml.Mark] = {}
        if not isinstance(section, yaml.MappingNode):
            continue
        if prefix.count(".") > _SECTIONS_DEEP:
            raise ConfigError(prefix.rstrip("."), f"is a section too deep in others (in {file})")
        for name, value in section.value:
            # Of another mapping's keys that are merged in, those written here hold.
            if not isinstance(name, yaml.ScalarNode) or name.value == "<<":
                continue
            key = f"{prefix}{name.value}"
            nested = isinstance(value, yaml.MappingNode)
            before = here.get(key) or (None if nested else settings.get(key))
            if before is not None:
                marks = sorted((before, name.start_mark), key=lambda mark: mark.index)
                places = " and ".join(f"{file}:{mark.line + 1}:{mark.column + 1}" for mark in marks)
                raise ConfigError(key, f"is set twice, at {places}", hint="Keep one of them.")
            here[key] = name.start_mark
            if nested:
                sections.append((f"{key}.", value))
            else:
                settings[key] = name.start_mark


def _flatten(document: object, file: str, prefix: str = "") -> dict[str, object]:
    """Nested sections to dotted keys; dotted keys may also be written as they are."""
    if not isinstance(document, Mapping):
        raise ConfigError(
            prefix.rstrip(".") or file, "must be a section of settings", hint="Write it as key: value."
        )
    flat: dict[str, object] = {}
    for name, value in document.items():
        key = f"{prefix}{name}"
        # An empty section stays, for its name may be mistyped.
        found = _flatten(value, file, f"{key}.") if isinstance(value, Mapping) and value else {key: value}
        for each in found:
            if each in flat:
                raise ConfigError(each, f"is set twice in {file}")
        flat.update(found)
    return flat


def _default(field: dataclasses.Field[Any]) -> bool | int | float | str:
    assert isinstance(field.default, bool | int | float | str), "every setting has a plain default"
    return field.default


def _parse(field: dataclasses.Field[Any], row: Row, text: str) -> object:
    kind = type(_default(field))
    try:
        # bool("false") is true.
        return {"true": True, "false": False}[text.strip().lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigError(row.key, f"{row.environment} must be {_NAMES[kind]}, and is '{text}'") from None


def _check(field: dataclasses.Field[Any], row: Row, value: object, origin: str) -> bool | int | float | str:
    kind = type(_default(field))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(row.key, f"must be {_NAMES[kind]}, and is {value!r} (from {origin})")
    assert isinstance(value, bool | int | float | str)
    if row.path and not value and _default(field):
        raise ConfigError(row.key, f"is empty (from {origin})", hint="Name a folder, or leave the setting out.")
    if row.choices and value not in row.choices:
        close = nearest(str(value), row.choices)
        raise ConfigError(
            row.key,
            f"must be one of {', '.join(row.choices)}, and is '{value}' (from {origin})",
            hint=f"Did you mean '{close}'?" if close else "",
        )
    if row.low is not None and row.high is not None and not row.low <= float(value) <= row.high:
        raise ConfigError(row.key, f"must be from {row.low} to {row.high}, and is {value} (from {origin})")
    return value


_NAMES: Final[dict[type, str]] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
