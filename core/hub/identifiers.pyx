"""The normalisers; what they promise is in identifiers.pxd and core.schema.Normaliser.

E.164: blanks, dots, dashes and brackets are removed, a leading 00 becomes +, and what is left must be a plus
sign, a digit from 1 to 9, and at most 15 digits in all (ITU-T E.164). A number without its country code is refused:
nobody here knows which country is meant, and guessing would join strangers.
"""

from core import limits
from core.errors import BadValue, EngineFault, IdentityConflict, TooLarge
from core.schema import Normaliser

RULES = {Normaliser.NONE: RULE_NONE, Normaliser.LOWER: RULE_LOWER, Normaliser.E164: RULE_E164}

cdef enum:
    IDENTIFIER_BYTES = 256
    E164_DIGITS = 15

assert IDENTIFIER_BYTES == limits.IDENTIFIER_BYTES


cdef bint is_utf8(const uint8_t* bytes, size_t size) noexcept nogil:
    cdef size_t i = 0
    cdef int more
    cdef uint8_t lead, low, high
    while i < size:
        lead = bytes[i]
        i += 1
        if lead < 0x80:
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        while more:
            if i == size or bytes[i] < low or bytes[i] > high:
                return False
            low = 0x80
            high = 0xBF
            i += 1
            more -= 1
    return True


cdef inline bint is_blank(char c) noexcept nogil:
    return c == b" " or 9 <= c <= 13


cdef int normalise(int rule, const char* value, size_t size, char* normal, size_t* normal_bytes) noexcept nogil:
    cdef size_t i = 0
    cdef size_t end = size
    cdef size_t used = 0
    cdef char c
    normal_bytes[0] = 0
    if rule == RULE_E164:
        for i in range(size):
            c = value[i]
            if is_blank(c) or c == b"." or c == b"-" or c == b"(" or c == b")":
                continue
            # Room for 00, which shrinks to +, and a digit too many, which is refused below.
            if used > E164_DIGITS + 2 or not (b"0" <= c <= b"9" or (c == b"+" and used == 0)):
                return IDENTIFIER_NUMBER
            normal[used] = c
            used += 1
        if used == 0:
            return IDENTIFIER_EMPTY
        if used >= 2 and normal[0] == b"0" and normal[1] == b"0":
            normal[0] = b"+"
            for i in range(2, used):
                normal[i - 1] = normal[i]
            used -= 1
        if normal[0] != b"+" or used < 2 or used > E164_DIGITS + 1 or normal[1] == b"0":
            return IDENTIFIER_NUMBER
        normal_bytes[0] = used
        return IDENTIFIER_FINE
    if rule == RULE_LOWER:
        while i < end and is_blank(value[i]):
            i += 1
        while end > i and is_blank(value[end - 1]):
            end -= 1
    if i == end:
        return IDENTIFIER_EMPTY
    if end - i > IDENTIFIER_BYTES:
        return IDENTIFIER_LONG
    if not is_utf8(<const uint8_t*>value + i, end - i):
        return IDENTIFIER_ENCODING
    while i < end:
        c = value[i]
        if rule == RULE_LOWER and b"A" <= c <= b"Z":
            c += 32
        normal[used] = c
        used += 1
        i += 1
    normal_bytes[0] = used
    return IDENTIFIER_FINE


def normalised(rule, str value not None, str namespace not None) -> bytes:
    """The identifier's bytes as stored; BadValue or TooLarge when it cannot be one, with the field "value".

    `namespace` is for the message.
    """
    cdef char normal[IDENTIFIER_BYTES]
    cdef size_t size
    cdef bytes raw
    cdef int fault
    cdef str what = f"the identifier of '{namespace}'"
    if rule not in RULES:
        raise EngineFault(f"there is no normaliser {rule!r}")
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise BadValue("value", f"{what} holds half of a surrogate pair", "Send it as UTF-8.") from None
    fault = normalise(RULES[rule], raw, len(raw), normal, &size)
    if fault == IDENTIFIER_EMPTY:
        raise BadValue("value", f"{what} is empty", "Leave out identifiers that are not known.")
    if fault == IDENTIFIER_LONG:
        raise TooLarge(f"bytes of {what}", len(raw), IDENTIFIER_BYTES, field="value")
    if fault == IDENTIFIER_NUMBER:
        raise BadValue("value", f"{what} is not a telephone number with its country code",
                       "Write it as +351 912 345 678 or 00351 912345678, at most 15 digits.")
    if fault:
        raise BadValue("value", f"{what} is not UTF-8", "Send it as UTF-8.")
    return normal[:size]


def ranked(found):
    """Rows that begin with (trust, key, namespace number, value) in the order in which they are believed.

    By falling trust; of equally trusted namespaces the one that the store has known longer, and of one namespace the smaller
    value comes first, so that it does not matter in which order somebody sends them.
    """
    return sorted(found, key=lambda row: (-row[0], row[2], row[3])) if len(found) > 1 else found


def meant(found, singles, held):
    """The row of the identifier that says who is meant, or None: nobody who is known.

    ``found`` are (trust, key, namespace number, value, owner or 0), `ranked`. The first known one says it, but for one whose
    owner has another identifier of a namespace of ``singles`` than one before it: a new account on a shared device is not the
    device's last user. ``held`` gives an owner's (namespace number, value) pairs.
    """
    above = []
    for row in found:
        _, _, number, value, owner = row
        if owner:
            has = held(owner) if above else ()
            if not any([excluded(has, *each) for each in above]):
                return row
        if number in singles:
            above.append((number, value))
    return None


def refuse_two(found, singles):
    """Raise IdentityConflict where nobody is `meant`, and yet somebody is known: of whom was asked cannot be told.

    To a decision such identifiers are a stranger's; whoever asks what is kept must not hear that nobody is known.
    """
    if any([owner for *_, owner in found]):
        raise IdentityConflict(next(singles[number] for _, _, number, _, _ in found if number in singles))


def excluded(held, number, value):
    """Whether identifiers hold one of a single namespace, but not this one: it is another person's."""
    of_it = [has for of, has in held if of == number]
    return bool(of_it) and value not in of_it


def check_holder(entry, bint of_household) -> None:
    """Raise BadValue unless identifiers of a namespace name what they are given for."""
    if entry.household == of_household:
        return
    raise BadValue(
        "namespace",
        f"'{entry.name}' names {'households' if entry.household else 'customers'}, "
        f"and {'a household' if of_household else 'a customer'} is meant here",
        "Give one of the household's: a namespace declared with 'of: household'." if of_household
        else "Name the customer; his household is found by his membership.",
    )
