"""A store, its models and an engine put together without a server, as the in-process figures need them.

What only loading and importing need is imported there: a process that opens and decides is measured from its start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.engine import Engine
from core.hub.store import Store
from core.inference.registry import Registry


@contextmanager
def opened(store: Path, models: Path) -> Iterator[Engine]:
    """An engine over the store folder and the models folder, with the program that is active there."""
    with Store.open(store) as hub:
        # Nobody else writes to the folder now, so a version need not be seen twice before it is read.
        registry = Registry(models, settle_seconds=0.0)
        try:
            registry.scan()
            engine = Engine(hub, registry)
            try:
                yield engine
            finally:
                engine.close()
        finally:
            registry.close()


def load_program(store: Path, models: Path, folder: Path) -> dict[str, object]:
    """Loads the program folder and makes it active.

    ``load_s``: from YAML to a plan that serves, in seconds; the store's commit is in it.
    """
    from core.programs import source

    sources = source.read(folder)
    with opened(store, models) as engine:
        began = time.perf_counter()
        engine.load_program(sources.files, time.time_ns() // 1_000)
        return {"load_s": time.perf_counter() - began}


def import_customers(store: Path, program: Path, folder: Path, name: str = "customers.csv") -> dict[str, object]:
    """Imports ``customers.csv``, or what ``name`` says, by ``mapping.yaml`` of ``folder`` into the store, durably.

    Gives rows applied, seconds, rows a second, the same by this process's processor time, which others on the machine do not
    slow, and bytes of the data file for each customer.
    """
    from core.importing import mapping
    from core.importing.importer import Importer
    from core.programs import source

    schema = source.check(source.read(program)).schema
    with Store.open(store) as hub:
        hub.declare(schema)
        how = mapping.load(folder / "mapping.yaml", schema)
        began = time.process_time()
        report = Importer(hub, how).run(folder / name)
        spent = time.process_time() - began
        customers = hub.customer_count()
    data = (store / "data.mdb").stat().st_blocks * 512
    return {
        "applied": report.applied,
        "seconds": report.seconds,
        "rows_per_s": report.rows / report.seconds,
        "rows_per_cpu_s": report.rows / spent,
        "bytes_per_customer": data / customers,
    }
