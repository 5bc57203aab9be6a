"""kill -9 in the middle of an import: what it had reported is there, and running it again completes it exactly."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.hub.store import Store
from core.importing import mapping
from core.importing.importer import Importer
from core.schema import EventType, Field, Namespace, Schema, ValueType

ROOT = Path(__file__).resolve().parents[2]
# Each is an import of its own: seconds, so not as many as a thousand of the short ones would make.
ROUNDS = min(int(os.environ.get("RAPPORT_CRASH_ROUNDS", "12")) // 4 or 1, 25)
ROWS = 40_000
NOW = 1_790_000_000_000_000  # after all of the file's events

SCHEMA = Schema(
    events={"visit": EventType("visit", (Field("page", ValueType.STRING), Field("pieces", ValueType.INT)))},
    namespaces={"crm": Namespace("crm", trust=100)},
)
MAPPING = b"""
mapping: visits
source: web
row: event
identifiers: {crm: id}
event: visit
at: {column: at, format: epoch_s}
key: row_number
fields: {page: page, pieces: pieces}
"""

CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import test_import_resume as test
test.load(Path(sys.argv[3]), Path(sys.argv[4]), lambda progress: print(progress.rows, flush=True))
"""


def load(store: Path, path: Path, progress: object = None) -> tuple[int, int]:
    with Store.open(store) as opened:
        opened.declare(SCHEMA)
        read = mapping.parse(MAPPING, "m.yaml", SCHEMA)
        report = Importer(opened, read, now=lambda: NOW).run(path, progress=progress)  # type: ignore[arg-type]
        return report.applied, report.changed


def dump(path: Path) -> tuple[list[tuple[bytes, bytes]], int]:
    with Store.open(path) as store, store.environment.reader() as reader:
        found = [item for name in ("profiles", "events", "identifiers") for item in reader.items(name)]
        profiles = [store.profile_of(customer) for customer in store.customers()]
        return found, sum(len(profile.events) for profile in profiles if profile is not None)


def visits(path: Path, form: str, chance: random.Random) -> None:
    """Writes the rows to import in one of the formats."""
    ids = [f"c{chance.randrange(500)}" for _ in range(ROWS)]
    numbers = range(ROWS)
    if form == "parquet":
        table = pa.table(
            {
                "id": ids, "at": [1_700_000_000 + number for number in numbers],
                "page": [f"p{number % 97}" for number in numbers], "pieces": list(numbers),
            }
        )
        pq.write_table(table, path, row_group_size=10_000)
        return
    lines = [f"{who},{1_700_000_000 + number},p{number % 97},{number}" for number, who in enumerate(ids)]
    data = "\n".join(["id,at,page,pieces", *lines, ""]).encode()
    if form == "zstd":
        with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as packed:
            packed.write(data)
    else:
        path.write_bytes(gzip.compress(data) if form == "gzip" else data)


@pytest.mark.parametrize("form", ["csv", "gzip", "zstd", "parquet"])
def test_an_import_killed_anywhere_is_completed_by_running_it_again(tmp_path: Path, form: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "visits"
    visits(path, form, chance)
    assert load(tmp_path / "whole", path) == (ROWS, ROWS)
    whole, _ = dump(tmp_path / "whole")
    for number in range(ROUNDS):
        store = tmp_path / f"store{number}"
        command = [sys.executable, "-c", CHILD, str(ROOT), str(Path(__file__).parent), str(store), str(path)]
        stop_after = chance.randrange(4_000, ROWS)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if int(line) >= stop_after:
                    os.kill(child.pid, signal.SIGKILL)
                    break
        _, before = dump(store)
        # Two mutations of 4096 rows may be on their way when rows have been read.
        assert before >= stop_after - 3 * 4096
        applied, added = load(store, path)
        assert (applied, added) == (ROWS, ROWS - before)
        assert dump(store)[0] == whole
