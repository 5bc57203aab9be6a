"""rapport import: files of customers, events or cases into the store, with or without a server on it.

One process owns a store. Where that is a running server, or ``--server`` names one, rows are read and checked here and handed
over to it in blocks (server/cli/live_import.py); otherwise they go into the folder. A dry run only reads the store, and works
beside a server.
"""

from __future__ import annotations

import json as json_text
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from core.errors import ConfigError, EventsLost, ImportRefused, ProgramError, StoreUnavailable
from server.cli import client, show
from server.cli.commands import Json
from server.cli.exits import Exit, InputMissing, RemoteError
from server.cli.serving import File
from server.config import Config

if TYPE_CHECKING:
    from core.importing.importer import ImportReport
    from core.importing.importer import Progress as Step
    from server.cli.live_import import LiveStore

# How long a server on this machine may take to say whose store it has: an import waits for it before it starts.
ASK_SECONDS = 1.0
# Names that a server lacks, as many as one line of an error holds.
LACKING = 5


def load(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV, JSON Lines or Parquet, packed or not.")],
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
        Path | None,
        typer.Option(
            "--store", help="A store's folder. Default: store.path, where the first import makes one.", show_default=False
        ),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            help="Where refused cells are written, of one FILE only. Default: FILE.rejects.csv beside each.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, write nothing, and say what would happen.")
    ] = False,
    rows_per_second: Annotated[
        int | None,
        typer.Option(
            "--rows-per-second", min=1, help="Take no more rows a second, to leave disk and processor to others.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="HOST:PORT", show_default=False,
            help="Import into this running server (its listen.control). Default: the one that has the store, if any.",
        ),
    ] = None,
    config: File = None,
    json: Json = False,
) -> None:
    """Import files into the store, also of a running server. Exits with 1 when rows were refused; again, it changes nothing."""
    # The store, and the expression parser for the program: only this command needs both.
    from core.hub import keeping, retention
    from core.hub.catalog import Catalog
    from core.hub.store import Store
    from core.importing import mapping as mappings
    from core.importing.importer import Importer, Interrupted, Pace, lacking, schema_of
    from core.importing.rehearsal import Rehearsal
    from core.programs.program import products_of
    from core.programs.source import check, read
    from core.schema import unknown_product
    from server.cli.live_import import AHEAD, BLOCK_ROWS

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
    fresh = server is None and not (folder / "data.mdb").exists()
    if declaring is None and fresh:
        # Said before a store is made here, in what is most often the wrong folder.
        raise ImportRefused(
            str(mapping), f"no program declares what it maps to, and {folder} is no store",
            "Run it where rapport.yaml is, or name the program's folder: --program FOLDER",
        )
    if fresh:
        keeping.refuse_lost(str(folder))
    if fresh and store is not None:
        raise StoreUnavailable(
            str(folder), "there is no store in it",
            "Name the folder of one, or leave --store out: the first import makes one at store.path.")
    try:
        declared = check(read(declaring)) if declaring is not None else None
    except ProgramError as error:
        raise error.under(str(declaring)) from error
    pace = Pace(rows_per_second) if rows_per_second is not None else None
    reports: list[ImportReport] = []
    with ExitStack() as stack:
        opened: Store | None = None
        live: LiveStore | None = None
        if server is not None:
            if dry_run:
                raise typer.BadParameter("A dry run reads a store's folder: leave --server out.", param_hint="--dry-run")
            live = _live(stack, client.address(server, control=True))
        elif not (dry_run and fresh):
            if fresh and declared is not None:
                _elsewhere(folder, settings)
                # What is refused is refused before a store is made.
                would = Catalog().declared(declared.schema, [offer.name for offer in declared.offers], declared.channels)
                looking = Importer(Rehearsal(would, None), mappings.load(mapping, declared.schema))
                with show.leaving("no store was made."):
                    looking.look(files[0], rejects=rejects)
            try:
                opened = stack.enter_context(
                    Store.open(folder, read_only=dry_run, **settings.store_bounds)
                )
            except StoreUnavailable as error:
                live = None if dry_run else _owner(stack, folder, settings)
                if live is None:
                    if not dry_run:
                        error.hint = (
                            f"{error.hint} If a server has it, name its listen.control: --server HOST:PORT.".strip()
                        )
                    raise
        if fresh and opened is not None:
            show.err.print(f"There was no store in {folder.resolve()}: it is a new one.", markup=False, soft_wrap=True)
        elif opened is not None and not dry_run:
            _elsewhere(folder, settings)
        known = opened.catalog if opened is not None else live.catalog if live is not None else Catalog()
        if declared is not None:
            offers = [offer.name for offer in declared.offers]
            if opened is not None and not dry_run:
                try:
                    retention.keep_all(opened, declared.schema, time.time_ns() // 1_000)
                except EventsLost as error:
                    raise error.otherwise(
                        "An import deletes nothing: load the program first (rapport program load FOLDER --accept-loss), or "
                        "import with the one that the store knows."
                    ) from None
                opened.declare(declared.schema, offers, declared.channels)
            elif live is not None or (dry_run and opened is not None and _served(folder, settings)):
                if new := lacking(known, declared.schema, declared.channels):
                    named = ", ".join(new[:LACKING]) + (f" and {len(new) - LACKING} more" if len(new) > LACKING else "")
                    raise ImportRefused(
                        str(declaring), f"the program declares what the running server does not know: {named}",
                        f"Load it into the server first (rapport program load {declaring}), or import with the program that it "
                        "runs: --program FOLDER.",
                    )
            else:
                known = known.declared(declared.schema, offers, declared.channels)
        schema = declared.schema if declared is not None else schema_of(known)
        read_mapping = mappings.load(mapping, schema)
        rehearsal: Rehearsal | None = None
        if live is not None:
            importer = Importer(live, read_mapping, batch_rows=BLOCK_ROWS, ahead=AHEAD)
        elif opened is None or dry_run:
            reader = stack.enter_context(opened.environment.reader()) if opened is not None else None
            rehearsal = Rehearsal(known, reader)
            importer = Importer(rehearsal, read_mapping)
        else:
            importer = Importer(opened, read_mapping)
        bring = importer.rehearse if dry_run else importer.run
        customers = 0
        for file in files:
            with _terminated() as terminated:
                try:
                    with _telling(quiet=json) as tell:
                        report = bring(file, rejects=rejects, progress=tell(file), pace=pace)
                except KeyboardInterrupt as stopped:
                    _say_interrupted(file, stopped.report if isinstance(stopped, Interrupted) else None, dry=dry_run)
                    raise typer.Exit(Exit.TERMINATED if terminated else Exit.INTERRUPTED) from None
            customers = opened.customer_count() if opened is not None else live.customer_count() if live is not None else 0
            products = products_of(declared) if declared is not None and report.products else frozenset()
            warnings = [each for name in sorted(report.products) if (each := unknown_product(name, products))]
            # At once: the next file may be refused, and this one is in the store.
            _json(report, customers, warnings) if json else _say(report, warnings)
            reports.append(report)
    if not json:
        # The whole path: "store" alone would be read as the word.
        place = live.path if live is not None else folder.resolve()
        show.out.print(f"{customers} customer{'' if customers == 1 else 's'} in {place}", markup=False, soft_wrap=True)
        if rehearsal is not None and not rehearsal.exact:
            show.err.print("  so many new customers that one who occurs twice may be counted twice", markup=False)
    if any(report.rejected for report in reports):
        raise typer.Exit(Exit.PARTLY)


def _live(stack: ExitStack, target: str) -> LiveStore:
    """The store of the server at ``target``."""
    from server.cli.live_import import LiveStore

    return stack.enter_context(LiveStore(stack.enter_context(client.connected(target)), target))


def _owner(stack: ExitStack, folder: Path, settings: Config) -> LiveStore | None:
    """The store in ``folder`` through the server that has it, if that is the one that ``settings`` name."""
    from server.cli.live_import import serves

    try:
        # Around the block: a call that fails is told as RemoteError where its connection ends.
        with ExitStack() as tried:
            live = _live(tried, client.address(None, control=True, settings=settings))
            if serves(live, folder):
                stack.enter_context(tried.pop_all())
                return live
    except (RemoteError, ConfigError):
        pass
    return None


def _served(folder: Path, settings: Config) -> bool:
    """Whether the server that ``settings`` name has the store in ``folder``: an import would go through it."""
    with ExitStack() as stack:
        return _owner(stack, folder, settings) is not None


def _elsewhere(folder: Path, settings: Config) -> None:
    """Say it when the server that ``settings`` name has another store: whoever imports looks for the rows there.

    Raises StoreUnavailable when it has the one that was in ``folder``, for then the folder was moved while it was served.
    """
    from protos.rapport.v1 import ingest_pb2
    from protos.rapport.v1.ingest_pb2_grpc import IngestServiceStub

    try:
        target = client.address(None, control=True, settings=settings)
        with client.connected(target) as link:
            described = IngestServiceStub(link).DescribeStore(ingest_pb2.DescribeStoreRequest(), timeout=ASK_SECONDS)
    except (RemoteError, ConfigError):
        return
    if described.path == str(folder.resolve()):
        raise StoreUnavailable(
            str(folder), f"the store of the server at {target} was here, and was moved while it is served",
            "Stop that server, move the folder back, and import again.")
    show.err.print(
        f"The server at {target} serves {described.path}; this goes into {folder.resolve()}.", markup=False, soft_wrap=True
    )


@contextmanager
def _telling(*, quiet: bool) -> Iterator[Callable[[Path], Callable[[Step], None] | None]]:
    """What to call with a file to get what its import reports progress to: bars on a terminal, lines elsewhere."""
    if quiet:
        yield lambda _: None
    elif not show.err.is_terminal:
        yield lines
    else:
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TextColumn("{task.fields[rows]}"), TimeRemainingColumn(), console=show.err,
        )

        def bars(file: Path) -> Callable[[Step], None]:
            task = bar.add_task(file.name, total=file.stat().st_size, rows="")
            began = time.monotonic()

            def step(done: Step) -> None:
                rate = done.rows / max(time.monotonic() - began, 1e-3)
                bar.update(
                    task, completed=done.bytes_done, total=done.bytes_total, rows=f"{done.rows:,} rows, {rate:,.0f}/s"
                )

            return step

        with bar:
            yield bars


