"""A first run of a model in a process of its own, so that a file that crashes, hangs or eats memory harms nobody.

The parent starts a child with an empty working folder, hands it the file and its description over a pipe, and
waits a bounded time. The child limits its own memory, processor time, files and core dumps before it reads a
byte; then it checks the structure (`core.inference.validation`), loads the model with the same runtime and
settings as the server, runs the golden rows, and measures. What comes back is the model cut to one output, the
times, and whether it may run on a deciding thread; or the reason for refusing it. A child that dies or overstays
is itself the reason.

Limits bind the child only: the server then loads what ran well there.

Under AddressSanitizer (`make sanitize`) the child runs under it too, and two limits are left out: its shadow reserves
terabytes of address space, and its reports are files. The sanitizer's own limit on resident memory stands in for the first.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from core.errors import ModelError, Problem, ProgramError, nearest
from core.inference.description import describe
from core.inference.package import DESCRIPTION_FILE, Description, Package, Scope
from core.inference.runner import Runner

# Address space of the child. The interpreter, numpy, onnx and the runtime take about 1 GiB of it, mostly untouched.
MEMORY_BYTES: Final = 4 << 30
# Processor time of the child, of which loading libraries takes under one.
PROCESSOR_SECONDS: Final = 20
# Longest wait for the child on a machine that is busy otherwise.
PATIENCE_SECONDS: Final = 60.0
# Rows a model of offer scope is measured with, for its budget: a page's worth of offers left after filtering.
OFFER_ROWS: Final = 100
# Measuring ends after this long, however slow the runs.
MEASURING_NS: Final = 300_000_000

_ROOT: Final = Path(__file__).resolve().parents[2]
_CHILD: Final = "import sys; sys.path.insert(0, sys.argv[1]); from core.inference import trial; trial.child()"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model that ran well. Times are medians in nanoseconds for one run of one row, and what each further row adds."""

    model: bytes  # cut to the output that is read
    output: str
    selected: int | str | None
    bounded: bool
    base_ns: float
    row_ns: float
    golden_rows: int
    largest_error: float  # of the golden rows
    opsets: dict[str, int]
    nodes: int
    tensor_bytes: int
    operators: tuple[str, ...]
    producer: str


def runner_of(package: Package, description: Description, verdict: Verdict) -> Runner:
    """Loads what a trial let pass into this process, with its golden rows checked once more. Raises ModelError."""
    runner = _runner(package.label, verdict.model, description, verdict.output, verdict.selected)
    _golden(package.label, runner, description)
    if verdict.bounded:
        runner.run_on_callers_thread(verdict.base_ns, verdict.row_ns)
    return runner


def run(package: Package, *, memory_bytes: int = MEMORY_BYTES, processor_seconds: int = PROCESSOR_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS) -> Verdict:
    """Tries a package in a child process. Raises ModelError with the cause when it does not run well there."""
    describe(package)  # a description that cannot be read needs no child
    head = json.dumps({
        "name": package.name, "version": package.version, "file": package.file, "memory": memory_bytes,
        "seconds": processor_seconds, "model": len(package.model), "description": len(package.description),
    }).encode()
    sent = len(head).to_bytes(4, "little") + head + package.model + package.description
    with tempfile.TemporaryDirectory(prefix="rapport-trial-") as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-I", "-c", _CHILD, str(_ROOT)], input=sent, capture_output=True, cwd=empty,
                timeout=patience_seconds, check=False, env=_environment(memory_bytes),
            )
        except subprocess.TimeoutExpired:
            raise ModelError(package.label, f"its trial did not end within {patience_seconds:g} s",
                             "The model hangs, or loads far too slowly.") from None
    return _read(package.label, done, processor_seconds)


def _sanitized() -> bool:
    """Whether this process runs under AddressSanitizer, which must be loaded before anything else."""
    return "libasan" in os.environ.get("LD_PRELOAD", "")


def _environment(memory_bytes: int) -> dict[str, str]:
    """The child's: nothing of ours, but for what a sanitizer needs."""
    made = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    if _sanitized():
        made["LD_PRELOAD"] = os.environ["LD_PRELOAD"]
        made["ASAN_OPTIONS"] = f"{os.environ.get('ASAN_OPTIONS', '')}:hard_rss_limit_mb={memory_bytes >> 20}"
    return made


def _read(label: str, done: subprocess.CompletedProcess[bytes], seconds: int) -> Verdict:
    answer = done.stdout
    length = int.from_bytes(answer[:4], "little") if len(answer) >= 4 else 0
    told: dict[str, Any] = {}
    if done.returncode == 0 and 0 < length <= len(answer) - 4:
        with contextlib.suppress(ValueError):
            told = json.loads(answer[4 : 4 + length])
    if "problem" in told:
        raise ModelError(label, told["problem"], told["hint"])
    if "verdict" not in told:
        raise _died(label, done, seconds)
    facts = told["verdict"]
    facts["operators"] = tuple(facts["operators"])
    return Verdict(model=answer[4 + length :], **facts)


