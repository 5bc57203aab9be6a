"""The list of commands, as typer runs it.

Commands talk gRPC to a running server, except serve, init, import, store and program validate, which work on files. Every command
takes ``--json`` where it prints a result. Exit codes: `server.cli.exits`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from server.cli import (
    cases,
    client,
    commands,
    demo,
    importing,
    keeping,
    models,
    profiles,
    programs,
    segments,
    serving,
    show,
)


class _Commands(TyperGroup):
    """All commands: whichever Ctrl-C ends, it is told."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with show.leaving("nothing was done."):
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with show.leaving("a change that was under way may have been made."):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    name="rapport",
    help="Real-time decisioning: which offer, price, item or prompt this customer gets, and why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 done in part, 2 usage, 65 wrong input, 66 not there, 69 no server, 70 fault, 73 in the way, "
    "74 store or output, 75 try later, 78 configuration, 130 interrupted.",
)


@app.callback()
def _every_command(
    ca: Annotated[
        Path | None,
        typer.Option("--ca", envvar="RAPPORT_CA", metavar="FILE", help="Speak TLS with --server, whose authority this is (PEM)."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", envvar="RAPPORT_CERTIFICATE", metavar="FILE", help="Shown to servers that ask for one."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", envvar="RAPPORT_KEY", metavar="FILE", help="The certificate's private key.")
    ] = None,
) -> None:
    # The help is the application's.
    client.speak_tls(ca, certificate, key)


app.command("serve")(serving.serve)
app.command("init")(serving.init)
app.command("config", short_help="Print every setting, its value and where that came from.")(serving.config)
app.command("import")(importing.load)
app.command("decide")(commands.decide)
app.command("explain", short_help="Ask why: the decision with a reason for every offer.")(commands.explain)
app.command("record")(commands.record)
app.command("tell")(commands.tell)
app.add_typer(profiles.app, name="profile")
app.add_typer(cases.app, name="case")
app.add_typer(segments.app, name="segment")
app.add_typer(keeping.app, name="store")
app.add_typer(programs.app, name="program")
app.add_typer(models.app, name="model")
app.add_typer(demo.app, name="demo")
app.command("completion")(serving.completion)
