"""Structured logs on standard error: one event a line, as JSON or for a person's eyes.

What may be said: names of programs, models, files, addresses, counts, durations, ids of faults. What may never be said: a
customer's identifiers, attributes, facts or events, nor a request or an answer. Nothing is logged for a decision. Values in
an exception's text can hold such data, so tracebacks name the frames and the exception's type; the text follows only for
Rapport's own errors about programs, models, store and configuration, which hold none.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from typing import Literal

import structlog

from core import errors

Format = Literal["json", "console"]
LEVELS = ("debug", "info", "warning", "error")


def configure(level: str, format: Format) -> None:
    """Set up logging for the process. ``level`` is one of LEVELS."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _frames,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _LINES,
        cache_logger_on_first_use=False,
    )
    # grpcio logs through the standard library, a traceback with the exception's text among it.
    library = logging.getLogger("grpc")
    library.handlers = [_Library()]
    library.propagate = False


def get(room: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines say which room of the server they come from."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return logger


class _Lines:
    """Writes to the standard error of the moment, for whoever replaces sys.stderr may close what was there before.

    A stream that takes nothing (a full disk, a pipe whose reader has died) costs the line, never the call it is about.
    """

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = msg


_LINES = _Lines()


class _Library(logging.Handler):
    """Passes a library's warnings on as events, without its arguments, which can hold a request."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            return
        error = record.exc_info[1] if record.exc_info else None
        get(record.name).log(record.levelno, str(record.msg), exc_info=error)


def _frames(
    logger: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replaces exc_info by the exception's type and frames, never its arguments."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        kind = type(error)
        event["error"] = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(error, errors.RapportError) and not isinstance(error, errors.RequestError):
            event["problem"] = str(error)
        event["frames"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        if error.__cause__ is not None:
            event["cause"] = type(error.__cause__).__qualname__
    return event
