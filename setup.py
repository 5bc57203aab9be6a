"""Compiles every .pyx under core/ and server/; everything else about the package is in pyproject.toml.

In place (``build_ext --inplace``, what `make` does) loadtest/ is compiled too; a wheel never holds it. A module that links
more than the libraries below names them in its first lines: ``# distutils: libraries = nghttp2``.

Environment switches, all off by default:

RAPPORT_ONLY      compile only modules whose path starts with this (``core/hub``): a quick loop while editing.
RAPPORT_SANITIZE  AddressSanitizer and UndefinedBehaviorSanitizer, bounds checks on, -O1.
RAPPORT_ANNOTATE  write Cython's annotated HTML beside the generated C under build/cython.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).parent
ONLY = os.environ.get("RAPPORT_ONLY", "")
SANITIZE = bool(os.environ.get("RAPPORT_SANITIZE"))

# No -march=native: one wheel for every processor; hot loops pick AVX2 or AVX-512 at run time (target_clones).
# No contraction and no fast-math: a decision is bit for bit the same on every processor, NaN and order included.
# Records and lists are read where they lie, through pointers of many types (a text's bytes as uint8_t and as char): with the rule
# that forbids it, gcc 12 once read NULL for a text that was there.
COMPILE = ["-O3", "-g1", "-fno-strict-aliasing", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wno-unused-function"]
LINK: list[str] = []
if SANITIZE:
    COMPILE = ["-O1", "-g", "-fno-omit-frame-pointer", "-ffp-contract=off", "-fsanitize=address,undefined"]
    LINK = ["-fsanitize=address,undefined"]

DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "autotestdict": False,
    "binding": True,
    "embedsignature": True,
    "boundscheck": SANITIZE,
    "wraparound": False,
    "initializedcheck": SANITIZE,
    "cdivision": True,
}


def extensions() -> list[Extension]:
    found = []
    for room in ("core", "server", *(["loadtest"] if "--inplace" in sys.argv else [])):
        for path in sorted(Path(room).rglob("*.pyx")):
            if not path.as_posix().startswith(ONLY):
                continue
            found.append(
                Extension(
                    ".".join(path.with_suffix("").parts),
                    [path.as_posix()],
                    include_dirs=["."],
                    extra_compile_args=COMPILE,
                    extra_link_args=LINK,
                    libraries=["dl", "pthread", "m"],
                )
            )
    return found


os.chdir(HERE)
setup(
    ext_modules=cythonize(
        extensions(),
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
        annotate=bool(os.environ.get("RAPPORT_ANNOTATE")),
    )
)
