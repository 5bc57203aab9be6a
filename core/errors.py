"""Every error Rapport raises on purpose, in one tree.

A class takes facts, not prose: its constructor's arguments become ``metadata`` (what a machine reads), its
text is made from them, ``reason`` is stable and UPPER_SNAKE, and ``hint`` says what the reader can do next.
Branches are by whose mistake it is: the caller's (`RequestError`), the program owner's (`ProgramError`), the
model owner's (`ModelError`), the operator's (`StoreError`, `ConfigError`), or ours (`EngineFault`).
``server/status.py`` is the only place that maps them to gRPC status codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import ClassVar, Final

# Declared names that an error lists where none is near; more would hide the rest of it.
NAMES_TOLD: Final = 12


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name a reader most likely meant, or '' when none is close.

    >>> nearest("custmer", ["customer", "facts"])
    'customer'
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close:
        lower = {other.lower(): other for other in names}
        return lower.get(name.lower(), "")
    return close[0]


def moment(at_us: int) -> str:
    """A time in microseconds since 1970 as people write it.

    >>> moment(1_750_000_000_000_000), moment(2**63)
    ('2025-06-15T15:06:40Z', '9223372036854775808 us')
    """
    try:
        return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return f"{at_us} us"


class RapportError(Exception):
    """Base of all errors raised on purpose.

    ``metadata`` holds every variable of the text as strings, for ErrorInfo and ``--json``.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.metadata: dict[str, str] = {key: str(value) for key, value in facts.items()}

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip() if self.hint else self.message


# --- the caller's ---------------------------------------------------------------------------------------------


class RequestError(RapportError):
    """The request cannot be answered as it stands; sending it again unchanged fails again."""

    reason = "REQUEST_INVALID"


class UnknownName(RequestError):
    """A name (channel, placement, fact, attribute, namespace, offer, outcome, event type) nobody declared.

    ``known`` are those that are declared, None where they are too many to look at. ``field`` is where the name stands in the
    request, as in ``placements[1].name``; '' where nobody knows.
    """

    reason = "UNKNOWN_NAME"

    def __init__(
        self, kind: str, name: str, known: Iterable[str] | None = None, where: str = "", field: str = ""
    ) -> None:
        declared = list(known or ())
        close = nearest(name, declared)
        at = f" in {where}" if where else ""
        hint = f"Did you mean '{close}'?" if close else ""
        if not close and declared:
            more = "..." if len(declared) > NAMES_TOLD else "."
            hint = f"Declared: {', '.join(declared[:NAMES_TOLD])}{more}"
        elif not declared and known is not None:
            what, of, whose = kind.partition(" of ")
            hint = f"The program declares no {what}s{of}{whose}{at}."
        article = "an" if kind[:1] in "aeiou" else "a"
        told = f"There is no {kind} '{name}'{at}." if name else f"The name of {article} {kind} is empty{at}."
        super().__init__(told, hint=hint, kind=kind, name=name, nearest=close)
        self.field = field or kind

    def under(self, path: str) -> UnknownName:
        """The same where its place is a part of ``path``. It is changed, not copied: whoever caught it raises it again."""
        self.field = f"{path}.{self.field}"
        return self


class BadValue(RequestError):
    """A value of the wrong type, out of range, or malformed."""

    reason = "BAD_VALUE"

    def __init__(self, field: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{field}: {problem}.", hint=hint, field=field, problem=problem)

    def under(self, path: str) -> BadValue:
        """The same where its field is a part of ``path``.

        >>> str(BadValue("at", "lies in the future").under("events[2]"))
        'events[2].at: lies in the future.'
        """
        return BadValue(f"{path}.{self.metadata['field']}", self.metadata["problem"], self.hint)


class IdentityConflict(RequestError):
    """Identifiers that cannot be of one person: two of a namespace in which a customer has at most one."""

    reason = "IDENTITY_CONFLICT"

    def __init__(self, namespace: str) -> None:
        super().__init__(
            f"The identifiers are not of one person: they would have two of namespace '{namespace}', which is single.",
            hint="Nothing was changed. Look at each with rapport profile show, and send those of one person.",
            namespace=namespace,
        )


class NotUndoable(RequestError):
    """A join that is there no more, or that another one stands on."""

    reason = "NOT_UNDOABLE"

    def __init__(self, merge: int, problem: str, hint: str = "") -> None:
        super().__init__(f"Merge {merge} cannot be undone: {problem}.", hint=hint, merge=merge, problem=problem)


class SourceNotAllowed(RequestError):
    """A source sets an attribute, or grants a consent, that the program lets others set or grant."""

    reason = "SOURCE_NOT_ALLOWED"

    def __init__(self, name: str, source: str, allowed: Iterable[str], *, consent: bool = False) -> None:
        named = ", ".join(allowed)
        kind, verb = ("consent", "grant") if consent else ("attribute", "set")
        said = f"source '{source}' may not {verb} it" if source else "it was sent without a source"
        super().__init__(
            f"{kind.capitalize()} {name}: {said}.", hint=f"Its sources are {named}.",
            **{kind: name, "source": source, "allowed": named},
        )


class TooLarge(RequestError):
    """More of something than its limit allows. ``field`` is where it stands in the request; '' where nobody knows."""

    reason = "TOO_LARGE"

    def __init__(
        self, what: str, count: int, limit: int, hint: str = "Shorten it, or send it in several parts.", field: str = ""
    ) -> None:
        super().__init__(
            f"{what}: {count} is more than the limit of {limit}.", hint=hint, what=what, count=count, limit=limit
        )
        self.field = field

    def under(self, path: str) -> TooLarge:
        """The same where its place is ``path``, or a part of it. It is changed, not copied."""
        self.field = f"{path}.{self.field}" if self.field else path
        return self


class CustomerFull(TooLarge):
    """A customer has no room for more of something: identifiers, open cases, bytes of the record. Nothing was changed."""

    reason = "CUSTOMER_FULL"


class NotFound(RequestError):
    """The thing asked for is not there: a customer, a program version, a model, an instance.

    ``told`` says it where "<kind> '<name>' is not known here" would be no sentence that helps.
    """

    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str, hint: str = "", told: str = "") -> None:
        text = told or f"{kind[:1].upper()}{kind[1:]} '{name}' is not known here."
        super().__init__(text, hint=hint, kind=kind, name=name)


