"""The list of commands, as typer runs it.

Commands talk gRPC to a running server, except serve, init, import and program validate, which work on files. Every command
takes ``--json`` where it prints a result. Exit codes: `server.cli.exits`.
"""

from __future__ import annotations

import typer

from server.cli import commands, demo, importing, models, profiles, programs, serving

app = typer.Typer(
    name="rapport",
    help="Real-time decisioning: which offer, price, item or prompt this customer gets, and why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 done in part, 2 usage, 65 wrong input, 66 not there, 69 no server, 70 fault, 73 in the way, "
    "74 store, 75 try later, 78 configuration.",
)
app.command("serve")(serving.serve)
app.command("init")(serving.init)
app.command("config")(serving.config)
app.command("import")(importing.load)
app.command("decide")(commands.decide)
app.command("explain")(commands.explain)
app.command("record")(commands.record)
app.command("tell")(commands.tell)
app.add_typer(profiles.app, name="profile")
app.add_typer(programs.app, name="program")
app.add_typer(models.app, name="model")
app.add_typer(demo.app, name="demo")
app.command("completion")(serving.completion)
