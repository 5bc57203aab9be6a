"""``rapport``: the one place where an error becomes text and exit code.

The commands are listed in `server.cli.application`. ``serve`` as init systems start it, with at most its ``--config``, goes
straight to the server: the command line's packages take longer to load than the server needs until its first decision.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from core.errors import RapportError

# Options that mean a moment: an empty one is a variable that was not set, and would be taken for the newest state, or for now.
_MOMENTS = ("--until", "--at", "--due")


def main() -> None:
    """Entry point of the ``rapport`` script."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    if problem := _unfit(sys.argv[1:]):
        print(f"Error: {problem}", file=sys.stderr)
        sys.exit(2)
    try:
        plainly, config = _plain_serve(sys.argv[1:])
        if plainly:
            from server import app
            from server.config import Config

            app.run(Config.load(config))
        else:
            from server.cli.application import app as commands

            try:
                commands(prog_name="rapport")
            finally:
                # Here, where what goes wrong can still be said.
                sys.stdout.flush()
    except (RapportError, OSError) as raised:
        from server.cli import show
        from server.cli.exits import Unusable, code_of

        if isinstance(raised, RapportError):
            error: RapportError = raised
        elif raised.filename is None:
            # Nothing else is written without a name. What Python still holds of it goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if isinstance(raised, BrokenPipeError):
                sys.exit(1)
            error = Unusable("the output", f"it could not be written ({raised.strerror or raised}); what was done stands")
        else:
            error = Unusable(str(raised.filename), raised.strerror or str(raised))
        if "--json" in sys.argv:
            show.error_json(error)
        else:
            show.error(error)
        sys.exit(code_of(error))
    except KeyboardInterrupt:
        # Before the server takes signals itself; as shells count it.
        sys.exit(130)


def _unfit(arguments: list[str]) -> str:
    """What is wrong with arguments that no option could take; '' where nothing is."""
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in _MOMENTS and not value and (argument != name or arguments[place + 1 : place + 2] == [""]):
            return f"{name} is empty. Leave it out where no moment is meant."
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument.encode(errors="backslashreplace").decode()
            return f"The argument '{shown}' is not UTF-8. Write it as UTF-8; a terminal in another encoding has to be told so."
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
