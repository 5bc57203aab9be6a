"""The house's own lint: rules about this tree that no bought linter knows.

Each rule is a function from the tree to findings, and is first shown a bad example made in a temporary folder, so
a rule that has stopped finding anything fails here rather than passing for ever. Files are those that git would
commit (tracked, and new ones not ignored).
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sanitizing import not_sanitized

ROOT = Path(__file__).resolve().parents[2]

# The copy that is built with sanitizers is no repository.
pytestmark = not_sanitized("nothing compiled is run, and git knows nothing of the copy")

Finding = str
Check = Callable[[Path, list[str]], Iterator[Finding]]

TEXT = {
    ".py", ".pyi", ".pyx", ".pxd", ".c", ".h", ".md", ".toml", ".yaml", ".yml", ".json", ".proto", ".txt", ".cfg",
    ".js", ".mjs", ".ts", ".sh", ".in", ".go", ".mod", ".sum", ".java", ".xml", "",
}  # fmt: skip
PACKAGES = ("core", "server", "protos", "loadtest")

# Written in two halves so that this file does not find itself.
MACHINE_PATHS = re.compile(r"(?<![\w.$}/-])/(?:work|root|farm|home/\w+|tmp/" + r"v1)(?:/|\b)")
REGISTRIES = re.compile(
    r"pypi" + r"\.org|python" + r"hosted|npmjs" + r"\.(?:org|com)|deb\." + r"debian|crates" + r"\.io|proxy\.golang"
)
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK|NotImplemented" + r"Error)\b")


def committed(root: Path) -> list[str]:
    """Paths relative to ``root`` that git tracks or would add, files that exist only."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(name for name in set(listed.split("\0")) if name and (root / name).is_file())


def read(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="utf-8", errors="replace")


def generated(name: str) -> bool:
    return "_pb2" in name


def of_kind(files: list[str], *suffixes: str, under: tuple[str, ...] = ()) -> list[str]:
    return [
        name
        for name in files
        if name.endswith(suffixes)
        and not generated(name)
        and (not under or name.split("/", maxsplit=1)[0] in under)
    ]


# --- texts ----------------------------------------------------------------------------------------------------


def _texts(root: Path, files: list[str], pattern: re.Pattern[str], what: str) -> Iterator[Finding]:
    for name in files:
        if Path(name).suffix in TEXT and name != "LICENSE" and not generated(name):
            for number, line in enumerate(read(root, name).splitlines(), 1):
                if found := pattern.search(line):
                    yield f"{name}:{number}: {what}: {found.group()}"


def machine_paths(root: Path, files: list[str]) -> Iterator[Finding]:
    """Nothing committed names a folder of the machine it was written on."""
    yield from _texts(root, files, MACHINE_PATHS, "a path of one machine")


def registry_hosts(root: Path, files: list[str]) -> Iterator[Finding]:
    """Nobody's package index is written down: pip, npm and apt know theirs."""
    yield from _texts(root, files, REGISTRIES, "a registry's host")


def unfinished_work(root: Path, files: list[str]) -> Iterator[Finding]:
    """What is committed is finished; what is left is said in an issue."""
    yield from _texts(root, files, UNFINISHED, "unfinished")


# --- names ----------------------------------------------------------------------------------------------------


def standard_library_names(root: Path, files: list[str]) -> Iterator[Finding]:
    """A script's own folder comes first on sys.path, so a module named like the standard library's shadows it."""
    banned = set(sys.stdlib_module_names) | {"core", "server", "protos", "loadtest"}
    for name in of_kind(files, ".py", ".pyx"):
        if Path(name).stem in banned:
            yield f"{name}: named like a module of the standard library or one of our packages"


def folders_of_tests(root: Path, files: list[str]) -> Iterator[Finding]:
    """pytest imports tests/core as `core` and collection breaks, so test folders are named by kind."""
    for name in files:
        parts = name.split("/")
        if parts[0] == "tests":
            if clash := set(parts[1:-1]) & set(PACKAGES):
                yield f"{name}: a test folder named {clash.pop()}"
            if parts[-1] == "__init__.py":
                yield f"{name}: tests are no package (--import-mode=importlib)"


