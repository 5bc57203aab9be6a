"""``rapport``: the one place where an error becomes text and exit code.

The commands are listed in `server.cli.application`. ``serve`` as init systems start it, with at most its ``--config``, goes
straight to the server: the command line's packages take longer to load than the server needs until its first decision.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from pathlib import Path
from typing import Final, TextIO

from core.errors import RapportError

# What only writing fails with, to standard output or a file that is open. EIO may be a disk that cannot be read.
_UNWRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF})
# A usage error's code, as `server.cli.exits` has it, which takes longer to load than a server to start.
_USAGE: Final = 2
# What holds without an option, of those that people look for when its value went missing in a script.
_WITHOUT: Final = {
    "--until": "the newest state", "--at": "now", "--as-of": "now",
    "--server": "the configuration's address",
}
_OPTION: Final = re.compile(r"--[a-z][a-z-]*")


def main() -> None:
    """Entry point of the ``rapport`` script."""
    _open_streams()
    if problem := _misread(sys.argv[1:]):
        print(f"Error: {problem}", file=sys.stderr)
        sys.exit(_USAGE)
    try:
        plainly, config = _plain_serve(sys.argv[1:])
        if plainly:
            from server import app
            from server.config import Config

            app.run(Config.load(config))
        else:
            from server.cli.application import app as commands

            commands(prog_name="rapport")
    except (RapportError, OSError) as raised:
        from server.cli import show
        from server.cli.exits import Unusable, Unwritten, code_of

        if isinstance(raised, RapportError):
            error: RapportError = raised
        elif raised.filename is not None:
            error = Unusable(str(raised.filename), raised.strerror or str(raised))
        elif raised.errno in _UNWRITTEN:
            error = Unwritten(raised.strerror or str(raised))
            _give_up(sys.stdout)
        else:
            raise
        try:
            if "--json" in sys.argv:
                show.error_json(error)
            else:
                show.error(error)
        except OSError:
            # Standard error is full too: the exit code alone is left.
            _give_up(sys.stderr)
        sys.exit(code_of(error))
    except KeyboardInterrupt:
        # Before the server, or a command, takes it itself; as shells count it.
        print("Interrupted as it began.", file=sys.stderr)
        sys.exit(130)


def _open_streams() -> None:
    """Standard streams that were closed (``>&-``) lead nowhere, and none takes for written what it wrote a part of.

    The numbers of closed ones would be given to the files opened next, the store's too, and whoever writes to 1 or 2 would
    write there. Unbuffered ones (PYTHONUNBUFFERED) ask no second time when a disk that fills took a part: a document ended in
    the middle, with exit code 0.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if stream is not None:
            if number and isinstance(getattr(stream, "buffer", None), io.RawIOBase):
                buffered = open(  # noqa: SIM115
                    stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)
                setattr(sys, name, buffered)
        else:
            # The lowest number that is free, which is this one.
            opened = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(opened, True)
            setattr(sys, name, open(opened, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _give_up(stream: TextIO) -> None:
    """Lead a stream that takes no more nowhere: what it holds would be tried again, and told, when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _misread(arguments: list[str]) -> str:
    """What is wrong with an argument whatever the command: it is no text, or an option's value is empty. "": nothing."""
    before = ""
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            return (
                f"argument {number}, {repr(os.fsencode(argument)[:80])[1:]}, is not UTF-8. Write it where text is UTF-8; a file "
                "of such a name wants another one."
            )
        option, equals, value = argument.partition("=")
        if not argument or (equals and not value and _OPTION.fullmatch(option)):
            empty = option or (before if before.startswith("-") else f"argument {number}")
            return f"{empty} is empty: give it a value, or leave it out for {_WITHOUT.get(empty, 'what holds without it')}."
        before = argument
    return ""


def _plain_serve(arguments: list[str]) -> tuple[bool, Path | None]:
    """Whether the arguments are ``serve`` or ``serve --config FILE``, and the file. Whatever else there is, typer reads."""
    match arguments:
        case ["serve"]:
            return True, None
        case ["serve", "--config", file] if file and not file.startswith("-"):
            return True, Path(file)
    return False, None


if __name__ == "__main__":
    main()
