"""``rapport``: the one place where an error becomes text and exit code.

The commands are listed in `server.cli.application`. ``serve`` as init systems start it, with at most its ``--config``, goes
straight to the server: the command line's packages take longer to load than the server needs until its first decision.
"""

from __future__ import annotations

import sys
from pathlib import Path

from core.errors import RapportError


def main() -> None:
    """Entry point of the ``rapport`` script."""
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
        from server.cli.exits import Unusable, code_of

        if isinstance(raised, RapportError):
            error: RapportError = raised
        elif raised.filename is None:
            raise
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
