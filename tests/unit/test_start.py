"""Goal: a start costs what it needs. Packages that only loading, importing or trying a model needs stay out of a restart.

Method: a fresh interpreter opens a store that has an active program, decides, and tells which modules it holds; then it
loads the program anew, which shows that the same look does see them when they are there. Nothing is timed: what a start
takes is measured by `loadtest.deciding`, and this holds what made it short.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from core.engine import Engine
from core.hub.store import Store
from core.inference.registry import Registry
from core.programs.source import read

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = b"""
program: tiny
currency: EUR
schema: {namespaces: {crm: {trust: 1}}, attributes: {age: int}}
channels: {web: {placements: {home: {slots: 1, fallback: {title: nothing}}}}}
groups: {all: }
offers:
- {offer: gold, group: all, eligibility: [customer.age >= 18 || !has(customer.age)], value: 1.00 EUR,
   propensity: {scorecard: {intercept: 1, weights: {customer.age: 1}}}, treatments: {web.home: {title: gold}}}
"""
# What reads, checks and compiles programs, reads CSV, tries models, talks to the network or a person.
PACKAGES = {
    "celpy", "google", "grpc", "lark", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "rich", "structlog",
    "subprocess", "tomllib", "typer", "yaml",
}  # fmt: skip
MODULES = {
    "core.expressions.check", "core.expressions.lower", "core.expressions.parse", "core.hub.bulk", "core.hub.row_by_row",
    "core.hub.shapes", "core.importing.importer", "core.importing.mapping", "core.inference.description",
    "core.inference.trial", "core.programs.document", "core.programs.plan", "core.programs.source",
}  # fmt: skip
RESTART = """
import json, pathlib, sys
from core.decision import DecideRequest, Identifier, PlacementRequest
from core.engine import Engine
from core.hub.store import Store
from core.inference.registry import Registry

store, models, program = map(pathlib.Path, sys.argv[1:])
with Store.open(store) as opened:
    registry = Registry(models)
    registry.scan(at_start=True)
    engine = Engine(opened, registry)
    ask = DecideRequest("web", (PlacementRequest("home", 1),), (Identifier("crm", "7"),))
    offers = [offer.offer for offer in engine.decide(ask).placements[0].offers]
    at_start, mapped = sorted(sys.modules), pathlib.Path("/proc/self/maps").read_text()
    engine.load_program({"program.yaml": program.read_bytes()}, 1)
    engine.close()
print(json.dumps([offers, at_start, "libonnxruntime" in mapped, sorted(sys.modules)]))
"""


def unneeded(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} & PACKAGES | set(modules) & MODULES


def told(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return done.stdout


def test_a_restart_loads_nothing_that_only_loading_a_program_needs(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "program.yaml").write_bytes(PROGRAM)
    with Store.open(tmp_path / "store") as store:
        engine = Engine(store, Registry(None))
        engine.load_program(read({"program.yaml": PROGRAM}).files, 1)
        engine.close()
    places = [str(tmp_path / name) for name in ("store", "models", "program.yaml")]
    offers, at_start, runtime, after_loading = json.loads(told("-c", RESTART, *places))
    assert offers == ["gold"]
    assert unneeded(at_start) == set()
    assert not runtime
    assert {"numpy", "yaml", "core.programs.source", "core.programs.plan"} <= unneeded(after_loading)


def test_the_measured_process_loads_no_generator() -> None:
    """The benchmark's start counted half a second of imports that were its own: pyarrow, the importer, the generators."""
    modules = json.loads(told("-c", "import json, sys, loadtest.deciding; print(json.dumps(sorted(sys.modules)))"))
    assert unneeded(modules) == set()
    ours = {name for name in modules if name.startswith("loadtest.")}
    assert ours == {"loadtest.deciding", "loadtest.installation", "loadtest.names"}