class HistoryFull(RequestError):
    """Something older than everything that a customer's full list, or retention, keeps; nothing is kept of it.

    ``what`` names the list, ``limit`` is how many it keeps, ``at_us`` when it happened.
    """

    reason = "HISTORY_FULL"

    def __init__(self, what: str, limit: int, at_us: int) -> None:
        super().__init__(
            f"What happened at {moment(at_us)} is older than everything that the {what} keeps (at most {limit} entries, and "
            "events no longer than the schema's retention says); it was not counted.",
            hint="Nothing that old can count any more; report what happens while it is new.",
            what=what, limit=limit, at=moment(at_us),
        )


class BadToken(RequestError):
    """An instance token that this installation did not issue, or that was altered."""

    reason = "BAD_TOKEN"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"The instance token was refused: {problem}.",
            hint="Send back the token of the Decide answer unchanged.",
            problem=problem,
        )


class PastLimit(RequestError):
    """A call whose bytes pass a limit of the transport; refused before it was read to its end."""

    reason = "TOO_LARGE"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} in bytes: more than the limit of {limit}.", what=what, limit=limit)


class NotServed(RequestError):
    """A method or an encoding that this address does not serve."""

    reason = "NOT_SERVED"

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} is not served here.", hint=hint, what=what)


class DeadlineTooShort(RequestError):
    """The caller's deadline had passed before any work began."""

    reason = "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("The deadline had passed before the decision began.")


# --- the program owner's --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a program's sources: 1-based line and column, as editors count."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a program: where it is, what it is, and what would be right."""

    where: Where
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" {self.hint}" if self.hint else "")


class ProgramError(RapportError):
    """A program that cannot be served. All problems at once, each with file, line and column."""

    reason = "PROGRAM_REFUSED"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = "\n".join(str(problem) for problem in self.problems)
        super().__init__(f"The program has {count} {noun}:\n{lines}", count=count)

    def under(self, folder: str) -> ProgramError:
        """The same with every file named as seen from outside the program's folder, so that an editor can open it there.

        >>> str(ProgramError([Problem(Where("offers/a.yaml", 3, 1), "No.")]).under("shop/").problems[0])
        'shop/offers/a.yaml:3:1: No.'
        """
        return ProgramError(
            [
                Problem(Where(str(PurePath(folder, at.where.file)), at.where.line, at.where.column), at.message, at.hint)
                for at in self.problems
            ]
        )


class EventsLost(RapportError):
    """A program keeps events for less long than the one before, and would have some deleted, without anybody having said so.

    ``losses`` are (type, days kept from now on, days before (None: without limit), events); ``more`` may follow.
    """

    reason = "EVENTS_LOST"

    def __init__(
        self, losses: Sequence[tuple[str, float, float | None, int]], more: bool,
        hint: str = "Keep them for as long as before, or load it with --accept-loss (accept_loss) if they are to go.",
    ) -> None:
        parts = [
            f"'{event}' for {days:g} days ({'without limit' if before is None else f'{before:g}'} before: "
            f"{'at least ' if more else ''}{count:,} {'event' if count == 1 else 'events'})"
            for event, days, before, count in losses
        ]
        super().__init__(
            f"The program keeps {' and '.join(parts)}; what is older would be deleted for good.", hint=hint,
            types=", ".join(event for event, *_ in losses), events=sum(count for *_, count in losses),
        )
        self.losses, self.more = tuple(losses), more

    def otherwise(self, hint: str) -> EventsLost:
        """The same with another way out."""
        return EventsLost(self.losses, self.more, hint)


class NoProgram(RapportError):
    """Nothing has been loaded yet, so nothing can be decided."""

    reason = "NO_PROGRAM"

    def __init__(self) -> None:
        super().__init__("No program is loaded.", hint="Load one: rapport program load FOLDER.")


# --- the model owner's ----------------------------------------------------------------------------------------


