"""Whether the tests run under the sanitizers (`make sanitize`), and what cannot mean anything there.

AddressSanitizer makes everything two to five times slower, keeps freed memory for a while and reserves terabytes of address
space. So timings and amounts of memory are not judged under it, and what neither compiles nor runs our native code is left out.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

# It has to be loaded before anything else, so its processes are known by that.
SANITIZED: Final = "libasan" in os.environ.get("LD_PRELOAD", "")


def not_sanitized(why: str) -> pytest.MarkDecorator:
    """A mark for tests, or a file of them, that are left out under the sanitizers, because of ``why``."""
    return pytest.mark.skipif(SANITIZED, reason=f"under the sanitizers: {why}")
