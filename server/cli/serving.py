"""serve, init, config, completion: what needs no running server."""

from __future__ import annotations

import enum
import json as json_text
from pathlib import Path
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from server.cli import show
from server.cli.commands import Json
from server.cli.exits import AlreadyThere
from server.config import Config

File = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="YAML or TOML. Default: RAPPORT_CONFIG, else rapport.yaml here.",
    ),
]


def serve(config: File = None) -> None:
    """Serve until SIGTERM. Prints where it listens; a second signal ends it at once."""
    # The core and its compiled modules, which no other command needs.
    from server import app

    app.run(Config.load(config))


def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write a configuration and a starter program into a folder."""
    from server.cli import starter

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyThere(str(folder))
    for name, text in starter.files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        show.err.print(f"wrote {path}", markup=False, soft_wrap=True)
    show.err.print(
        f"Next: cd {folder} && rapport serve, and in another window: rapport decide -c web -p home_hero -i cookie=c1",
        markup=False,
        soft_wrap=True,
    )


def config(config: File = None, json: Json = False) -> None:
    """Print every setting: its value in effect, where that came from, and when to change it."""
    effective = Config.load(config)
    if json:
        document = {
            row.key: {"value": value, "from": origin, "environment": row.environment, "when": row.when}
            for row, value, origin in effective.rows()
        }
        show.out.print(json_text.dumps(document, indent=2), markup=False, soft_wrap=True)
        return
    show.settings({row.key: (str(value), origin, row.when) for row, value, origin in effective.rows()})


class Shell(enum.StrEnum):
    """Shells that can complete."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="For which shell.")]) -> None:
    """Print a completion script: eval "$(rapport completion bash)"."""
    script = get_completion_script(prog_name="rapport", complete_var="_RAPPORT_COMPLETE", shell=shell.value)
    show.out.print(script, markup=False, soft_wrap=True)
