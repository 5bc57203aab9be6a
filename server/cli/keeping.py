"""rapport store: check, back up, restore and compact a store's folder, without its server or beside it.

check, backup, status and audit read beside a running server; restore makes a new folder; compact wants the server stopped.
"""

from __future__ import annotations

import dataclasses
import json as json_text
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from core import limits
from server.cli import show
from server.cli.commands import Json
from server.cli.exits import Exit
from server.cli.serving import File
from server.config import Config

app = typer.Typer(
    help="The store's folder: check, backup, restore, compact.", no_args_is_help=True, rich_markup_mode=None
)
Folder = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="The store's folder. Default: store.path.", show_default=False)
]


def _path(store: Path | None, config: Path | None) -> str:
    return str(store) if store else Config.load(config).store_path


def _print_json(document: Mapping[str, object]) -> None:
    show.out.print(json_text.dumps(document, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def _told(what: str, count: int) -> None:
    show.err.print(f"{count:,} {what}", markup=False)


@app.command()
def check(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="A store. Default: store.path.")] = None,
    config: File = None,
    json: Json = False,
) -> None:
    """Read all of a store and look whether everything fits together. Exits with 74 when something does not.

    Works beside a running server and changes nothing.
    """
    from core.hub import checking

    path = _path(folder, config)
    found = checking.check_apart(path, _told)
    if json:
        _print_json({"store": path, "sound": not found.faults, **dataclasses.asdict(found)})
    else:
        for fault in found.faults:
            show.out.print(f"{fault.what}: {fault.problem}. {fault.hint}", markup=False)
        more = " at least" if len(found.faults) == checking.FAULTS else ""
        verdict = f"{len(found.faults)} faults{more}" if found.faults else "sound"
        show.out.print(
            f"{path}: {verdict}; {found.customers:,} customers, {found.identifiers:,} identifiers, {found.entries:,} entries",
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

    path, manifest = keeping.backup(
        _path(store, config), str(into), now_us=time.time_ns() // 1000, progress=lambda count: _told("entries", count)
    )
    if json:
        import msgspec

        _print_json({"backup": str(path), **msgspec.to_builtins(manifest)})
    else:
        show.out.print(
            f"{path}: {manifest.bytes:,} bytes, {manifest.entries:,} entries, up to change {manifest.seq}", markup=False
        )


@app.command()
def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="The folder of one backup.")],
    into: Annotated[Path, typer.Option("--into", metavar="NEW", help="The new store's folder.")],
    json: Json = False,
) -> None:
    """Make a store of a backup, in a folder that is not there yet; nothing is overwritten.

    Erase again whom you erased after the backup was taken: rapport store audit lists the requests.
    """
    from core.hub import keeping

    manifest = keeping.restore(str(backup), str(into))
    if json:
        import msgspec

        _print_json({"store": str(into), **msgspec.to_builtins(manifest)})
    else:
        show.out.print(
            f"{into}: as of {manifest.at}, change {manifest.seq}. Point store.path at it and start the server.", markup=False
        )


@app.command()
def compact(store: Folder = None, config: File = None, json: Json = False) -> None:
    """Rewrite the store so that nothing erased or overwritten is left in its files. The server must be stopped.

    Events past their type's retention go first. Needs room for a second copy until it is done.
    """
    from core.hub import keeping, retention
    from core.hub.store import Store

    path = _path(store, config)
    bound = Config.load(config).store_map_bytes
    with Store.open(Path(path), map_bytes=bound) as opened:
        dropped = retention.sweep_all(opened, time.time_ns() // 1_000)
    before, after = keeping.compact(path, map_bytes=bound, progress=lambda count: _told("entries", count))
    if json:
        _print_json({"store": path, "bytes_before": before, "bytes": after, "events_dropped": dropped})
    else:
        past = f"; {dropped:,} events were past their retention" if dropped else ""
        show.out.print(f"{path}: {before:,} bytes before, {after:,} now{past}", markup=False)


@app.command()
def status(store: Folder = None, config: File = None, json: Json = False) -> None:
    """How full a store is and who reads it; frees what killed readers held. Exits with 1 above 85 % of its map."""
    from core.hub.environment import open_environment

    path = _path(store, config)
    # The map's bound is the configuration's: LMDB keeps none in the file.
    bound = Config.load(config).store_map_bytes
    environment = open_environment(path, map_bytes=bound, read_only=True)
    try:
        cleared = environment.clear_readers()
        found = environment.statistics()
        free = environment.free_pages()
        readers = [(process, reads) for process, reads in environment.readers() if reads is not None]
    finally:
        environment.close()
    live = found["used_bytes"] - free * found["page_bytes"]
    behind = max((found["last_transaction"] - reads for _, reads in readers), default=0)
    percent = 100 * live / bound
    alarm = "full soon" if percent >= limits.FULL_SOON_PERCENT else "filling" if percent >= limits.FILLING_PERCENT else ""
    document = {
        "store": path, "map_bytes": bound, "used_bytes": found["used_bytes"], "live_bytes": live,
        "live_percent": round(percent, 2),
        "free_pages": free, "customers": found["profiles_entries"], "readers": len(readers), "readers_cleared": cleared,
        "oldest_reader_behind": behind, "alarm": alarm,
    }
    if json:
        _print_json(document)
    else:
        for key, value in document.items():
            show.out.print(f"{key.replace('_', ' '):22} {value:,}" if isinstance(value, int) else
                           f"{key.replace('_', ' '):22} {value}", markup=False)
        if alarm:
            show.err.print("Raise store.map_bytes and restart the server; or stop it and run rapport store compact.")
    if percent >= limits.FULL_SOON_PERCENT:
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