def _died(label: str, done: subprocess.CompletedProcess[bytes], seconds: int) -> ModelError:
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return ModelError(label, f"its trial used more than {seconds} s of processor time",
                          "The model hangs, or is far too slow to decide with.")
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    last = words[-1][:200] if words else "it said nothing"
    if "MemoryError" in last or "bad_alloc" in last:
        return ModelError(label, "its trial ran out of memory", "Export a smaller model.")
    if done.returncode < 0:
        with contextlib.suppress(ValueError):
            return ModelError(label, f"its trial crashed with {signal.Signals(-done.returncode).name}: {last}",
                              "The file is damaged, or the runtime has a defect; export it again.")
    return ModelError(label, f"its trial ended with {done.returncode}: {last}")


# --- the child ------------------------------------------------------------------------------------------------


def child() -> None:
    """Reads one package from standard input, tries it, writes the verdict or the problem to standard output."""
    stream = sys.stdin.buffer
    head = json.loads(stream.read(int.from_bytes(stream.read(4), "little")))
    _limit(head["memory"], head["seconds"])
    model = stream.read(head["model"])
    description = stream.read(head["description"])
    package = Package(head["name"], head["version"], model, description, head["file"], "")
    prepared = b""
    try:
        verdict = examine(package)
        prepared = verdict.model
        facts = asdict(verdict)
        del facts["model"]
        told: dict[str, Any] = {"verdict": facts}
    except ModelError as error:
        told = {"problem": error.metadata["problem"], "hint": error.hint}
    except MemoryError:
        told = {"problem": "its trial ran out of memory", "hint": "Export a smaller model."}
    body = json.dumps(told).encode()
    sys.stdout.buffer.write(len(body).to_bytes(4, "little") + body + prepared)
    sys.stdout.buffer.flush()
    # A run that hangs on another thread must not keep the process.
    os._exit(0)


def _limit(memory: int, seconds: int) -> None:
    bounds = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 64}
    if not _sanitized():
        bounds |= {resource.RLIMIT_AS: memory, resource.RLIMIT_FSIZE: 0}
    for what, most in bounds.items():
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def examine(package: Package) -> Verdict:
    """What the child does, without its limits, in this process: checks, loads, runs and measures. Raises ModelError."""
    from core.inference import validation  # imports onnx, which only the child may do

    label = package.label
    description = describe(package)
    _check_columns(package, description)
    parsed = validation.parse(label, package.model)
    structure = validation.inspect(label, parsed)
    _check_inputs(label, [entry.name for entry in parsed.graph.input
                          if entry.name not in {tensor.name for tensor in parsed.graph.initializer}], description)
    prepared = validation.prepare(label, parsed, description.output, description.selected)
    runner = _runner(label, prepared.model, description, prepared.output, prepared.selected)
    worst = _golden(label, runner, description)
    base_ns, row_ns = _measure(label, runner, description)
    return Verdict(
        model=prepared.model, output=prepared.output, selected=prepared.selected, bounded=structure.bounded,
        base_ns=base_ns, row_ns=row_ns, golden_rows=len(description.golden), largest_error=worst,
        opsets=structure.opsets, nodes=structure.nodes, tensor_bytes=structure.tensor_bytes,
        operators=structure.operators, producer=structure.producer,
    )


def _check_columns(package: Package, description: Description) -> None:
    """Refuses expressions that no program could use; what its schema declares is known only once one names the model."""
    from core.expressions.check import check_form  # with the parser, which a server that restarts needs not

    problems: dict[Problem, None] = {}
    for columns in description.inputs.values():
        for column in columns:
            try:
                check_form(column.text, column.where, offer=description.scope is Scope.OFFER)
            except ProgramError as error:
                problems |= dict.fromkeys(error.problems)
    if problems:
        told = "\n".join(map(str, problems)).rstrip(".")
        plural = "s" if len(problems) > 1 else ""
        raise ModelError(package.label, f"{DESCRIPTION_FILE} has {len(problems)} problem{plural}:\n{told}")


def _check_inputs(label: str, names: list[str], description: Description) -> None:
    for name, columns in description.inputs.items():
        if name not in names:
            close = nearest(name, names)
            raise ModelError(label, f"{columns[0].where if columns else description.where}: the file has no input '{name}'",
                             f"Did you mean '{close}'?" if close else f"Its inputs are {', '.join(names[:20])}.")
    for name in names:
        if name not in description.inputs:
            raise ModelError(label, f"{description.where}: its input '{name}' is not described",
                             "Bind every input of the file to expressions under inputs.")


