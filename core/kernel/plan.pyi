from collections.abc import Mapping, Sequence
from typing import final

from core.hub.catalog import Catalog
from core.hub.environment import Environment
from core.inference.registry import LiveModel
from core.programs.program import Program
from core.programs.tables import Tables

@final
class Plan:
    """A bound plan. Immutable once made; shared by all threads; freed when the last decision drops it.

    ``source`` are the tables, ``catalog`` the store's names (every name of the program must be declared in it),
    ``models`` the live model of each name, ``signing_key`` the store's 16 bytes for tokens, ``edges`` those of each band
    that has some. Raises NotFound for a model that is not deployed, ModelError for one whose inputs do not fit what they
    are bound to.
    """

    program: Program
    source: Tables
    catalog: Catalog
    version: str
    version_number: int
    models: tuple[str, ...]
    #: From how many offers on, left by index and contact policy, those that cannot be returned are pruned. The answer is the
    #: same whatever it is; tests and measurements set it, before decisions begin.
    prune_from: int
    def __init__(
        self, source: Tables, catalog: Catalog, environment: Environment, models: Mapping[str, LiveModel],
        version: str, version_number: int, signing_key: bytes, edges: Mapping[str, Sequence[float]] | None = None,
    ) -> None: ...
    def close(self) -> None:
        """Frees the workspaces and with them their snapshots, so that the store can be closed while references remain."""
