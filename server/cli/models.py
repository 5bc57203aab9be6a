"""rapport model: deploy, list, rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protos.rapport.v1 import model_pb2, model_pb2_grpc
from server.cli import client, show
from server.cli.commands import Json, Server
from server.cli.exits import InputMissing

app = typer.Typer(help="Models: what model owners deploy.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="The model's name, as programs write it.")]


@app.command(short_help="Try a version on the server and serve it.")
def deploy(
    name: Name,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="A folder with model.onnx and model.yaml. Default: the version lies in the server's repository.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[int, typer.Option("--version", min=0, max=2**32 - 1, help="Its number. 0: the next.")] = 0,
    server: Server = None,
    json: Json = False,
) -> None:
    """Validate a version on the server and serve it, or have it refused with the cause while the old one serves on."""
    request = model_pb2.DeployModelRequest(name=name, version=version)
    if folder is not None:
        for file in ("model.onnx", "model.yaml"):
            try:
                request.files[file] = (folder / file).read_bytes()
            except OSError as error:
                raise InputMissing(str(folder / file), f"cannot be read: {error.strerror}") from error
    with client.connected(client.address(server, control=True)) as link:
        response = model_pb2_grpc.ModelServiceStub(link).DeployModel(request, timeout=client.SLOW_SECONDS)
    show.as_json(response) if json else show.models([response.model])


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(help="Only this model.")] = "", server: Server = None, json: Json = False
) -> None:
    """The versions in the server's repository and what each is doing."""
    with client.connected(client.address(server, control=True)) as link:
        response = model_pb2_grpc.ModelServiceStub(link).ListModels(
            model_pb2.ListModelsRequest(name=name), timeout=client.QUICK_SECONDS
        )
    show.as_json(response) if json else show.models(list(response.models))


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int, typer.Option("--version", min=0, max=2**32 - 1, help="Its number. 0: the one that was live before.")
    ] = 0,
    server: Server = None,
    json: Json = False,
) -> None:
    """Return to an earlier version."""
    with client.connected(client.address(server, control=True)) as link:
        response = model_pb2_grpc.ModelServiceStub(link).RollbackModel(
            model_pb2.RollbackModelRequest(name=name, version=version), timeout=client.SLOW_SECONDS
        )
    show.as_json(response) if json else show.models([response.model])
