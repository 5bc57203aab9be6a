"""Types of `server.codec`; its file says how it works."""

from core.decision import DecideAnswer, DecideRequest

def decode(data: bytes, remaining_us: int | None, waited_us: int = 0) -> DecideRequest | None:
    """The request in ``data``, or None when the library has to look at it."""

def encode(answer: DecideAnswer) -> bytes:
    """The bytes of a DecideResponse message saying ``answer``."""
