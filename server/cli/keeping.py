"""rapport store: check, back up, restore and compact a store's folder, without its server or beside it.

check, backup, status and audit read beside a running server; restore makes a new folder; compact wants the server stopped.
"""

from __future__ import annotations

import dataclasses
import json as json_text
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from server.cli import show
from server.cli.commands import Json
from server.cli.exits import Exit
from server.cli.serving import File
from server.config import Config

if TYPE_CHECKING:
    from core.hub.watching import Look

app = typer.Typer(
    help="The store's folder: status, check, backup, restore, compact, audit.", no_args_is_help=True, rich_markup_mode=None
)
Folder = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="The store's folder. Default: store.path.", show_default=False)
]


def _path(store: Path | None, config: Path | None) -> str:
    from core.hub import keeping

    path = str(store) if store else Config.load(config).store_path
    keeping.require(path)
    return path


def _print_json(document: Mapping[str, object]) -> None:
    show.out.print(json_text.dumps(document, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def telling(clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """What to call with how far it is: each is a line on a terminal, elsewhere one every `show.LINE_SECONDS`."""
    before = clock()

    def tell(reached: str) -> None:
        nonlocal before
        now = clock()
        if not show.err.is_terminal and now - before < show.LINE_SECONDS:
            return
        before = now
        show.err.print(reached, markup=False)

    return tell


def _standing(seen: Look) -> list[tuple[str, str]]:
    """What stands how with a store, in words."""
    # 1 TiB is allowed by default, of which a new shop's store is a millionth of a percent.
    percent = f"{seen.live_percent:.1f}" if seen.live_percent >= 0.1 else "less than 0.1"
    live = f"{_size(seen.live_bytes)} of it live: {percent} % of what store.map_bytes allows"
    readers = "none holds old pages back"
    if seen.reader_behind:
        readers = (
            f"process {seen.reader_process} holds back what {_counted(seen.reader_behind, 'commit')} freed, "
            f"for {_age(seen.reader_seconds)} now")
    if seen.readers_cleared:
        those = "that was killed is" if seen.readers_cleared == 1 else "that were killed are"
        readers += f"; {seen.readers_cleared:,} {those} cleared away"
    journal = "none"
    if seen.journal_bytes:
        holds = f"changes {seen.journal_first:,} to {seen.journal_last:,}"
        journal = f"{_size(seen.journal_bytes)}, {holds if seen.journal_last >= seen.journal_first else 'no change in it yet'}"
    backup = "none is known"
    if seen.backed and seen.backup_seconds is not None:
        backup = f"the newest is {_age(seen.backup_seconds)} old"
    elif seen.backup_seconds is not None:
        backup += f", for {_age(seen.backup_seconds)} now"
    restore = "not to any moment: that takes a backup"
    if seen.restorable_from:
        restore = f"to any moment since {seen.restorable_from}"
    elif seen.backed:
        restore = "to the moments of the backups only: no journal leads on from one"
    return [
        ("file", f"{_size(seen.used_bytes)}, {live}"),
        ("disk", f"{_size(seen.disk_free_bytes)} free"),
        ("readers", readers),
        ("journal", journal),
        ("backups", backup),
        ("restore", restore),
    ]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    """Bytes in the largest unit of a thousand that fits."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.4g} TB"


def _age(seconds: float) -> str:
    """A time in its largest whole unit."""
    for unit, of in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * of:
            return f"{seconds / of:.0f} {unit}"
    return f"{seconds:.0f} s"


@app.command()
def check(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="A store. Default: store.path.")] = None,
    store: Folder = None,
    config: File = None,
    json: Json = False,
) -> None:
    """Read all of a store and look whether everything fits together. Exits with 74 when something does not.

    Works beside a running server and changes nothing.
    """
    from core.hub import checking

    if folder is not None and store is not None:
        raise typer.BadParameter("The folder is given already: name it once.", param_hint="--store")
    path = _path(folder or store, config)
    tell = telling()
    with show.leaving("the store was read, and not all of it; nothing was changed."):
        found = checking.check_apart(path, lambda what, count: tell(f"{count:,} {what}"))
    if json:
        _print_json({"store": path, "sound": not found.faults, **dataclasses.asdict(found)})
    else:
        for fault in found.faults:
            show.out.print(f"{fault.what}: {fault.problem}. {fault.hint}", markup=False)
        more = " at least" if len(found.faults) == checking.FAULTS else ""
        verdict = f"{_counted(len(found.faults), 'fault')}{more}" if found.faults else "sound"
        show.out.print(
            f"{path}: {verdict}; {_counted(found.customers, 'customer')}, {_counted(found.identifiers, 'identifier')}, "
            f"{found.entries:,} entries",
            markup=False,
        )
    if found.faults:
        raise typer.Exit(Exit.STORE)


@app.command()
def backup(
    into: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where backups are kept: each gets a folder in it.")],
    store: Folder = None,
    config: File = None,
    json: Json = False,
) -> None:
    """Copy the store as it is at this moment, beside a running server, and prove the copy.

    While it runs, the store's file may grow by what is written meanwhile.
    """
    from core.hub import keeping

    tell = telling()
    with show.leaving(f"no backup was made, and nothing of it is left in {into}."):
        path, manifest = keeping.backup(
            _path(store, config), str(into), now_us=time.time_ns() // 1000, progress=lambda count: tell(f"{count:,} entries")
        )
    if json:
        import msgspec

        _print_json({"backup": str(path), **msgspec.to_builtins(manifest)})
    else:
        show.out.print(
            f"{path}: {manifest.bytes:,} bytes, {manifest.entries:,} entries, up to change {manifest.seq}", markup=False
        )


def _until(text: str) -> tuple[int | None, int | None]:
    """(change, None) or (None, microseconds) of what --until was given."""
    if not text:
        return None, None
    # Changes are numbered in 64 bits; Python makes no number of some thousand digits.
    if text.isascii() and text.isdigit() and len(text) <= len(str(2**64)):
        return int(text), None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text[:40]!r} is neither a change's number nor a time such as 2026-11-26T21:00:00Z", param_hint="--until") from None
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: write {at.isoformat()}Z for UTC", param_hint="--until")
    if at > datetime.now(UTC):
        raise typer.BadParameter(f"{text!r} is in the future: leave it out for the newest state", param_hint="--until")
    return None, (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="The folder of one backup.")],
    into: Annotated[Path, typer.Option("--into", metavar="NEW", help="The new store's folder.")],
    journal: Annotated[
        Path | None,
        typer.Option("--journal", metavar="DIR", help="The saved store's folder journal: do again what came since."),
    ] = None,
    until: Annotated[
        str, typer.Option("--until", metavar="TIME|NUMBER", help="With --journal: the last moment, or change, to do again.")
    ] = "",
    accept_cut: Annotated[
        bool, typer.Option("--accept-cut", help="Take a journal whose last write was cut off for one that ends before it.")
    ] = False,
    erasures: Annotated[
        Path | None,
        typer.Option("--erasures", metavar="STORE", help="A store whose erasures are applied again: the one this replaces."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a store of a backup, in a folder that is not there yet; nothing is overwritten.

    Whoever was erased after the backup was taken is taken out again, as far as --journal or --erasures tell; else erase
    again: rapport store audit lists the requests. Where the journal's end is not whole, --until a time is refused, and all
    that is whole restores with exit 1; --accept-cut accepts that.
    """
    from core.hub import keeping, replaying

    until_seq, until_us = _until(until)
    if until and journal is None:
        raise typer.BadParameter("a backup alone leads to its own moment only: give --journal as well", param_hint="--until")
    tell = telling()
    with show.leaving(f"nothing was restored, and nothing of it is left beside {into}."):
        manifest, reached = keeping.restore(
            str(backup), str(into), journal_folder=str(journal or ""), until_seq=until_seq, until_us=until_us,
            accept_cut=accept_cut, erasures=str(erasures or ""),
            progress=lambda change: tell(f"change {change:,}"),
        )
    if json:
        import msgspec

        _print_json({
            "store": str(into), **msgspec.to_builtins(manifest), "reached": reached.seq,
            "reached_at": replaying.told(reached.at_us), "erasures_again": reached.erasures, "note": reached.note,
        })
    else:
        moment = replaying.told(reached.at_us) if journal else manifest.at
        show.out.print(
            f"{into}: as of {moment}, change {reached.seq}. Point store.path at it and start the server.", markup=False)
        if reached.erasures:
            show.out.print(f"{_counted(reached.erasures, 'erasure')} applied again", markup=False)
        if reached.note:
            show.err.print(f"Behind that: {reached.note}", markup=False)
        if journal is None and erasures is None:
            show.err.print("Who was erased since the backup is in it again: give --journal or --erasures, or erase again.")
    if reached.note and not until and not accept_cut:
        raise typer.Exit(Exit.PARTLY)


@app.command()
def compact(store: Folder = None, config: File = None, json: Json = False) -> None:
    """Rewrite the store so that nothing erased is left in its files, nor in its journal. The server must be stopped.

    Events past their type's retention go first. Needs room for a second copy until it is done.
    """
    from core.hub import keeping, retention
    from core.hub.store import Store

    path = _path(store, config)
    settings = Config.load(config)
    tell = telling()
    with show.leaving("the store is whole, and erased bytes may still be in its files: run it again."):
        with Store.open(path, **settings.store_bounds) as opened:
            dropped = retention.sweep_all(opened, time.time_ns() // 1_000)
        before, after, anew = keeping.compact(
            path, map_bytes=settings.store_map_bytes, progress=lambda count: tell(f"{count:,} entries"))
    if json:
        _print_json({"store": path, "bytes_before": before, "bytes": after, "events_dropped": dropped, "journal_anew": anew})
    else:
        past = f"; {dropped:,} events were past their retention" if dropped else ""
        show.out.print(f"{path}: {before:,} bytes before, {after:,} now{past}", markup=False)
        if anew:
            show.err.print(f"The journal begins anew: {anew}. Take a backup now: it begins with it.", markup=False)


@app.command()
def status(store: Folder = None, config: File = None, json: Json = False) -> None:
    """How full a store is, who reads it, how far back it can be restored, and what will hurt; frees what killed readers held.

    Exits with 1 when there is an alarm.
    """
    from core.hub import watching
    from core.hub.environment import open_environment

    path = _path(store, config)
    settings = Config.load(config)
    # The map's bound is the configuration's: LMDB keeps none in the file.
    bound = settings.store_map_bytes
    environment = open_environment(path, map_bytes=bound, read_only=True)
    try:
        seen = watching.look(environment, bound, time.time_ns() // 1000)
    finally:
        environment.close()
    alarms = watching.alarms(seen, settings.store_thresholds)
    document: dict[str, object] = {"store": path, **dataclasses.asdict(seen), "live_percent": round(seen.live_percent, 2)}
    if json:
        _print_json({**document, "alarms": [dataclasses.asdict(alarm) for alarm in alarms]})
    else:
        show.out.print(f"[bold]{escape(path)}[/]  {_counted(seen.customers, 'customer')}", soft_wrap=True)
        for name, told in _standing(seen):
            show.out.print(f"  {name:8} {told}", markup=False, soft_wrap=True)
        for alarm in alarms:
            show.err.print(f"{alarm.name}: {alarm.problem}. {alarm.hint}", markup=False)
    if alarms:
        raise typer.Exit(Exit.PARTLY)


@app.command()
def audit(store: Folder = None, config: File = None, json: Json = False) -> None:
    """What was erased, when and for which request; never who."""
    from core.hub.store import Store

    with Store.open(_path(store, config), read_only=True) as opened:
        entries = opened.audit()
    rows = [
        {
            "at": f"{datetime.fromtimestamp(each.at_us / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "action": each.action,
            "request": each.request,
        }
        for each in entries
    ]
    if json:
        _print_json({"entries": rows})
    else:
        for row in rows:
            show.out.print("  ".join(row.values()).rstrip(), markup=False)
