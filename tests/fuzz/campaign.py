"""Fuzzes the targets with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer: `make fuzz-bytes`.

``python -m tests.fuzz.campaign [--seconds N] [--target NAME] [--keep]`` works in build/fuzzed, to where `make` copies the tree.
It compiles the core there with clang, which alone has libFuzzer (RAPPORT_CLANG names another than the first found), builds
`native/driver.c`, and runs the targets beside each other at the lowest priority for N seconds (default 3,600), starting from
the kept corpus and from `prepare`'s first inputs. Each prints the seed it drew. A finding ends its target: the input lies in
found/, and giving the file's name to the built program repeats it. ``--keep`` replaces the kept corpus by a small set of
inputs that takes the same edges. Exit code: 0 nothing was found, 1 something was, 69 no usable clang.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PLACE: Final = ROOT / "build" / "fuzzed"
CORPUS: Final = ROOT / "tests" / "fuzz" / "corpus"
LARGEST: Final = {"request": 4096, "transport": 12_000, "feed": 3_000}  # bytes of an input
KEPT_LARGEST: Final = {"request": 2048, "transport": 6_000, "feed": 1_200}  # of one that is kept
SANITIZE: Final = "-fsanitize=fuzzer,address,undefined"
SANITIZERS: Final = {
    # allocator_may_return_null: a size no machine has is to be refused, not to be a finding.
    "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1",
}
UNAVAILABLE: Final = 69
INTERRUPTED: Final = 72  # libFuzzer's own, at a signal that asks it to end
TRIED = """#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return !data && size; }
"""


def say(text: str) -> None:
    """To the person who waits."""
    print(text, file=sys.stderr, flush=True)


def compiler() -> str:
    """A clang that can build a fuzzer. Exits with 69 and what to install when there is none."""
    source = PLACE / "tried.c"
    source.write_text(TRIED)
    wanted = os.environ.get("RAPPORT_CLANG")
    names = [wanted] if wanted else ["clang", *(f"clang-{version}" for version in range(22, 13, -1))]
    reasons = []
    for name in names:
        if shutil.which(name) is None:
            continue
        done = subprocess.run([name, SANITIZE, source, "-o", PLACE / "tried"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return name
        reasons.append(f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'it failed'}")
    say("Fuzzing needs clang with libFuzzer and its sanitizers; nothing else of Rapport does.")
    for reason in reasons or [f"None of these is there: {', '.join(names)}."]:
        say(f"  {reason}")
    say("Debian 12 and Ubuntu 22.04 have them in clang-14 and libclang-rt-14-dev; elsewhere RAPPORT_CLANG names one.")
    sys.exit(UNAVAILABLE)


def build(clang: str) -> Path:
    """Compiles the core, and the program that fuzzes it."""
    say(f"Compiling the core with {clang}, sanitizers and counters of edges (minutes; the log is build/fuzzed/compile.log) ...")
    with (PLACE / "compile.log").open("w") as log:
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force", "--parallel", os.environ.get("JOBS", "2")],
            env={**os.environ, "RAPPORT_FUZZ": "1", "CC": clang, "LDSHARED": f"{clang} -shared"},
            cwd=PLACE, stdout=log, stderr=log, check=True,
        )
    library = sysconfig.get_config_var("LIBDIR")
    program = PLACE / "fuzz"
    subprocess.run(
        [clang, "-g", "-O1", SANITIZE, "tests/fuzz/native/driver.c", "-o", program, f"-I{sysconfig.get_path('include')}",
         f"-L{library}", f"-Wl,-rpath,{library}", f"-lpython{sysconfig.get_config_var('LDVERSION')}"],
        cwd=PLACE, check=True,
    )
    return program


def environment(target: str) -> dict[str, str]:
    """What the fuzzing program is told by."""
    stores = PLACE / "stores"
    stores.mkdir(exist_ok=True)
    return {
        **os.environ, **SANITIZERS, "RAPPORT_FUZZ_TARGET": target, "RAPPORT_FUZZ_PYTHON": sys.executable,
        "RAPPORT_FUZZ_FOLDER": str(stores),
    }


def begin(program: Path, target: str, seconds: int) -> subprocess.Popen[bytes]:
    """Starts one target; its log is TARGET.log."""
    for folder in ("work", "found", "seeds"):
        (PLACE / folder / target).mkdir(parents=True, exist_ok=True)
    # By the ordinary build: this one's modules need the fuzzing program around them.
    subprocess.run([sys.executable, "-m", "tests.fuzz.prepare", target, PLACE / "seeds" / target], cwd=ROOT, check=True)
    say(f"{target}: {seconds} s; the log is build/fuzzed/{target}.log")
    with (PLACE / f"{target}.log").open("wb") as log:
        return subprocess.Popen(
            ["nice", "-n", "19", program, f"-max_len={LARGEST[target]}", f"-max_total_time={seconds}", "-mutate_depth=2",
             "-timeout=20", "-rss_limit_mb=6000", "-print_final_stats=1", f"-artifact_prefix=found/{target}/", f"work/{target}",
             CORPUS / target, f"seeds/{target}"],
            env=environment(target), cwd=PLACE, stdout=log, stderr=log,
        )


def report(target: str, code: int) -> None:
    """What the log says in the end: seed, edges, executions, or the finding."""
    lines = (PLACE / f"{target}.log").read_text(errors="replace").splitlines()
    told = [line for line in lines if line.startswith(("INFO: Seed", "stat::", "SUMMARY", "found:"))]
    edges = [line for line in lines if " cov: " in line]
    for line in [*told, *edges[-1:]]:
        say(f"{target}: {line}")
    if code == INTERRUPTED:
        say(f"{target}: ended from outside before its time; nothing was found until then.")
    elif code:
        say(f"{target}: SOMETHING WAS FOUND; the input lies under build/fuzzed/found/{target}.")


def keep(program: Path, target: str) -> None:
    """Replaces a target's kept inputs by few that take all edges, about as often, that theirs and the new ones take."""
    small, fresh = PLACE / "small" / target, PLACE / "kept" / target
    for folder in (small, fresh):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for folder in (CORPUS / target, PLACE / "work" / target, PLACE / "seeds" / target):
        for path in folder.iterdir():
            if path.stat().st_size <= KEPT_LARGEST[target]:
                shutil.copy(path, small)
    subprocess.run(
        ["nice", "-n", "19", program, "-set_cover_merge=1", f"-max_len={KEPT_LARGEST[target]}", fresh, small],
        env=environment(target), cwd=PLACE, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    shutil.rmtree(CORPUS / target)
    shutil.copytree(fresh, CORPUS / target)
    sizes = [path.stat().st_size for path in fresh.iterdir()]
    say(f"{target}: {len(sizes)} inputs of {sum(sizes)} bytes are kept in tests/fuzz/corpus/{target}.")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="make fuzz-bytes", description="Fuzz readers of requests, connections and feeds.")
    parser.add_argument("--seconds", type=int, default=3600, help="for each target; they run beside each other (default 3600)")
    parser.add_argument("--target", choices=tuple(LARGEST), action="append", help="only this one")
    parser.add_argument("--keep", action="store_true", help="replace tests/fuzz/corpus by a small set that takes the same edges")
    given = parser.parse_args()
    wanted: list[str] = given.target or list(LARGEST)
    program = build(compiler())
    running = {target: begin(program, target, given.seconds) for target in wanted}
    codes = {target: process.wait() for target, process in running.items()}
    for target, code in codes.items():
        report(target, code)
    if any(codes.values()):
        return 1
    if given.keep:
        for target in wanted:
            keep(program, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
