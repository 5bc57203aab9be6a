from collections.abc import Iterable

HOUSEHOLD_FIRST: int  # ids from here on are households'

def named(id: int) -> str:
    """``customer 7`` or ``household 3``: ids as people are told them."""

def of_household(id: int) -> bool:
    """Whether an id is a household's."""

def number_of(household: int) -> int:
    """A household's number as people are told it, from 1."""

def pack_membership(household: int, since: int, role: int, told: int, apart: int = ...) -> bytes:
    """A customer's entry in the database ``memberships``; since and told in microseconds, the role's number or 0."""

def unpack_membership(data: bytes, customer: int) -> tuple[int, int, int, int, int]:
    """(household, since, role, told, apart) of a customer's entry, household 0 when he left; StoreCorrupt when it is damaged."""

def pack_members(ids: Iterable[int]) -> bytes:
    """A household's entry, from ids in any order."""

def unpack_members(data: bytes | None, household: int) -> list[int]:
    """The ids of a household's members, ascending; none for None. StoreCorrupt when the entry is damaged."""
