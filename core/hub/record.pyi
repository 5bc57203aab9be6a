from collections.abc import Mapping, Sequence
from typing import Self, final

from typing_extensions import Buffer

from core.schema import ValueType

KINDS: Mapping[ValueType, int]
WIDTHS: Mapping[ValueType, int]  # bytes in the fixed area

# A value as the record holds it: bool; int, money's minor units, microseconds or an enum's code; float; str; members.
_Stored = bool | int | float | str | frozenset[str] | None

@final
class RecordLayout:
    """The fixed area as a catalog lays it out: (offset, type), ascending and adjoining from 0."""

    def __new__(cls, slots: Sequence[tuple[int, ValueType]]) -> Self: ...
    @property
    def fixed_bytes(self) -> int:
        """Bytes of the whole fixed area."""

@final
class Record:
    """A stored record, checked. Raises StoreCorrupt, naming ``what``, when its bytes fail the checks."""

    def __new__(cls, data: bytes, what: str = ...) -> Self: ...
    @property
    def customer(self) -> int:
        """Customer id."""
    @property
    def updated_us(self) -> int:
        """Microseconds of the last change known."""
    @property
    def fixed_bytes(self) -> int:
        """Bytes of the fixed area of this record."""
    @property
    def identifiers(self) -> list[tuple[int, bytes]]:
        """(namespace number, value) in order of arrival."""
    @property
    def consents(self) -> list[tuple[int, int, bool, int, int]]:
        """(purpose, channel, granted, source, at) by purpose and channel; channel 0 is any."""
    @property
    def cases(self) -> list[tuple[int, int, int, int | None, int]]:
        """(kind, key hash, opened, closed or None, product hash) by kind and key hash."""
    def value(self, offset: int, type_: ValueType) -> _Stored:
        """The value at ``offset``; None when missing."""

@final
class Builder:
    """Builds a record, from nothing or from ``existing``. Raises TooLarge, BadValue, StoreCorrupt."""

    def __new__(cls, layout: RecordLayout, customer: int, existing: bytes | None = None) -> Self: ...
    def set(self, offset: int, type_: ValueType, value: _Stored) -> None:
        """Set the slot at ``offset``; None clears it."""
    def touch(self, at: int) -> None:
        """Note a change at this microsecond; ``updated`` never goes back."""
    def add_identifier(self, namespace: int, value: bytes) -> None:
        """Add a normalised identifier unless it is there."""
    def set_consent(self, purpose: int, channel: int, granted: bool, source: int, at: int) -> None:
        """Set a consent; the newest wins, and of two at one microsecond the refusal."""
    def add_case(self, kind: int, key: int, opened: int, closed: int | None = None, product: int = 0) -> None:
        """Open a case, or close it; ``product`` is its `product_hash`, 0 leaves what is known of that."""
    def fill_from(self, other: Record) -> None:
        """Take what the other record knows and this one does not."""
    def finish(self) -> bytes:
        """The record."""

def members(data: Buffer) -> frozenset[str]:
    """The members of a set in its heap encoding. Raises StoreCorrupt."""

def crc32c(data: Buffer) -> int:
    """CRC-32C (Castagnoli) of ``data``, as records carry it."""

def crc32c_narrow(data: Buffer) -> int:
    """The same by lanes alone, for processors that cannot fold beside them."""

def crc32c_by_table(data: Buffer) -> int:
    """The same without the processor's instruction."""

def siphash(data: Buffer) -> int:
    """SipHash-2-4 with the key 00 01 .. 0f, as idempotency keys are stored."""

def product_hash(product: str) -> int:
    """48 bits of SipHash, as a case's entry carries them; 0 for no product, and never for one."""
