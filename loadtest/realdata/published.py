"""What the data sets share: the files, a store with their rows in it, and the amounts that answers say."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Protocol

from core.engine import Engine
from core.importing import mapping
from core.importing.importer import Importer, ImportReport
from core.programs import source
from loadtest import installation

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "programs" / "real"


class Decided(Protocol):
    """A data set decided over, beside what other code finds in the same files."""

    @property
    def differences(self) -> list[str]:
        """What does not agree; empty when everything does."""
        ...

    def figures(self) -> dict[str, object]:
        """Everything that is kept of the run, as JSON takes it, unrounded."""
        ...

    def table(self) -> str:
        """The run as a person reads it."""
        ...


def scripts(name: str) -> ModuleType:
    """A file of models/, which is no package: its scripts find each other in their own folder."""
    folder = str(ROOT / "models")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def data(name: str) -> Path:
    """A file of the real data sets. Raises FileNotFoundError, saying where it was looked for."""
    folder: Path = scripts("packing").data_folder()
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not under {folder}; set RAPPORT_SHARED_DATA to the folder that holds it")
    return path


@contextmanager
def opened(folder: Path) -> Iterator[Engine]:
    """An engine over an empty store and no models, both made under ``folder``."""
    (folder / "store").mkdir(parents=True)
    (folder / "models").mkdir()
    with installation.opened(folder / "store", folder / "models") as engine:
        yield engine


def import_file(engine: Engine, program: str, name: str, path: Path) -> ImportReport:
    """Imports a file by the mapping ``name`` of a program under programs/real/, once its schema is declared."""
    schema = source.check(source.read(PROGRAMS / program)).schema
    engine.store.declare(schema)
    return Importer(engine.store, mapping.load(PROGRAMS / program / "mappings" / f"{name}.yaml", schema)).run(path)


def load(engine: Engine, program: str) -> None:
    """Makes a program under programs/real/ the one that decides."""
    engine.load_program(source.read(PROGRAMS / program).files, now_us())


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def hundredths(text: str) -> int:
    """Hundredths of the unit, of an amount as treatments write it: ``-12.50 GBP``."""
    amount, _, _ = text.partition(" ")
    return int(Decimal(amount).scaleb(2))
