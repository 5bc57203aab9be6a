from collections.abc import Sequence

from core.hub.apply import Applier
from core.hub.catalog import Catalog
from core.hub.imports import IdentifierColumn, ImportColumns

def kind_of(mutation: ImportColumns, catalog: Catalog) -> bool:
    """Whether an import's rows are households'; EngineFault when some are and some are not."""

def by_rank(mutation: ImportColumns, catalog: Catalog) -> list[IdentifierColumn]:
    """The columns of identifiers in the order in which they are believed."""

def remember_rows(applier: Applier, mutation: ImportColumns, catalog: Catalog, whose: Sequence[int]) -> None:
    """Keep each row that concerns a customer whose join can be undone, as an import of its own. ``whose`` has every row's
    customer, 0 for refused ones."""

def one_row(mutation: ImportColumns, catalog: Catalog, row: int) -> ImportColumns:
    """The import of one row of this import."""

def apply_again(applier: Applier, mutation: ImportColumns) -> None:
    """Apply one remembered row inside another mutation's handler, through the applier's tables of changes."""

def upsert_one_by_one(
    applier: Applier, mutation: ImportColumns, catalog: Catalog, inside: bool = False
) -> tuple[int, int, int, list[int], list[tuple[int, int]]]:
    """`core.hub.bulk.apply_columns` for profiles with attributes that have sources, or with memberships."""
