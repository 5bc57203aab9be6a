"""Exit codes of every command, after sysexits.h, so that scripts can tell whose turn it is.

| code | name | meaning |
| --- | --- | --- |
| 0 | OK | done |
| 1 | PARTLY | done, but some items were refused (rows of an import, outcomes of a report, a case that stays closed) |
| 2 | USAGE | the command line is wrong |
| 65 | DATA | what was sent is wrong: a request, a program, a model, a mapping |
| 66 | MISSING | a file, customer, version or model that is not there |
| 69 | UNAVAILABLE | no server answers, or the address or the store is taken |
| 70 | FAULT | a mistake of ours |
| 73 | EXISTS | something that would be overwritten is already there |
| 74 | STORE | the store is full, damaged or takes no writes; a backup or restore is refused; the output could not be written |
| 75 | LATER | overloaded, draining or late: the same again may succeed |
| 78 | CONFIG | a setting is wrong |
| 130 | INTERRUPTED | ended by Ctrl-C; the message says what is there |
| 143 | TERMINATED | an import that SIGTERM ended, likewise |
"""

from __future__ import annotations

import enum
from typing import Final

import grpc

from core import errors
from server.listener import AddressUnavailable


class Exit(enum.IntEnum):
    """What a command ends with."""

    OK = 0
    PARTLY = 1
    USAGE = 2
    DATA = 65
    MISSING = 66
    UNAVAILABLE = 69
    FAULT = 70
    EXISTS = 73
    STORE = 74
    LATER = 75
    CONFIG = 78
    INTERRUPTED = 130
    TERMINATED = 143


class Unusable(errors.RapportError):
    """A file or folder that cannot be read or written, told by the system."""

    reason = "FILE_UNUSABLE"

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}.", hint="Look at the path and at its permissions.", path=path, problem=problem)


class Unwritten(errors.RapportError):
    """Standard output, or a file that is being written, takes no more."""

    reason = "OUTPUT_UNWRITTEN"

    def __init__(self, problem: str, left: str = "what was done stands") -> None:
        super().__init__(
            f"The output could not be written: {problem}; {left}.", hint="Look at where it was sent to.", problem=problem,
        )


class AlreadyThere(errors.RapportError):
    """A file or folder that a command will not overwrite."""

    reason = "ALREADY_THERE"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is there already.", hint="Name another folder, or remove what is in the way.", path=path
        )


class InputMissing(errors.RapportError):
    """A file or folder named on the command line that cannot be read."""

    reason = "INPUT_MISSING"

    def __init__(self, path: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{path}: {problem}.", hint=hint, path=path, problem=problem)


class RemoteError(errors.RapportError):
    """An error that a server answered with, as it was told: reason, hint, metadata, and what is wrong in the input."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        hint: str,
        metadata: dict[str, str],
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message, hint=hint, **metadata)
        self.code = code
        self.told = reason
        self.violations = violations


_BY_CLASS: Final[dict[type[errors.RapportError], Exit]] = {
    errors.RapportError: Exit.FAULT,
    errors.RequestError: Exit.DATA,
    errors.NotFound: Exit.MISSING,
    errors.DeadlineTooShort: Exit.LATER,
    errors.ProgramError: Exit.DATA,
    errors.ModelError: Exit.DATA,
    errors.ImportRefused: Exit.DATA,
    errors.MappingError: Exit.DATA,
    errors.NoProgram: Exit.MISSING,
    errors.EventsLost: Exit.DATA,
    errors.StoreError: Exit.STORE,
    errors.StoreUnavailable: Exit.UNAVAILABLE,
    errors.SchemaConflict: Exit.DATA,
    errors.ConfigError: Exit.CONFIG,
    errors.Draining: Exit.LATER,
    errors.Overloaded: Exit.LATER,
    AddressUnavailable: Exit.UNAVAILABLE,
    AlreadyThere: Exit.EXISTS,
    Unusable: Exit.EXISTS,
    Unwritten: Exit.STORE,
    InputMissing: Exit.MISSING,
}

_BY_CODE: Final[dict[grpc.StatusCode, Exit]] = {
    grpc.StatusCode.INVALID_ARGUMENT: Exit.DATA,
    grpc.StatusCode.NOT_FOUND: Exit.MISSING,
    grpc.StatusCode.FAILED_PRECONDITION: Exit.STORE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Exit.LATER,
    grpc.StatusCode.DEADLINE_EXCEEDED: Exit.LATER,
    grpc.StatusCode.UNAVAILABLE: Exit.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED: Exit.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS: Exit.STORE,
}

_BY_REASON: Final[dict[str, Exit]] = {
    errors.TooLarge.reason: Exit.DATA,
    errors.IdentityConflict.reason: Exit.DATA,
    errors.NoProgram.reason: Exit.MISSING,
    errors.EventsLost.reason: Exit.DATA,
    errors.StoreFull.reason: Exit.STORE,
    errors.SchemaConflict.reason: Exit.DATA,
    errors.CustomerFull.reason: Exit.DATA,
    errors.Draining.reason: Exit.LATER,
}


def code_of(error: errors.RapportError) -> Exit:
    """The exit code of an error, here or from a server."""
    if isinstance(error, RemoteError):
        return _BY_REASON.get(error.told) or _BY_CODE.get(error.code, Exit.FAULT)
    for base in type(error).__mro__:
        if base in _BY_CLASS:
            return _BY_CLASS[base]
    return Exit.FAULT