class ModelError(RapportError):
    """A model that cannot be served; the version before it serves on."""

    reason = "MODEL_REFUSED"

    def __init__(self, model: str, problem: str, hint: str = "") -> None:
        super().__init__(f"Model '{model}': {problem}.", hint=hint, model=model, problem=problem)


# --- the operator's -------------------------------------------------------------------------------------------


class StoreError(RapportError):
    """The store cannot do what was asked; what was acknowledged before is still there."""

    reason = "STORE_FAILED"


class StoreUnavailable(StoreError):
    """The store cannot be opened: a wrong path, permissions, another process, another format."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, path: str, problem: str, hint: str = "") -> None:
        super().__init__(f"Cannot open the store at {path}: {problem}.", hint=hint, path=path, problem=problem)


class StoreFull(StoreError):
    """The map or the disk is full: writes are refused, reads go on. ``undone`` says what did not come of it."""

    reason = "STORE_FULL"

    def __init__(self, what: str, hint: str, undone: str = "this change was not written") -> None:
        super().__init__(f"The {what} is full; {undone}.", hint=hint, what=what)


class StoreReadOnly(StoreError):
    """Writes are refused: a read-only file system, or an earlier failed write made the store refuse more."""

    reason = "STORE_READ_ONLY"

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"The store takes no writes: {problem}.", hint=hint, problem=problem)


class StoreCorrupt(StoreError):
    """A record or page fails its checks. Never answered from."""

    reason = "STORE_CORRUPT"

    def __init__(
        self, what: str, problem: str, hint: str = "Restore the store from a backup. What is undamaged stays as it is."
    ) -> None:
        super().__init__(f"{what} is damaged: {problem}.", hint=hint, what=what, problem=problem)


class BackupRefused(StoreError):
    """A place where no backup can be put. Nothing is left there, and the store is as it was."""

    reason = "BACKUP_REFUSED"

    def __init__(self, where: str, problem: str, hint: str) -> None:
        super().__init__(f"Cannot back up into {where}: {problem}.", hint=hint, where=where, problem=problem)


class RestoreRefused(StoreError):
    """A backup that cannot be restored as asked: it is damaged, not one, or something is in the way. Nothing was changed."""

    reason = "RESTORE_REFUSED"

    def __init__(self, where: str, problem: str, hint: str) -> None:
        super().__init__(f"Cannot restore: {where}: {problem}.", hint=hint, where=where, problem=problem)


class SchemaConflict(StoreError):
    """A program wants a namespace, an attribute or an event's field in a way that the stored data contradicts.

    ``path`` leads to the declaration in the schema, as in ("attributes", "age"); ``where`` is its place in a file, once known.
    """

    reason = "SCHEMA_CONFLICT"

    def __init__(self, path: Sequence[str], stored: str, wanted: str, where: str = "") -> None:
        kind = {"namespaces": "Namespace", "events": "Event field", "household": "Household attribute"}.get(path[0], "Attribute")
        name = ".".join(path[2:] if path[0] == "household" else path[1:])
        at = f"{where}: " if where else ""
        facts = {"name": name, "stored": stored, "wanted": wanted} | ({"where": where} if where else {})
        super().__init__(
            f"{at}{kind} '{name}' is stored as {stored}; the program declares {wanted}.",
            hint="Give the new meaning a new name; stored values keep their type.", **facts,
        )
        self.path = tuple(path)

    def at(self, where: Where) -> SchemaConflict:
        """The same with the declaration's place."""
        return SchemaConflict(self.path, self.metadata["stored"], self.metadata["wanted"], str(where))


class ImportRefused(RapportError):
    """An import that cannot start: a bad mapping, a missing column, an unreadable file."""

    reason = "IMPORT_REFUSED"

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{where}: {problem}.", hint=hint, where=where, problem=problem)


class MappingError(RapportError):
    """An import's mapping file that cannot be used. All problems at once, each with file, line and column."""

    reason = "MAPPING_REFUSED"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = "\n".join(str(problem) for problem in self.problems)
        super().__init__(f"The mapping has {count} {noun}:\n{lines}", count=count)


class ConfigError(RapportError):
    """A configuration key that is unknown, of the wrong type, or out of bounds."""

    reason = "CONFIG_INVALID"

    def __init__(self, key: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{key}: {problem}.", hint=hint, key=key, problem=problem)


class Draining(RapportError):
    """The server is shutting down and takes no new work."""

    reason = "DRAINING"

    def __init__(self) -> None:
        super().__init__("The server is draining.", hint="Send the request to another server, or again shortly.")


class Overloaded(RapportError):
    """More work than can be done in time; refused before it was begun."""

    reason = "OVERLOADED"

    def __init__(self, what: str, retry_after_ms: int) -> None:
        super().__init__(f"Too much {what} at once.", hint=f"Retry in {retry_after_ms} ms.", what=what,
                         retry_after_ms=retry_after_ms)
        self.retry_after_ms = retry_after_ms


# --- ours -----------------------------------------------------------------------------------------------------


class EngineFault(RapportError):
    """An invariant of our own does not hold. Always a bug; never caused by input."""

    reason = "ENGINE_FAULT"
