from typing import Final

VERSION: Final[str]
"""The runtime's own version, for example "1.31.1"."""