def unique_test_names(root: Path, files: list[str]) -> Iterator[Finding]:
    """mypy and pytest both want a test module's name once in the tree."""
    tests = of_kind(files, ".py", under=("tests",))
    counts = Counter(Path(name).name for name in tests)
    for name in tests:
        if counts[Path(name).name] > 1 and Path(name).name != "conftest.py":
            yield f"{name}: another test file has the same name"


# --- stubs and contracts --------------------------------------------------------------------------------------


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def compiled_without_stub(root: Path, files: list[str]) -> Iterator[Finding]:
    """A compiled module that Python imports has a hand-written .pyi beside it, or its callers are unchecked."""
    compiled = {name[:-4].replace("/", "."): name for name in of_kind(files, ".pyx")}
    for name in of_kind(files, ".py"):
        for module in _imports(ast.parse(read(root, name))):
            if module in compiled and compiled[module][:-4] + ".pyi" not in files:
                yield f"{compiled[module]}: imported by {name}, and has no .pyi"


_BLOCK = re.compile(r"^(?P<indent>\s*)(?:ctypedef|cdef)\s+(?:public\s+|packed\s+)*(?:struct|union|class)\s+\w+.*:")
_EXTERN = re.compile(r"^(?P<indent>\s*)cdef\s+extern\s+from\b")
_DECORATION = re.compile(r"^\s*(?:@|\"\"\"|'''|pass\b)")


_SPEAKS_FOR_ITSELF = re.compile(
    r"""^\s*(?:
        .*\(.*                                   # a method, or a function pointer with its signature
        | (?:cdef\s+)?(?:const\s+)?[A-Z]\w*\*?\s+\w+  # a struct of ours, or a pointer to some: its type is explained
        | (?:uint\d+_t|size_t)\s+\w+_(?:count|capacity|bytes)  # how much of the pointer above it
    )$""",
    re.VERBOSE,
)


def fields_without_comment(root: Path, files: list[str]) -> Iterator[Finding]:
    """A .pxd is a contract: each field of a struct, union or cdef class says what it is.

    The comment stands beside the field or above a run of fields that ends at a blank line. Methods are explained in
    the .pyx, foreign declarations (cdef extern from) by whoever made them.
    """
    for name in of_kind(files, ".pxd"):
        block: int | None = None  # indentation of the struct we are in
        extern: int | None = None
        headed = quoted = False  # under a heading comment; inside a docstring
        depth = 0  # of brackets, over the lines of one declaration
        for number, line in enumerate(read(root, name).splitlines(), 1):
            quotes = line.count('"""')
            if quoted or quotes:
                quoted = quoted != (quotes % 2 == 1)
                continue
            code = line.split("#", maxsplit=1)[0].rstrip()
            inside, depth = depth > 0, depth + code.count("(") - code.count(")")
            if not line.strip():
                headed = False
            elif not code:
                headed = True
            if not code or inside:
                continue
            indent = len(line) - len(line.lstrip())
            if extern is not None and indent <= extern:
                extern = None
            if block is not None and indent <= block:
                block = None
            if found := _EXTERN.match(line):
                extern = len(found["indent"])
            elif found := _BLOCK.match(line):
                block, headed = len(found["indent"]), False
            elif block is None or extern is not None or headed or "#" in line:
                continue
            elif not _DECORATION.match(line) and not _SPEAKS_FOR_ITSELF.match(code):
                yield f"{name}:{number}: a field without a comment: {code.strip()}"


# --- docstrings -----------------------------------------------------------------------------------------------

_DEF = re.compile(
    r"^(?:def|cpdef\s+(?:[\w.\[\]:]+\s+)?)\s*(?P<name>[A-Za-z]\w*)\s*\(|^cdef\s+class\s+(?P<class>[A-Za-z]\w*)"
)


