"""The normalisers; what they promise is in identifiers.pxd and core.schema.Normaliser.

E.164: blanks, dots, dashes and brackets are removed, a leading 00 becomes +, and what is left must be a plus sign, a digit
from 1 to 9, and at most 15 digits in all (ITU-T E.164). A number without its country code is refused, and one with a zero
alone in brackets, which is dialled in Italy and not in England: nobody here knows which country is meant, and
guessing would join strangers.

Lower: blanks around are removed, and ASCII letters are small. Fold: besides, characters that nobody sees are removed; letters
are folded one by one (Unicode's CaseFolding.txt, C and S, of the first 65,536 characters), and a Latin, Greek, Cyrillic or
Armenian letter with a mark behind it, as some systems write accents, becomes the one character for both, mark by mark
(NFC). Unicode promises that neither changes for characters that there are. ASCII, nearly all there is, is one loop over
bytes.
"""

import itertools
import unicodedata

from core import limits
from core.errors import BadValue, EngineFault, IdentityConflict, TooLarge
from core.schema import Normaliser

RULES = {Normaliser.NONE: RULE_NONE, Normaliser.LOWER: RULE_LOWER, Normaliser.E164: RULE_E164, Normaliser.FOLD: RULE_FOLD}

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


cdef enum:
    FOLDED = 0x10000  # characters below it may be folded
    PAIRS = 1024  # letters with marks, at most

# What is folded, and what a letter (in the upper half) and a mark make: filled once, at import.
cdef uint16_t _folded[FOLDED]
cdef uint32_t _pairs[PAIRS]
cdef uint16_t _made[PAIRS]
cdef uint32_t _pair_count = 0


# Where letters with two cases lie, and those with marks.
_CASED = (
    (0x80, 0x590), (0x10A0, 0x1100), (0x13A0, 0x1400), (0x1C80, 0x1CC0), (0x1E00, 0x2000), (0x2C00, 0x2D30), (0xA640, 0xA800),
    (0xAB30, 0xABC0), (0xFF21, 0xFF5B))


# Where characters lie that are others again: accents of Greek, signs of units, ideographs.
_TWICE = ((0x340, 0x38B), (0x1F00, 0x2000), (0x2000, 0x2002), (0x2126, 0x212C), (0x2329, 0x232B), (0xF900, 0xFAE0))


def _fill():
    global _pair_count
    cdef uint32_t code
    pairs = {}
    code = 0
    while code < FOLDED:
        _folded[code] = <uint16_t>code
        code += 1
    # Written twice in Unicode, as one thing: NFC has only the other.
    for code in itertools.chain.from_iterable([range(*each) for each in _TWICE]):
        single = unicodedata.normalize("NFC", chr(code))
        if len(single) == 1 and ord(single) < FOLDED:
            _folded[code] = ord(single)
    for code in itertools.chain.from_iterable([range(*each) for each in _CASED]):
        letter = chr(_folded[code])
        folded = letter.casefold()
        if len(folded) != 1:
            folded = letter.lower()
        # The iota below a letter is folded with it, and alone is a mark.
        if len(folded) == 1 and ord(folded) < FOLDED and code != 0x345:
            _folded[code] = ord(folded)
    for code in itertools.chain.from_iterable([range(*each) for each in _TWICE]):
        _folded[code] = _folded[_folded[code]]
    for code in (*range(0x80, 0x590), *range(0x1E00, 0x2000)):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and unicodedata.normalize("NFC", chr(code)) == chr(code):
            base, mark = int(parts[0], 16), int(parts[1], 16)
            if base < FOLDED and _folded[code] == code:
                pairs[base << 16 | mark] = code
    if len(pairs) > PAIRS:
        raise EngineFault("There are more letters with marks than core/hub/identifiers.pyx has room for.")
    for pair, made in sorted(pairs.items()):
        _pairs[_pair_count] = pair
        _made[_pair_count] = made
        _pair_count += 1


_fill()


