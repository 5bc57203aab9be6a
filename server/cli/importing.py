"""rapport import: a file of customers or events into the store, without a server.

One process owns a store. While a server runs on it the import is refused with what to do, rather than going through
the server row by row: it takes the fast way, whole columns at a time, which only the owner can.
"""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from core.errors import StoreUnavailable
from server.cli import show
from server.cli.commands import Json
from server.cli.exits import Exit, InputMissing
from server.cli.serving import File
from server.config import Config

if TYPE_CHECKING:
    from core.hub.importer import ImportReport


def load(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV or JSON Lines, .gz or not.")],
    mapping: Annotated[Path, typer.Option("--mapping", "-m", help="What the columns mean: a mapping file.")],
    program: Annotated[
        Path | None,
        typer.Option(
            "--program",
            show_default=False,
            help="The program whose schema declares the attributes. Default: programs.path, else what the store knows.",
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="The store's folder. Default: store.path.", show_default=False)
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            help="Where refused cells are written, of one FILE only. Default: FILE.rejects.csv beside each.",
            show_default=False,
        ),
    ] = None,
    config: File = None,
    json: Json = False,
) -> None:
    """Import files into the store. Exits with 1 when rows were refused; running it again changes nothing more."""
    # The store, and the expression parser for the program: only this command needs both.
    from core.hub import mapping as mappings
    from core.hub.importer import Importer, schema_of
    from core.hub.importer import Progress as Step
    from core.hub.store import Store
    from core.programs.source import check, read

    if rejects is not None and len(files) > 1:
        raise typer.BadParameter(
            f"{len(files)} files cannot share one list of refused cells: each import writes its own anew. Leave it out for "
            "FILE.rejects.csv beside each file, or import them one at a time.",
            param_hint="--rejects",
        )
    for file in (*files, mapping):
        if not file.is_file():
            raise InputMissing(str(file), "is not a file")
    settings = Config.load(config)
    folder = store or Path(settings.store_path)
    declaring = program or (Path(settings.programs_path) if settings.programs_path else None)
    declared = check(read(declaring)) if declaring is not None else None
    try:
        opened = Store.open(folder, map_bytes=settings.store_map_bytes)
    except StoreUnavailable as error:
        error.hint = (
            f"{error.hint} One process owns a store: stop the server on it, import, and start it again.".strip()
        )
        raise
    reports: list[ImportReport] = []
    with opened:
        if declared is not None:
            opened.declare(declared.schema, [offer.name for offer in declared.offers], declared.channels)
        schema = declared.schema if declared is not None else schema_of(opened.catalog)
        importer = Importer(opened, mappings.load(mapping, schema))
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=show.err,
            disable=json,
        )
        with bar:
            for file in files:
                task = bar.add_task(file.name, total=file.stat().st_size)

                def step(done: Step, task: TaskID = task) -> None:
                    bar.update(task, completed=done.bytes_done, total=done.bytes_total)

                reports.append(importer.run(file, rejects=rejects, progress=step))
                bar.update(task, completed=file.stat().st_size)
        customers = opened.customer_count()
    for report in reports:
        _json(report, customers) if json else _say(report)
    if not json:
        show.out.print(f"{customers} customers in {folder}", markup=False)
    if any(report.rejected for report in reports):
        raise typer.Exit(Exit.PARTLY)


def _say(report: ImportReport) -> None:
    show.out.print(
        f"{report.file}: {report.rows} rows, {report.applied} applied ({report.created} new customers, {report.changed} changed, "
        f"{report.unchanged} known before), {report.skipped} skipped, {report.rejected} rejected, {report.seconds:.1f} s",
        markup=False,
        soft_wrap=True,
    )
    for reason, count in report.reasons.most_common():
        show.out.print(f"  {count} rejected: {reason}", markup=False, soft_wrap=True)
    if report.rejects is not None:
        show.err.print(f"  the refused cells are in {report.rejects}", markup=False, soft_wrap=True)


def _json(report: ImportReport, customers: int) -> None:
    document = {
        "file": report.file,
        "mapping": report.mapping,
        "rows": report.rows,
        "applied": report.applied,
        "created": report.created,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "skipped": report.skipped,
        "rejected": report.rejected,
        "contested": report.contested,
        "reasons": dict(report.reasons),
        "rejects": str(report.rejects) if report.rejects else "",
        "seconds": round(report.seconds, 3),
        "customers": customers,
    }
    show.out.print(json_text.dumps(document), markup=False, soft_wrap=True)
