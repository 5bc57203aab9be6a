"""``python -m loadtest.generate [WORKLOAD ...] [--customers N] [--into FOLDER]``: writes workloads out.

For each workload a folder ``<into>/<workload>/program`` for ``rapport program load``, and for each distinct customer
base ``<into>/<base>/customers.csv`` with its ``mapping.yaml`` for ``rapport import``. Everything is generated from the
workload's seed; no person stands behind it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from loadtest import customers, offers, workload
from loadtest.workload import Workload

INTO = Path("build/bench")


def program(wanted: Workload, into: Path) -> Path:
    """The workload's program folder, written anew."""
    folder = into / wanted.name / "program"
    folder.mkdir(parents=True, exist_ok=True)
    offers.write(wanted, folder)
    return folder


def base(wanted: Workload, into: Path) -> Path:
    """The folder with the customer base's CSV and mapping; the CSV is written only if it is not there."""
    folder = into / wanted.base
    folder.mkdir(parents=True, exist_ok=True)
    customers.write(wanted, folder)
    return folder


def main() -> int:
    """Writes the workloads named on the command line, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.generate", description="Write benchmark workloads out.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of: {', '.join(workload.names())}")
    parser.add_argument("--customers", type=int, help="so many customers instead of the workload's number")
    parser.add_argument("--into", type=Path, default=INTO, help=f"folder to write to (default {INTO})")
    arguments = parser.parse_args()
    try:
        for name in arguments.workloads or workload.names():
            wanted = workload.load(name)
            if arguments.customers:
                wanted = dataclasses.replace(wanted, customers=arguments.customers)
            started = time.monotonic()
            folder = program(wanted, arguments.into)
            middle = time.monotonic()
            rows = base(wanted, arguments.into)
            print(
                f"{name}: {wanted.offers:,} offers in {folder} ({middle - started:.1f} s), "
                f"{wanted.customers:,} customers in {rows} ({time.monotonic() - middle:.1f} s)"
            )
    except (ValueError, OSError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