cdef inline uint32_t composed(uint32_t letter, uint32_t mark) noexcept nogil:
    """The character that a letter and the mark behind it make, or 0."""
    cdef uint32_t low = 0, high = _pair_count, middle, wanted = letter << 16 | mark
    while low < high:
        middle = (low + high) // 2
        if _pairs[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return _made[low] if low < _pair_count and _pairs[low] == wanted else 0


cdef inline bint is_unseen(uint32_t code) noexcept nogil:
    """Whether a character is never seen: spreadsheets and web pages leave them in what is copied, marks of direction too."""
    return (
        code == 0xAD or code == 0x61C or code == 0x200B or code == 0x200E or code == 0x200F or 0x202A <= code <= 0x202E
        or code == 0x2060 or 0x2066 <= code <= 0x2069 or code == 0xFEFF
    )


cdef inline bint is_wide_blank(uint32_t code) noexcept nogil:
    """Whether it is a blank, or is seen only between others."""
    return (
        code == 0x20 or 9 <= code <= 13 or code == 0x85 or code == 0xA0 or code == 0x1680 or 0x2000 <= code <= 0x200D
        or code == 0x2028 or code == 0x2029 or code == 0x202F or code == 0x205F or code == 0x3000 or is_unseen(code)
    )


cdef inline uint32_t next_code(const char* value, size_t* at) noexcept nogil:
    """The character that begins at `at`, of well-formed UTF-8; `at` is behind it then."""
    cdef uint8_t lead = <uint8_t>value[at[0]]
    cdef int more = 0 if lead < 0x80 else 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
    cdef uint32_t code = lead if more == 0 else lead & (0x3F >> more)
    at[0] += 1
    while more:
        code = code << 6 | (<uint8_t>value[at[0]] & 0x3F)
        at[0] += 1
        more -= 1
    return code


cdef inline bint is_all_blank(const char* value, size_t size) noexcept nogil:
    """Whether well-formed UTF-8 is nothing but blanks: a padded cell that is empty, under which strangers would be one."""
    cdef size_t at = 0
    while at < size:
        if not is_wide_blank(next_code(value, &at)):
            return False
    return True


cdef int fold_wide(const char* value, size_t size, char* normal, size_t* normal_bytes) noexcept nogil:
    """RULE_FOLD of well-formed UTF-8 that is not all ASCII."""
    cdef size_t i = 0, used = 0, letter_at = 0, ended = 0
    cdef uint32_t code, letter = 0, both
    while i < size:
        code = next_code(value, &i)
        if is_unseen(code) or (used == 0 and is_wide_blank(code)):
            continue
        if code == 0x130:
            # The one letter whose small form is two characters: i and the dot above.
            if used + 1 > IDENTIFIER_BYTES:
                return IDENTIFIER_LONG
            normal[used] = b"i"
            letter = 0x69
            letter_at = used
            used += 1
            code = 0x307
        if 0x41 <= code <= 0x5A:
            code += 32
        elif code < FOLDED:
            code = _folded[code]
        both = composed(letter, code) if 0x300 <= code < 0x370 and letter < FOLDED else 0
        if both:
            code = both
            used = letter_at
        letter = code
        letter_at = used
        if used + (1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4) > IDENTIFIER_BYTES:
            return IDENTIFIER_LONG
        if code < 0x80:
            normal[used] = <char>code
            used += 1
        elif code < 0x800:
            normal[used] = <char>(0xC0 | code >> 6)
            normal[used + 1] = <char>(0x80 | (code & 0x3F))
            used += 2
        elif code < 0x10000:
            normal[used] = <char>(0xE0 | code >> 12)
            normal[used + 1] = <char>(0x80 | (code >> 6 & 0x3F))
            normal[used + 2] = <char>(0x80 | (code & 0x3F))
            used += 3
        else:
            normal[used] = <char>(0xF0 | code >> 18)
            normal[used + 1] = <char>(0x80 | (code >> 12 & 0x3F))
            normal[used + 2] = <char>(0x80 | (code >> 6 & 0x3F))
            normal[used + 3] = <char>(0x80 | (code & 0x3F))
            used += 4
        if not is_wide_blank(code):
            ended = used
    normal_bytes[0] = ended
    return IDENTIFIER_FINE if ended else IDENTIFIER_EMPTY


cdef int normalise(int rule, const char* value, size_t size, char* normal, size_t* normal_bytes) noexcept nogil:
    cdef size_t i = 0
    cdef size_t end = size
    cdef size_t used = 0
    cdef char c
    normal_bytes[0] = 0
    if rule == RULE_E164:
        for i in range(size):
            c = value[i]
            if c == b"0" and 0 < i < size - 1 and value[i - 1] == b"(" and value[i + 1] == b")":
                return IDENTIFIER_NUMBER
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
    if rule == RULE_LOWER or rule == RULE_FOLD:
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
    if is_all_blank(value + i, end - i):
        return IDENTIFIER_EMPTY
    if rule == RULE_FOLD:
        for used in range(i, end):
            if value[used] & 0x80:
                return fold_wide(value + i, end - i, normal, normal_bytes)
        used = 0
    while i < end:
        c = value[i]
        if rule != RULE_NONE and b"A" <= c <= b"Z":
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
                       "Write it as +351 912 345 678 or 00351 912345678, at most 15 digits, without a zero in brackets.")
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
