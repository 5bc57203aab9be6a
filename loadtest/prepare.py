"""``python -m loadtest.prepare WORKLOAD``: a store with the workload's customers and program, ready to be served.

In a process of its own when the load test starts servers: it needs the core, which the generator's process must not hold.
What was prepared before is used again: the customers by a file that says the import was complete, the program is loaded
anew. Prints one line of JSON: where store and models lie.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from core.errors import RapportError
from loadtest import generate, installation, rewrite, workload
from loadtest.workload import Workload


def customers(wanted: Workload, into: Path) -> tuple[Path, dict[str, object]]:
    """The store with the workload's customers, and the import's figures if it had to be done now."""
    store = into / wanted.base / "store"
    done = into / wanted.base / "imported.json"
    if done.exists():
        return store, {}
    folder = generate.base(wanted, into)
    program = generate.program(wanted, into)
    figures = installation.import_customers(store, program, folder)
    if figures["applied"] != wanted.customers:
        raise RuntimeError(f"{figures['applied']:,} of {wanted.customers:,} generated customers were imported")
    done.write_text(json.dumps(figures))
    return store, figures


def formats(wanted: Workload, into: Path) -> dict[str, dict[str, object]]:
    """The figures of importing the same customers from each other format, into stores that are thrown away."""
    folder = generate.base(wanted, into)
    program = generate.program(wanted, into)
    figures = {}
    for name in rewrite.NAMES:
        rewrite.write(folder / "customers.csv", folder / name)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            figures[f"{wanted.base}, {name}"] = installation.import_customers(Path(scratch) / "store", program, folder, name)
        (folder / name).unlink()
    return figures


def models(wanted: Sequence[Workload], into: Path) -> Path:
    """The folder with the workloads' models; empty when they have none."""
    folder = into / "models"
    folder.mkdir(parents=True, exist_ok=True)
    for each in wanted:
        if each.model:
            from loadtest import bank_model  # scikit-learn takes seconds to import

            bank_model.write(each, folder)
    return folder


def main() -> int:
    """Prepares what the command line names; 0 when it is ready, 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.prepare", description="Prepare a store for serving.")
    parser.add_argument("workload", metavar="WORKLOAD", help=f"of: {', '.join(workload.names())}")
    parser.add_argument("--customers", type=int, help="so many customers instead of the workload's number")
    parser.add_argument("--into", type=Path, default=generate.INTO, help=f"folder for data (default {generate.INTO})")
    given = parser.parse_args()
    try:
        wanted = workload.load(given.workload)
        if given.customers:
            wanted = dataclasses.replace(wanted, customers=given.customers)
        repository = models([wanted], given.into)
        store, _ = customers(wanted, given.into)
        installation.load_program(store, repository, generate.program(wanted, given.into))
    except (ValueError, OSError, RuntimeError, RapportError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"store": str(store), "models": str(repository)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