def file_docstrings(root: Path, files: list[str]) -> Iterator[Finding]:
    """Every file begins by saying what it is for and how it works. An empty __init__.py has nothing to say."""
    for name in of_kind(files, ".py", ".pyx", ".pxd"):
        text = read(root, name)
        if not text.strip():
            continue
        body = re.sub(r"\A(?:\s*#[^\n]*\n|\s*\n)*", "", text)
        if not body.startswith(('"""', 'r"""')):
            yield f"{name}:1: no docstring at the top"


def rooms_tell_their_files(root: Path, files: list[str]) -> Iterator[Finding]:
    """A room of the core names each of its files at its door, in __init__.py: so nobody has to open sixty to find one."""
    modules = {name.rpartition(".")[0] for name in of_kind(files, ".py", ".pyx", ".pxd", under=("core",))}
    for module in sorted(modules):
        room, _, stem = module.rpartition("/")
        door = root / room / "__init__.py"
        if "/" in room and stem != "__init__" and not (
            door.exists() and re.search(rf"\b{stem}\b", door.read_text(encoding="utf-8"))
        ):
            yield f"{module}: not named in {room}/__init__.py"


def public_docstrings(root: Path, files: list[str]) -> Iterator[Finding]:
    """Public functions and classes of the core are documented; methods too, but for properties and overrides."""
    for name in of_kind(files, ".py", under=("core",)):
        tree = ast.parse(read(root, name))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                if not ast.get_docstring(node):
                    yield f"{name}:{node.lineno}: {node.name} has no docstring"
                if isinstance(node, ast.ClassDef) and not node.bases:
                    yield from _methods(name, node)
    for name in of_kind(files, ".pyx", under=("core",)):
        lines = read(root, name).splitlines()
        for number, line in enumerate(lines, 1):
            found = _DEF.match(line)
            if found and not _documented(lines, number - 1):
                yield f"{name}:{number}: {found['name'] or found['class']} has no docstring"


def _methods(name: str, owner: ast.ClassDef) -> Iterator[Finding]:
    for node in owner.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name[0] == "_" or node.decorator_list:
            continue
        # Three statements or fewer under a telling name explain themselves.
        if len(node.body) > 3 and not ast.get_docstring(node):
            yield f"{name}:{node.lineno}: {owner.name}.{node.name} has no docstring"


def _documented(lines: list[str], start: int) -> bool:
    """Whether the definition that begins at ``lines[start]`` has a docstring as its first statement."""
    depth = 0
    for index in range(start, len(lines)):
        code = lines[index].split("#", maxsplit=1)[0]
        depth += code.count("(") + code.count("[") - code.count(")") - code.count("]")
        if depth == 0 and code.rstrip().endswith(":"):
            rest = [line.strip() for line in lines[index + 1 :] if line.strip()]
            return bool(rest) and rest[0].startswith(('"""', 'r"""'))
        if depth == 0 and '"""' in code:
            return True
    return False