def lines(file: Path, *, clock: Callable[[], float] = time.monotonic) -> Callable[[Step], None]:
    """Progress for a log: a line on standard error every `show.LINE_SECONDS`, with rate and time left by the rows so far."""
    began = clock()
    told = began

    def step(done: Step) -> None:
        nonlocal told
        now = clock()
        if now - told < show.LINE_SECONDS or done.bytes_done <= 0:
            return
        told = now
        left = (now - began) * (done.bytes_total - done.bytes_done) / done.bytes_done
        print(
            f"{file.name}: {100 * done.bytes_done // max(1, done.bytes_total)} %, {done.rows} rows, "
            f"{done.rows / (now - began):.0f} rows/s, {left:.0f} s left",
            file=sys.stderr, flush=True,
        )

    return step


def _say(report: ImportReport, warnings: Sequence[str]) -> None:
    from core.importing.importer import EXAMPLES

    if report.dry:
        show.out.print(
            f"{report.file} (dry run, nothing was written): {report.rows} rows, {report.applied} would be applied "
            f"({_made(report)}, {report.changed} rows of known ones), {report.skipped} skipped, "
            f"{report.rejected} rejected, {report.seconds:.1f} s",
            markup=False,
            soft_wrap=True,
        )
    else:
        _say_done(report)
    for reason, count in report.reasons.most_common():
        show.out.print(f"  {count} rejected: {reason}", markup=False, soft_wrap=True)
    if report.rejects is not None:
        show.err.print(f"  the refused cells are in {report.rejects}", markup=False, soft_wrap=True)
    elif report.dry:
        for line, column, value, reason in report.examples:
            show.out.print(f"  line {line}, {column or 'the row'}: '{value}': {reason}", markup=False, soft_wrap=True)
    if report.contested:
        of = " or ".join(name if name == column else f"{name} (column {column})" for name, column in report.contestable)
        stayed = f"1 identifier of {of} belongs to another and stayed there" if report.contested == 1 else (
            f"{report.contested:,} identifiers of {of} belong to others and stayed with them")
        shown = ", ".join(f"{line}" for line in report.contested_lines)
        more = " and more" if len(report.contested_lines) == EXAMPLES else ""
        show.err.print(f"  {stayed}: {'lines' if ',' in shown else 'line'} {shown}{more}", markup=False, soft_wrap=True)
    for name in report.unseen:
        show.err.print(f"  no row has '{name}', which the mapping names", markup=False, soft_wrap=True)
    for warning in warnings:
        show.err.print(f"  {warning}", markup=False, soft_wrap=True)


