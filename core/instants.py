"""The instants that can be told: from the year 1 to the year 9999, as google.protobuf.Timestamp and datetime have them.

What lies outside is a mistake of unit, and would make windows overflow. `instants.pxd` gives compiled code the same
numbers; `core/hub/values.pyx` refuses to be imported where the two differ.
"""

from __future__ import annotations

from typing import Final

# Seconds since 1970: 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
FIRST_SECOND: Final = -62_135_596_800
LAST_SECOND: Final = 253_402_300_799

# The first and the last microsecond of them.
FIRST_US: Final = FIRST_SECOND * 1_000_000
LAST_US: Final = LAST_SECOND * 1_000_000 + 999_999

# Ten thousand years, the longest google.protobuf.Duration.
LONGEST_SECONDS: Final = 315_576_000_000