def prints_in_core(root: Path, files: list[str]) -> Iterator[Finding]:
    """The core speaks by return values and errors; what a person reads is the server's business."""
    for name in of_kind(files, ".py", under=("core",)):
        for node in ast.walk(ast.parse(read(root, name))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"{name}:{node.lineno}: print"
    for name in of_kind(files, ".pyx", ".pxd", under=("core",)):
        for number, line in enumerate(read(root, name).splitlines(), 1):
            if re.match(r"\s*(?:print|printf|fprintf|puts)\s*\(", line):
                yield f"{name}:{number}: print"


# Each rule with the smallest tree that breaks it: file name and text.
RULES: list[tuple[Check, str, str]] = [
    (machine_paths, "core/a.py", 'PATH = "/ro' + 'ot/data"\n'),
    (registry_hosts, "README.md", "https://py" + "pi.org/simple\n"),
    (unfinished_work, "core/a.py", "# TO" + "DO later\n"),
    (standard_library_names, "server/profile.py", ""),
    (folders_of_tests, "tests/core/test_a.py", ""),
    (fields_without_comment, "core/a.pxd", '"""A."""\ncdef struct A:\n    int b  # what it is\n    int c\n'),
    (fields_without_comment, "core/a.pxd", '"""A."""\ncdef class A:\n    cdef int c\n    cdef int f(self) nogil\n'),
    (fields_without_comment, "core/a.pxd", '"""A."""\ncdef struct A:\n    # B.\n    int b\n\n    uint32_t c\n'),
    (file_docstrings, "core/a.py", "A = 1\n"),
    (file_docstrings, "core/a.pyx", "# a comment only\ncdef int a\n"),
    (rooms_tell_their_files, "core/hub/a.py", '"""A."""\n'),
    (public_docstrings, "core/a.py", '"""A."""\ndef f() -> None:\n    return\n'),
    (public_docstrings, "core/a.pyx", '"""A."""\ndef f(\n    int a,\n) -> int:\n    return a\n'),
    (public_docstrings, "core/a.pyx", '"""A."""\n@cython.final\ncdef class A:\n    cdef int b\n'),
    (prints_in_core, "core/a.py", '"""A."""\nprint(1)\n'),
    (prints_in_core, "core/a.pyx", '"""A."""\n    printf("%d", 1)\n'),
]  # fmt: skip


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _, _ in RULES), ids=lambda check: check.__name__)
def test_tree_is_tidy(check: Check) -> None:
    findings = list(check(ROOT, committed(ROOT)))
    assert not findings, f"{(check.__doc__ or '').splitlines()[0]}\n" + "\n".join(findings)


@pytest.mark.parametrize(("check", "name", "text"), RULES, ids=lambda value: getattr(value, "__name__", None))
def test_each_rule_finds_its_bad_example(check: Check, name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert len(list(check(tmp_path, [name]))) == 1


def test_a_documented_contract_passes(tmp_path: Path) -> None:
    (tmp_path / "a.pxd").write_text(
        '"""A."""\n'
        "cdef extern from 'errno.h' nogil:\n    struct foreign:\n        int other\n\n"
        "cdef struct A:\n    int b  # what it is\n    # Both owned by the arena.\n    char* c\n    char* d\n\n"
        "    const Row* rows\n    uint32_t row_count\n    int (*run)(\n        int b,\n        int c)\n\n"
        "cdef class B:\n    cdef int d  # what it is\n    cdef int e(self) noexcept nogil\n\n"
        "cdef int f(int a) noexcept nogil\n"
    )
    assert list(fields_without_comment(tmp_path, ["a.pxd"])) == []


def test_compiled_modules_that_python_imports_have_stubs() -> None:
    findings = list(compiled_without_stub(ROOT, committed(ROOT)))
    assert not findings, "\n".join(findings)


def test_an_imported_compiled_module_without_stub_is_found(tmp_path: Path) -> None:
    files = {"core/a.pyx": "", "core/b.py": "from core import a\n", "core/c.pyx": ""}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(compiled_without_stub(tmp_path, list(files))) == ["core/a.pyx: imported by core/b.py, and has no .pyi"]


def test_test_files_have_unique_names() -> None:
    findings = list(unique_test_names(ROOT, committed(ROOT)))
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("package", ["core", "server", "protos"])
def test_no_other_distribution_owns_our_package_names(package: str) -> None:
    """pip installs another distribution's core/ silently over ours, and removing that one deletes ours."""
    owners = set(importlib.metadata.packages_distributions().get(package, []))
    assert owners <= {"rapport"}, f"{package} also belongs to {owners - {'rapport'}}"


def test_every_package_is_listed_for_the_wheel() -> None:
    """pyproject.toml lists packages one by one; a forgotten room would be missing from the wheel only."""
    listed = set(tomllib.loads(read(ROOT, "pyproject.toml"))["tool"]["setuptools"]["packages"])
    there = {
        str(Path(name).parent).replace("/", ".")
        for name in committed(ROOT)
        if name.startswith(("core/", "server/", "protos/")) and name.endswith((".py", ".pyx"))
    }
    assert listed == there
