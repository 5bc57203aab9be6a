"""rapport program: validate, load, list, show, rollback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from core.errors import ProgramError
from protos.rapport.v1 import program_pb2, program_pb2_grpc
from server.cli import client, show
from server.cli.commands import Json, Server
from server.cli.exits import Exit, InputMissing, RemoteError
from server.cli.serving import write_folder

app = typer.Typer(help="Programs: what marketers declare.", no_args_is_help=True, rich_markup_mode=None)
AcceptLoss = Annotated[
    bool, typer.Option("--accept-loss", help="Events may be deleted that a shorter retention keeps no longer.")
]
Folder = Annotated[Path, typer.Argument(help="The program's folder.")]


@app.command(short_help="Check a folder, without a server.")
def validate(folder: Folder, json: Json = False) -> None:
    """Check a folder, without a server: every problem with file, line and column. Exits with 65 when there are any."""
    from core.programs.source import Sources, check

    response = program_pb2.ValidateProgramResponse()
    try:
        with _placed(folder):
            program = check(Sources(_files(folder)))
        response.digest, response.offers = program.digest, len(program.offers)
    except ProgramError as error:
        for each in error.problems:
            response.problems.add(
                file=each.where.file,
                line=each.where.line,
                column=each.where.column,
                message=each.message,
                hint=each.hint,
            )
    if json:
        show.as_json(response)
    elif response.problems:
        show.problems(list(response.problems))
        count = len(response.problems)
        show.err.print(f"{count} {'problem' if count == 1 else 'problems'} in {folder}", markup=False)
    else:
        show.out.print(
            f"{folder} is in order: {response.offers} offers, digest {response.digest[:12]}", markup=False
        )
    if response.problems:
        raise typer.Exit(Exit.DATA)


@app.command(short_help="Send a folder to the server, which decides by it then.")
def load(folder: Folder, accept_loss: AcceptLoss = False, server: Server = None, json: Json = False) -> None:
    """Send a folder to the server, which checks it and decides by it from then on, or refuses it and changes nothing.

    One that keeps events for less long than before is refused with how many would be deleted, until --accept-loss is given.
    """
    with _placed(folder):
        request = program_pb2.LoadProgramRequest(files=_files(folder), accept_loss=accept_loss)
        with client.connected(client.address(server, control=True)) as link:
            response = program_pb2_grpc.ProgramServiceStub(link).LoadProgram(request, timeout=client.SLOW_SECONDS)
    show.as_json(response) if json else show.out.print(f"{response.program.version} decides now", markup=False)


@app.command("list")
def list_(server: Server = None, json: Json = False) -> None:
    """The versions that the server keeps, newest first."""
    with client.connected(client.address(server, control=True)) as link:
        response = program_pb2_grpc.ProgramServiceStub(link).ListPrograms(
            program_pb2.ListProgramsRequest(), timeout=client.QUICK_SECONDS
        )
    show.as_json(response) if json else show.programs(list(response.programs))


@app.command("show")
def show_(
    version: Annotated[str, typer.Argument(help="Such as bank@3. Default: the active one.")] = "",
    into: Annotated[
        Path | None, typer.Option("--into", help="Write them into this new folder, in one that is there.", show_default=False)
    ] = None,
    server: Server = None,
    json: Json = False,
) -> None:
    """The sources of a version, as they were loaded."""
    with client.connected(client.address(server, control=True)) as link:
        response = program_pb2_grpc.ProgramServiceStub(link).GetProgram(
            program_pb2.GetProgramRequest(version=version), timeout=client.SLOW_SECONDS
        )
    if into is not None:
        write_folder(into, response.files)
        show.err.print(f"{response.program.version} written to {into}", markup=False)
    elif json:
        show.as_json(response)
    else:
        for name in sorted(response.files):
            show.out.print(f"# --- {name}", markup=False)
            show.out.print(response.files[name].decode("utf-8", "replace"), markup=False, soft_wrap=True)


@app.command()
def rollback(
    version: Annotated[str, typer.Argument(help="Such as bank@3. Default: the one that decided before.")] = "",
    accept_loss: AcceptLoss = False,
    server: Server = None,
    json: Json = False,
) -> None:
    """Return to an earlier version."""
    with client.connected(client.address(server, control=True)) as link:
        response = program_pb2_grpc.ProgramServiceStub(link).RollbackProgram(
            program_pb2.RollbackProgramRequest(version=version, accept_loss=accept_loss), timeout=client.SLOW_SECONDS
        )
    show.as_json(response) if json else show.out.print(f"{response.program.version} decides now", markup=False)


@contextlib.contextmanager
def _placed(folder: Path) -> Iterator[None]:
    """Within it problems of a program, found here or by a server, name files as seen from the working directory.

    The server was sent files and knows no folder; whoever reads the problem wants to open the file.
    """
    try:
        yield
    except ProgramError as error:
        raise error.under(str(folder)) from error
    except RemoteError as error:
        if error.told != ProgramError.reason:
            raise
        # The last may stand for those that found no room, and has no place.
        placed = tuple((str(folder / where) if where else "", text) for where, text in error.violations)
        lines = [error.message.partition("\n")[0], *(f"{where}: {text}" if where else text for where, text in placed)]
        raise RemoteError(error.code, error.told, "\n".join(lines), error.hint, error.metadata, placed) from error


def _files(folder: Path) -> Mapping[str, bytes]:
    # The checker pulls in the expression parser, which commands that only call a server should not wait for.
    from core.programs.source import read

    if not folder.is_dir():
        raise InputMissing(str(folder), "is not a folder", hint="Name a folder with a program.yaml in it.")
    return read(folder).files