@contextmanager
def _terminated() -> Iterator[list[int]]:
    """SIGTERM raises KeyboardInterrupt in here, and is in the list then: whoever ends an import is told what is there."""
    received: list[int] = []

    def end(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_interrupted(file: Path, report: ImportReport | None, *, dry: bool) -> None:
    """Say what of ``file`` is in the store; without a report, which only the middle of a file has, what can be done."""
    if dry:
        there = "nothing was written, for this was a dry run."
    elif report is None:
        there = "The same command adds what of it is not in the store, and changes nothing else."
    elif not report.applied:
        there = "nothing of it is in the store."
    else:
        there = (
            f"{report.applied:,} of its rows are in the store ({report.rejected:,} were rejected). The same command adds the "
            "rest and changes nothing else.")
    show.err.print(f"Interrupted in {file}: {there}", markup=False, soft_wrap=True)


def _made(report: ImportReport) -> str:
    return f"{report.created} new {report.made}{'' if report.created == 1 else 's'}"


def _say_done(report: ImportReport) -> None:
    show.out.print(
        f"{report.file}: {report.rows} rows, {report.applied} applied ({_made(report)}, {report.changed} changed, "
        f"{report.unchanged} known before), {report.skipped} skipped, {report.rejected} rejected, {report.seconds:.1f} s",
        markup=False,
        soft_wrap=True,
    )


def _json(report: ImportReport, customers: int, warnings: Sequence[str]) -> None:
    document = {
        "file": report.file,
        "mapping": report.mapping,
        "format": report.format,
        "packing": report.packing,
        "dry_run": report.dry,
        "rows": report.rows,
        "applied": report.applied,
        "created": report.created,
        "changed": report.changed,
        "unchanged": report.unchanged,
        "skipped": report.skipped,
        "rejected": report.rejected,
        "contested": report.contested,
        "contested_lines": report.contested_lines,
        "contested_of": [{"namespace": name, "column": each} for name, each in report.contestable] if report.contested else [],
        "reasons": dict(report.reasons),
        "rejects": str(report.rejects) if report.rejects else "",
        "examples": [
            {"line": line, "column": column, "value": value, "reason": reason}
            for line, column, value, reason in report.examples
        ],
        "unseen": list(report.unseen),
        "warnings": list(warnings),
        "seconds": round(report.seconds, 3),
        "customers": customers,
    }
    show.out.print(json_text.dumps(document), markup=False, soft_wrap=True)
