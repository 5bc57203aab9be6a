"""Values, times and keys as mutations give them, checked and brought to the form that the store holds.

Errors name the place in the request, so a handler that calls these needs no words of its own.
"""

from libc.math cimport isfinite
from libc.stdint cimport uint8_t, uint64_t

from core.hub.record cimport (
    VALUE_BOOL, VALUE_DOUBLE, VALUE_ENUM, VALUE_INT, VALUE_MONEY, VALUE_SET, VALUE_TIMESTAMP, rapport_siphash,
)
from core.instants cimport FIRST_US, LAST_US, LONGEST_SECONDS

from core import instants, limits
from core.errors import BadValue, EngineFault, TooLarge, UnknownName
from core.schema import Money, ValueType, as_written

if (FIRST_US, LAST_US, LONGEST_SECONDS) != (instants.FIRST_US, instants.LAST_US, instants.LONGEST_SECONDS):
    raise EngineFault("core/instants.pxd and core/instants.py disagree.")

# The letter by which core.hub.events packs a field of each type.
LETTERS = {
    ValueType.BOOL: "b", ValueType.INT: "i", ValueType.DOUBLE: "f", ValueType.MONEY: "i", ValueType.TIMESTAMP: "i",
    ValueType.ENUM: "t", ValueType.STRING: "t",
}


def checked(str path, int kind, value, entry, codes):
    """The value as the record holds it; BadValue, naming `path`, when it is not one of the attribute's.

    `codes` maps an enum's labels to what is stored for them.
    """
    if value is None:
        return None
    if kind == VALUE_BOOL:
        if isinstance(value, bool):
            return value
        raise BadValue(path, f"{value!r} is not true or false", as_written(entry.type))
    if kind == VALUE_INT:
        if not isinstance(value, int) or isinstance(value, bool):
            raise BadValue(path, f"{value!r} is not an integer", as_written(entry.type))
        if -0x8000_0000_0000_0000 < value <= 0x7FFF_FFFF_FFFF_FFFF:
            return value
        raise BadValue(path, f"{value} is outside 64 bits", "Declare it as a double or a string, or send a smaller one.")
    if kind == VALUE_TIMESTAMP:
        check_time(path, value)
        return value
    if kind == VALUE_DOUBLE:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                real = float(value)
            except OverflowError:
                real = float("inf")
            if isfinite(real):
                return real
            raise BadValue(path, f"{value!r} is not a finite number", "Leave it out when it is not known.")
        raise BadValue(path, f"{value!r} is not a number", as_written(entry.type))
    if kind == VALUE_MONEY:
        if not isinstance(value, Money):
            raise BadValue(path, f"{value!r} is not an amount of money", as_written(entry.type, entry.currency))
        if not value.currency:
            raise BadValue(path, "it has no currency", f"It is declared in {entry.currency}.")
        if value.currency != entry.currency:
            raise BadValue(path, f"its currency is {value.currency}; the attribute's is {entry.currency}",
                           "Convert it first, or declare another attribute.")
        if -0x8000_0000_0000_0000 < value.minor <= 0x7FFF_FFFF_FFFF_FFFF:
            return value.minor
        raise BadValue(path, f"{value.minor} minor units are outside 64 bits", "Look whether it was multiplied twice.")
    if kind == VALUE_SET:
        if not isinstance(value, (frozenset, set)):
            raise BadValue(path, f"{value!r} is not a set of texts", as_written(entry.type))
        for member in value:
            text_bytes(path, member)
        return value
    if kind == VALUE_ENUM:
        if not isinstance(value, str):
            raise BadValue(path, f"{value!r} is not a label", as_written(entry.type))
        code = codes.get(value)
        if code is None:
            raise UnknownName("label", value, codes, path, path)
        return code
    text_bytes(path, value)
    return value


cdef bytes text_bytes(str path, value):
    if not isinstance(value, str):
        raise BadValue(path, f"{value!r} is not a text", as_written(ValueType.STRING))
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise BadValue(path, "it holds half of a surrogate pair", "Send it as UTF-8.") from None
    if len(raw) > limits.STRING_BYTES:
        raise TooLarge(f"{path}: bytes", len(raw), limits.STRING_BYTES, field=path)
    return raw


cdef uint64_t hashed(str what, str key) except? 0:
    """The stored form of an idempotency key."""
    cdef bytes raw = text_bytes(what, key)
    cdef const char* start = raw
    if not raw:
        raise BadValue(what, "it is empty", "Give a key, so that sending it again counts once.")
    return rapport_siphash(<const uint8_t*>start, len(raw))


cdef int check_time(str what, at_us) except -1:
    """Times far outside history are mistakes of unit, and would make windows overflow."""
    if not isinstance(at_us, int) or isinstance(at_us, bool):
        raise BadValue(what, f"{at_us!r} is not a time", "Give a time, as 2026-11-26T10:00:00Z, or microseconds since 1970.")
    if not FIRST_US <= at_us <= LAST_US:
        raise BadValue(what, f"{at_us!r} is not a time between the years 1 and 9999",
                       "Give microseconds since 1970-01-01T00:00:00Z.")
    return 0
