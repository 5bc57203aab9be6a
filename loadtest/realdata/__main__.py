"""``make real``, or ``python -m loadtest.realdata [bank] [retail] [journey]``: what real data comes to when decided over.

Three published data sets are imported as they are, by the mappings under programs/real/, and every figure is then read
from answers of `Engine.decide`; beside it stands what pandas and scikit-learn compute from the same file without any
of this code. They must agree, or the run fails. `bank_marketing.py`, `online_retail.py` and `complete_journey.py` say
what each is asked.

The data is not in the repository: RAPPORT_SHARED_DATA says where it is (default: ../shared/data). Prints tables with
the machine they were made on, and writes everything unrounded to build/realdata/results-<moment>.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from core.errors import RapportError
from loadtest import machine
from loadtest.realdata import bank_marketing, complete_journey, online_retail
from loadtest.realdata.published import ROOT, Decided

INTO = ROOT / "build" / "realdata"
SETS: Mapping[str, Callable[[Path], Decided]] = {
    "bank": bank_marketing.decide,
    "retail": online_retail.decide,
    "journey": complete_journey.decide,
}


def main() -> int:
    """Runs what is asked for; 0 when everything agrees."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.realdata", description="Decide over real data.")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of: {', '.join(SETS)} (default: all)")
    parser.add_argument("--into", type=Path, default=INTO, help=f"folder for the figures (default {INTO})")
    given = parser.parse_args()
    unknown = [name for name in given.sets if name not in SETS]
    if unknown:
        parser.error(f"'{unknown[0]}' is no data set; there are {', '.join(SETS)}")
    on = machine.describe("loadtest.realdata")
    print(f"{on}\n", flush=True)
    figures: dict[str, object] = {"machine": dataclasses.asdict(on)}
    differences: list[str] = []
    given.into.mkdir(parents=True, exist_ok=True)
    try:
        for name in given.sets or SETS:
            print(f"{name}: importing and deciding ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=given.into) as scratch:
                found = SETS[name](Path(scratch))
            figures[name] = found.figures()
            print(found.table(), flush=True)
            differences += [f"{name}: {difference}" for difference in found.differences]
    except (OSError, RuntimeError, RapportError) as error:
        print(f"realdata: {error}", file=sys.stderr)
        return 1
    figures["differences"] = differences
    path = given.into / f"results-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(figures, indent=1))
    print(f"All figures: {path}")
    for difference in differences:
        print(f"realdata: {difference}", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
