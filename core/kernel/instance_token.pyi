from typing import final

@final
class IssuedInstance:
    """What a token says of its instance. ``price`` None: unpriced; ``namespace`` 0: the customer was known."""

    channel: int
    customer: int
    decided_us: int
    deferred: bool
    expires_us: int
    identifier: bytes
    instance: int
    namespace: int
    offer: int
    price: int | None
    program: int
    propensity: float
    rank: int

def read_token(text: str, key: bytes) -> IssuedInstance:
    """Reads a token and checks its signature with the store's 16 byte key.

    Raises BadToken when it is not one, or was altered, or was signed by another store.
    """

def siphash(data: bytes, key: bytes) -> bytes:
    """SipHash-2-4 with 128 bits of output, for comparison with the published test vectors."""