def _runner(label: str, model: bytes, description: Description, output: str, selected: int | str | None) -> Runner:
    runner = Runner(
        label, model, widths=description.widths, output=output, selected=selected, value=description.value,
        platt=description.platt, isotonic=description.isotonic, budget_ms=description.budget_ms,
    )
    for tensor in runner.inputs:
        for column in description.inputs[tensor.name]:
            if column.missing is not None and isinstance(column.missing, str) != (tensor.element == "string"):
                raise ModelError(label, f"{column.where}: missing is {column.missing!r}, and input '{tensor.name}' is {tensor}",
                                 "Give a text for a string input and a number for others.")
            if tensor.element not in ("string", "float32", "float64", "float16", "bfloat16") and (
                isinstance(column.missing, float) and math.isnan(column.missing)
            ):
                raise ModelError(label, f"{column.where}: missing is nan, and input '{tensor.name}' is {tensor}",
                                 "Whole numbers have no NaN; give a number.")
    return runner


def _golden(label: str, runner: Runner, description: Description) -> float:
    """Runs the golden rows together; the largest difference. Raises ModelError when one is off."""
    if not description.golden:
        return 0.0
    texts = {tensor.name: tensor.element == "string" for tensor in runner.inputs}
    for row in description.golden:
        for name, cells in row.cells.items():
            for cell in cells:
                if isinstance(cell, str) != texts[name]:
                    kind = "texts" if texts[name] else "numbers"
                    raise ModelError(label, f"{row.where}: the golden row has {cell!r} for input '{name}', which takes {kind}",
                                     "Quote a text that looks like a number.")
    rows = {name: [row.cells[name] for row in description.golden] for name in description.inputs}
    _, scores = runner.measure(rows, repeats=1)
    worst = 0.0
    for row, score in zip(description.golden, scores, strict=True):
        difference = abs(score - row.expect)
        if math.isnan(difference):
            raise ModelError(label, f"{row.where}: the golden row has no score; {row.expect:g} was expected", _NO_SCORE)
        if difference > description.tolerance:
            raise ModelError(
                label, f"{row.where}: the golden row scored {score:.8g}; {row.expect:g} within {description.tolerance:g} was "
                       "expected",
                "The file is another model, its inputs are bound in another order, or the output or class is another one.")
        worst = max(worst, difference)
    return worst


_NO_SCORE: Final = (
    "A score is a finite number, and for a propensity one between 0 and 1: check the inputs, calibrate it, or say "
    "output.kind: value."
)


def _measure(label: str, runner: Runner, description: Description) -> tuple[float, float]:
    """Times for one row and for each further one. Raises ModelError past the budget, or when nothing can be scored."""
    many = OFFER_ROWS
    cells: dict[str, list[tuple[float | str, ...]]] = {}
    if description.golden:
        for name in description.inputs:
            cells[name] = [description.golden[row % len(description.golden)].cells[name] for row in range(many)]
    else:
        for tensor in runner.inputs:
            empty: float | str = "" if tensor.element == "string" else 0.0
            cells[tensor.name] = [(empty,) * tensor.width] * many
    one = {name: rows[:1] for name, rows in cells.items()}
    first, scores = runner.measure(one, repeats=1)
    if not description.golden and math.isnan(scores[0]):
        raise ModelError(label, "it gives no score for a row of zeros and empty texts",
                         _NO_SCORE + " Golden rows give it better rows.")
    budget_ns = description.budget_ms * 1e6
    # The first run of anything is slow; only a run far past the budget needs no second.
    if first > max(budget_ns * 20, MEASURING_NS):
        raise _slow(label, 1, first, description)
    base, _ = runner.measure(one, repeats=_repeats(first))
    tried, _ = runner.measure(cells, repeats=1)
    rows_ns, _ = runner.measure(cells, repeats=_repeats(tried))
    if description.scope is Scope.CUSTOMER and base > budget_ns:
        raise _slow(label, 1, base, description)
    if description.scope is Scope.OFFER and rows_ns > budget_ns:
        raise _slow(label, many, rows_ns, description)
    return float(base), max(0.0, (rows_ns - base) / (many - 1))


def _repeats(ns: int) -> int:
    return max(3, min(64, MEASURING_NS // max(ns, 1)))


def _slow(label: str, rows: int, ns: float, description: Description) -> ModelError:
    return ModelError(label, f"a run of {rows} row{'s' if rows > 1 else ''} takes {ns / 1e6:.3g} ms; its budget is "
                             f"{description.budget_ms:g} ms", "Make the model smaller, or raise budget_ms in model.yaml.")
