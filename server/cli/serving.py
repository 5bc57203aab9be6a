"""serve, init, config, completion: what needs no running server."""

from __future__ import annotations

import enum
import json as json_text
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

from server.cli import show
from server.cli.commands import Json
from server.cli.exits import AlreadyThere, InputMissing, Unwritten
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


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder that is new, in one that is there, or empty: all of them, or nothing of them is left."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyThere(str(folder))
    if not folder.absolute().parent.exists():
        raise InputMissing(str(folder.absolute().parent), "there is no such folder", "Create it first, or look at the path.")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except BaseException as error:
        for each in folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink()
        if made:
            folder.rmdir()
        if isinstance(error, OSError) and error.filename is None:
            raise Unwritten(f"{folder}: {error.strerror}", "nothing of it is left") from error
        raise


def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder, in one that is there.")]) -> None:
    """Write a configuration and a starter program into a folder."""
    from server.cli import starter

    files = starter.files()
    write_folder(folder, {name: text.encode() for name, text in files.items()})
    for name in files:
        show.err.print(f"wrote {folder / name}", markup=False, soft_wrap=True)
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
