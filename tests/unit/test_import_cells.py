"""Cells to values: exact, with Python's Decimal, float and datetime as judges, and a cause for everything else."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import limits
from core.hub.causes import CAUSES
from core.hub.identifiers import RULES
from core.importing.column import KINDS, Column
from core.importing.localtime import LocalZone
from core.importing.table import Table
from core.schema import Normaliser

MISSING = -(2**63)
CAPACITY = 4096
# Nothing here is about time, and a busy machine is no failure.
RELAXED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def convert(kind: str, cells: Sequence[bytes | None], **options: Any) -> list[Any]:
    """What a column makes of the cells: a value, or the name of the cause that rejects the cell."""
    table = Table([], 1, CAPACITY)
    for line, cell in enumerate(cells, 1):
        table.add(line, [cell])
    column = Column(KINDS[kind], 0, [0], CAPACITY, **options)
    column.run(table)
    causes = {line: CAUSES[cause][0] for line, _, cause, _, _ in table.taken()}
    values, texts = column.take(table)
    good: list[Any]
    if kind in ("bool", "starts_with"):
        good = list(values)
    elif kind == "enum":
        good = [code for (code,) in struct.iter_unpack("<H", values)]
    elif kind == "double":
        good = [value for (value,) in struct.iter_unpack("<d", values)]
    elif kind in ("string", "set", "identifier"):
        ends = [0, *(end for (end,) in struct.iter_unpack("<I", values))]
        good = [texts[begin:end] for begin, end in itertools.pairwise(ends)]
    else:
        good = [value for (value,) in struct.iter_unpack("<q", values)]
    found = iter(good)
    return [causes[line] if line in causes else next(found) for line in range(1, len(cells) + 1)]


def test_what_stands_around_a_number_is_taken_off_where_it_does() -> None:
    """`12.5 %` and `EUR 1,000.00` were no numbers, and nothing in a mapping made them some."""
    cells: dict[bytes | None, Any] = {
        b"12.5 %": 1250, b"12.5%": 1250, b" 12.5 ": 1250, b"-3": -300, b"%": "NOT_A_NUMBER", b"12 %%": "NOT_A_NUMBER",
        b"% 12": "NOT_A_NUMBER", b"": MISSING, b"12 EUR": "NOT_A_NUMBER",
    }
    assert dict(zip(cells, convert("money", list(cells), scale_exponent=2, suffix=b"%"), strict=True)) == cells
    around = {
        "€ 1,000.00": 1000.0, "€1": 1.0, "-5": -5.0, "€ -5": -5.0, "-€5": "NOT_A_NUMBER", "1 €": "NOT_A_NUMBER",
        "€": "NOT_A_NUMBER",
    }
    raw = [cell.encode() for cell in around]
    assert convert("double", raw, thousands=",", prefix="€".encode()) == list(around.values())
    assert product("int", [(b"3 x", b"7 x"), (b"3", b"7x")], suffix=b"x") == [21, 21]
    assert product("int", [(b"x", b"7")], suffix=b"x") == ["NOT_A_NUMBER"]


def product(kind: str, rows: Sequence[tuple[bytes, bytes]], **options: Any) -> list[Any]:
    table = Table([], 2, CAPACITY)
    for line, cells in enumerate(rows, 1):
        table.add(line, list(cells))
    column = Column(KINDS[kind], 0, [0, 1], CAPACITY, **options)
    column.run(table)
    causes = [CAUSES[cause][0] for _, _, cause, _, _ in table.taken()]
    values = struct.iter_unpack("<d" if kind == "double" else "<q", column.take(table)[0])
    return causes or [value for (value,) in values]


def test_whole_numbers() -> None:
    cells = {
        b"0": 0, b"42": 42, b"-7": -7, b"+7": 7, b" 12\t": 12, b"17850.0": 17850, b"1e3": 1000, b"1.5e1": 15,
        b"9223372036854775807": 2**63 - 1, b"-9223372036854775807": -(2**63 - 1), b"": MISSING, b"  ": MISSING,
        b"-9223372036854775808": "OUT_OF_RANGE",  # it means missing in a record
        b"9223372036854775808": "OUT_OF_RANGE", b"1e19": "OUT_OF_RANGE", b"1e99999999999": "OUT_OF_RANGE",
        b"0e99999999999": 0, b"1.5": "NOT_WHOLE", b"1e-99999999999": "NOT_WHOLE", b"abc": "NOT_A_NUMBER",
        b"1,5": "NOT_A_NUMBER", b"-": "NOT_A_NUMBER", b".": "NOT_A_NUMBER", b"1e": "NOT_A_NUMBER",
        b"0x1F": "NOT_A_NUMBER", b"1 2": "NOT_A_NUMBER", b"nan": "NOT_A_NUMBER", b"\xd9\xa3": "NOT_A_NUMBER",
        b"12\x00": "NOT_A_NUMBER", b"1_000": "NOT_A_NUMBER",
    }
    assert dict(zip(cells, convert("int", list(cells)), strict=True)) == cells


def test_groups_of_digits_and_decimal_commas() -> None:
    cells = {
        b"1.234.567": 1234567, b"1.234,0": 1234, b"12": 12, b"1234": 1234, b"1.23": "NOT_A_NUMBER",
        b"1234.567": "NOT_A_NUMBER", b".123": "NOT_A_NUMBER", b"1.2345": "NOT_A_NUMBER",
    }
    assert dict(zip(cells, convert("int", list(cells), decimal=",", thousands="."), strict=True)) == cells


def test_money_is_exact_or_refused() -> None:
    assert convert("money", [b"1.10", b"0.1", b"-2.345", b"2.340", b"99999999999999999.99"], scale_exponent=2) == [
        110, 10, "TOO_PRECISE", 234, "OUT_OF_RANGE",
    ]
    # Halves away from zero, decided on the decimal text: 2.675 is not the double below it.
    halves = [b"2.675", b"-2.675", b"0.004", b"0.005"]
    assert convert("money", halves, scale_exponent=2, rounded=True) == [268, -268, 0, 1]


def test_a_product_is_made_before_it_is_rounded() -> None:
    assert product("money", [(b"6", b"2.55"), (b"-3", b"0.335"), (b"3", b"0.001")], scale_exponent=2, rounded=True) == [
        1530, -101, 0,
    ]
    assert product("double", [(b"3", b"0.1")]) == [3 * 0.1]
    assert product("int", [(b"", b"5")]) == [MISSING]
    assert product("int", [(b"5", b"x")]) == ["NOT_A_NUMBER"]
    assert product("int", [(b"18446744073709551615", b"18446744073709551615")]) == ["OUT_OF_RANGE"]


def test_digits_that_the_mantissa_does_not_hold_are_rounded_all_the_same() -> None:
    """A cell of 22 digits became one unit too small: the 19 that were kept were whole, and the .903 behind them was forgotten."""
    told = [b"6575373020414349.446903", b"-6575373020414349.446903", b"6575373020414349.446503", b"6575373020414349.446499"]
    assert convert("int", told, scale_exponent=3, rounded=True) == [
        6575373020414349447, -6575373020414349447, 6575373020414349447, 6575373020414349446,
    ]
    assert convert("int", told[:1], scale_exponent=3) == ["NOT_WHOLE"]
    # Digits behind a remainder do not reach its half.
    assert convert("int", [b"657537302041434944.499999", b"-657537302041434944.500001"], rounded=True) == [
        657537302041434944, -657537302041434945,
    ]


def test_a_product_of_more_digits_than_are_held_is_right_or_refused() -> None:
    """What was left out of a factor is multiplied by the other: 6575373020414349446.9 halved is not ...446 halved."""
    assert product("int", [(b"1575373020414349447.99999", b"0.5")], rounded=True) == [787686510207174724]
    assert product("int", [(b"6575373020414349446.9", b"0.5")], rounded=True) == ["NOT_WHOLE"]
    assert product("int", [(b"6575373020414349446.9", b"0.1")], rounded=True) == [657537302041434945]
    assert product("money", [(b"-6575373020414349446.9", b"0.5")], rounded=True) == ["TOO_PRECISE"]


@RELAXED
@given(st.decimals(allow_nan=False, allow_infinity=False, places=None), st.integers(0, 4), st.booleans())
def test_decimal_agrees(value: Decimal, places: int, rounded: bool) -> None:
    text = str(value).encode()
    try:
        exact = value.scaleb(places)
        whole = exact.quantize(Decimal(1), ROUND_HALF_UP)
    except InvalidOperation:
        return
    [found] = convert("int", [text], scale_exponent=places, rounded=rounded)
    significant = value.as_tuple().digits
    if len(significant) > 19:  # more than the mantissa holds: may be refused, must not be wrong
        assert found in (int(whole), "NOT_WHOLE", "OUT_OF_RANGE")
    elif whole != exact and not rounded:
        assert found == "NOT_WHOLE"
    else:
        assert found == (int(whole) if abs(whole) < 2**63 else "OUT_OF_RANGE")


@RELAXED
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_come_back_to_the_bit(value: float) -> None:
    found = convert("double", [repr(value).encode(), f"{value:.25e}".encode()])
    assert [struct.pack("<d", each) for each in found] == [struct.pack("<d", value)] * 2


def test_doubles_that_are_none() -> None:
    assert convert("double", [b"inf", b"NaN", b"1e400", b"1" * 600]) == [
        "NOT_A_NUMBER", "NOT_A_NUMBER", "OUT_OF_RANGE", "NOT_A_NUMBER",
    ]
    assert np.isnan(convert("double", [b""])).all()


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@RELAXED
@given(st.datetimes(), st.sampled_from(["T", " "]))
def test_iso_times_agree_with_datetime(moment: datetime, between: str) -> None:
    assert convert("timestamp", [moment.isoformat(between).encode()]) == [micros(moment.replace(tzinfo=UTC))]


@RELAXED
@given(st.datetimes(min_value=datetime(1000, 1, 1)))
def test_patterns_agree_with_strptime(moment: datetime) -> None:
    for pattern in ("%d.%m.%Y %H:%M:%S", "%Y%m%d", "%H:%M on %d %b %Y", "%m/%d/%Y %H:%M:%S.%f"):
        text = moment.strftime(pattern)
        expected = micros(datetime.strptime(text, pattern).replace(tzinfo=UTC))
        assert convert("timestamp", [text.encode()], format=pattern) == [expected], text


def test_times_that_are_none() -> None:
    cells = {
        b"2026-02-29": "NO_SUCH_DATE", b"2024-02-29": micros(datetime(2024, 2, 29, tzinfo=UTC)),
        b"1900-02-29": "NO_SUCH_DATE", b"2026-13-01": "NO_SUCH_DATE", b"2026-01-01T24:00": "NO_SUCH_DATE",
        b"2026-1-1": "NOT_A_TIME", b"01.02.2026": "NOT_A_TIME", b"2026-01-01T": "NOT_A_TIME", b"": MISSING,
        b"2026-01-01T10:00+0130": micros(datetime(2026, 1, 1, 8, 30, tzinfo=UTC)),
        b"2026-01-01T10:00:00.5Z": micros(datetime(2026, 1, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        b"2026-01-01T10:00x": "NOT_A_TIME", b"0001-01-01T00:00+05:00": "NO_SUCH_DATE", b"0000-01-01": "NO_SUCH_DATE",
    }
    assert dict(zip(cells, convert("timestamp", list(cells)), strict=True)) == cells
    assert convert("timestamp", [b"1767225600.25", b"x", b"1e30"], format="epoch_s") == [
        1_767_225_600_250_000, "NOT_A_NUMBER", "OUT_OF_RANGE",
    ]
    assert convert("timestamp", [b"1767225600250"], format="epoch_ms") == [1_767_225_600_250_000]
    assert convert("timestamp", [b"300000000000"], format="epoch_s") == ["NO_SUCH_DATE"]


def test_local_times_are_placed_by_their_zone() -> None:
    london = LocalZone(ZoneInfo("Europe/London"))
    cells = [b"2011-03-27 00:59", b"2011-03-27 01:30", b"2011-03-27 02:00", b"2011-10-30 01:30", b"2011-07-01T12:00Z"]
    assert convert("timestamp", cells, zone=london) == [
        micros(datetime(2011, 3, 27, 0, 59, tzinfo=UTC)), "NO_SUCH_LOCAL_TIME",
        micros(datetime(2011, 3, 27, 1, 0, tzinfo=UTC)),
        micros(datetime(2011, 10, 30, 0, 30, tzinfo=UTC)),  # passed twice: the first
        micros(datetime(2011, 7, 1, 12, 0, tzinfo=UTC)),  # names its own offset
    ]


def test_a_date_is_the_first_moment_of_its_day_in_the_zone() -> None:
    """Where the clocks skip midnight, every birthday of that day was rejected for a time that the file does not name."""
    paulo = LocalZone(ZoneInfo("America/Sao_Paulo"))
    days = {
        b"2018-11-03": datetime(2018, 11, 3, 3, tzinfo=UTC), b"2018-11-04": datetime(2018, 11, 4, 3, tzinfo=UTC),
        b"2018-11-05": datetime(2018, 11, 5, 2, tzinfo=UTC),
    }
    assert convert("timestamp", list(days), zone=paulo) == [micros(day) for day in days.values()]
    written = [b"%s.%s.%s" % tuple(reversed(day.split(b"-"))) for day in days]
    assert convert("timestamp", written, zone=paulo, format="%d.%m.%Y") == [micros(day) for day in days.values()]
    # A time that is named is one that was skipped.
    assert convert("timestamp", [b"2018-11-04 00:00"], zone=paulo) == ["NO_SUCH_LOCAL_TIME"]
    assert convert("timestamp", [b"20181104 00"], zone=paulo, format="%Y%m%d %H") == ["NO_SUCH_LOCAL_TIME"]
    # Midnight is passed twice; the day begins with the first.
    havana = LocalZone(ZoneInfo("America/Havana"))
    assert convert("timestamp", [b"2018-11-04"], zone=havana) == [micros(datetime(2018, 11, 4, 4, tzinfo=UTC))]
    # Samoa had no 30 December 2011.
    apia = LocalZone(ZoneInfo("Pacific/Apia"))
    assert convert("timestamp", [b"2011-12-29", b"2011-12-30", b"2011-12-31"], zone=apia) == [
        micros(datetime(2011, 12, 29, 10, tzinfo=UTC)), "NO_SUCH_LOCAL_TIME", micros(datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ]
    assert convert("timestamp", [b"2010-12-01"]) == [micros(datetime(2010, 12, 1, tzinfo=UTC))]


@RELAXED
@given(
    st.lists(st.datetimes(datetime(1800, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=20),
    st.sampled_from(["Europe/Lisbon", "Australia/Lord_Howe", "Asia/Kolkata", "America/New_York", "Africa/Monrovia"]),
)
def test_zones_agree_with_zoneinfo(moments: list[datetime], name: str) -> None:
    zone = ZoneInfo(name)
    local = np.array([micros(moment.replace(tzinfo=UTC)) for moment in moments], dtype=np.int64)
    utc, skipped = LocalZone(zone).to_utc(local, np.zeros(len(local), np.bool_))
    for moment, found, gone in zip(moments, utc, skipped, strict=True):
        aware = moment.replace(tzinfo=zone)
        exists = aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == moment
        assert bool(gone) is not exists
        if exists:
            assert int(found) == micros(aware.astimezone(UTC))


def test_labels_bools_and_sentinels() -> None:
    words = {b"a": 1, b"b": 2, b"?": 0}
    assert convert("enum", [b"a", b" b ", b"?", b"", b"c"], labels=words) == [1, 2, 0, 0, "NOT_A_LABEL"]
    assert convert("bool", [b"yes", b"no", b"", b"2"], labels={b"yes": 2, b"no": 1}) == [2, 1, 0, "NOT_A_BOOL"]
    assert convert("int", [b"999", b" 999", b"99"], missing=[b"999", b"-1"]) == [MISSING, MISSING, 99]
    assert convert("int", [b"", b"1"], required=True) == ["MISSING", 1]
    assert convert("starts_with", [b"C123", b"123", b"C", b""], suffix=b"C") == [2, 1, 2, 0]


def test_texts_and_sets() -> None:
    long = b"x" * limits.STRING_BYTES
    assert convert("string", [b" a ", "é".encode(), b"\xff", b"a\0b", long, long + b"x"]) == [
        b" a ", "é".encode(), "NOT_UTF8", "NUL_BYTE", long, "TEXT_TOO_LONG",
    ]
    assert convert("set", [b"b, a,b,,aa", b" , ", b""], separator=",") == [b"\3\0\1\0a\2\0aa\1\0b", b"", b""]
    many = ",".join(str(number) for number in range(limits.SET_MEMBERS + 1)).encode()
    assert convert("set", [many]) == ["TOO_MANY_MEMBERS"]


def test_identifiers_are_normalised_and_trimmed() -> None:
    lower = RULES[Normaliser.LOWER]
    assert convert("identifier", [b"17850.0", b".0", b""], normaliser=RULES[Normaliser.NONE], suffix=b".0") == [
        b"17850", b"", b"",
    ]
    assert convert("identifier", [b" Ann@X.org", b"  ", b"\xff"], normaliser=lower) == [b"ann@x.org", b"", "NOT_UTF8"]
    numbers = [b"+351 21 123", b"none", b"0"]
    assert convert("identifier", numbers, normaliser=RULES[Normaliser.E164], missing=[b"none"]) == [
        b"+35121123", b"", "BAD_IDENTIFIER",
    ]
    assert convert("identifier", [b"x" * (limits.IDENTIFIER_BYTES + 1)], normaliser=RULES[Normaliser.NONE]) == [
        "BAD_IDENTIFIER",
    ]
