"""Goal: a bad program is refused with every problem, its exact place, and what would be right.

Method: each folder in tests/cases/bad_programs holds a program and, in expected.txt, the whole list of problems as
they are shown. What cannot lie in a file in a repository (a deep file, a private character, a missing folder) is made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from core.errors import ProgramError
from core.programs.document import DEPTH, PROBLEMS_TOLD
from core.programs.program import Program
from core.programs.source import check, read

CASES = Path(__file__).parent.parent / "cases" / "bad_programs"


def problems(source: Path | Mapping[str, bytes]) -> list[str]:
    with pytest.raises(ProgramError) as refused:
        check(read(source))
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
def test_bad_program_is_refused_with_every_problem(case: str) -> None:
    expected = (CASES / case / "expected.txt").read_text().splitlines()
    assert problems(CASES / case) == expected


def test_every_place_lies_in_its_file() -> None:
    # Places inside folded and quoted texts are reckoned; none may point outside the line it names.
    for case in CASES.iterdir():
        with pytest.raises(ProgramError) as refused:
            check(read(case))
        for problem in refused.value.problems:
            path = case / problem.where.file
            if not path.exists():
                continue
            lines = path.read_bytes().decode("utf-8", "replace").split("\n")
            assert 1 <= problem.where.line <= len(lines), str(problem)
            assert 1 <= problem.where.column <= len(lines[problem.where.line - 1]) + 1, str(problem)


def one_file(text: str) -> Mapping[str, bytes]:
    return {"program.yaml": text.encode()}


def test_deeply_nested_yaml_is_refused_and_harms_nothing() -> None:
    # libyaml's composer recurses: 100,000 brackets ended the process before the depth was counted.
    opening = "[" * 100_000
    assert problems(one_file(f"program: deep\noffers: {opening}")) == [
        f"program.yaml:2:{8 + DEPTH}: Mappings and lists are nested more than {DEPTH} deep. "
        "No key of a program is deeper than 8."
    ]


def test_private_character_is_refused_where_it_stands() -> None:
    assert problems(one_file("program: a\ndescription: b\ue000c\n")) == [
        "program.yaml:2:15: Character U+E000 is for private use and not allowed here. Remove it."
    ]


def test_missing_folder_is_told() -> None:
    told = problems(CASES / "there_is_no_such_case")
    assert len(told) == 1
    assert "There is no such folder. Name the folder that holds program.yaml." in told[0]


def test_misspelt_folder_is_told() -> None:
    assert problems({"program.yaml": b"program: a\n", "offer/gold.yaml": b"offer: gold\n", "chanels.yml": b""}) == [
        "chanels.yml:1:1: No program has a file of this name. Did you mean 'channels.yml'?",
        "offer/gold.yaml:1:1: No program has a file of this name. Did you mean 'offers/gold.yaml'?",
    ]


def test_many_problems_are_counted() -> None:
    text = "program: a\noffers:\n" + "".join(f"  - {{offer: o{i}, value: 1, propensity: 1}}\n" for i in range(1000))
    told = problems(one_file(text))
    assert len(told) == PROBLEMS_TOLD + 1
    assert told[-1].endswith(f"{1000 - PROBLEMS_TOLD} more problems are not listed. Correct these first.")


def test_group_of_a_broken_segment_blames_the_segment_alone() -> None:
    text = "program: a\nsegments: {s: customer.nothing}\ngroups: {g: {eligibility: [segment.s, '!segment.s']}}\n"
    told = problems(one_file(text))
    assert len(told) == 1
    assert told[0].startswith("program.yaml:2:15: ")


def test_problem_in_a_folded_text_names_its_own_line() -> None:
    template = (
        "program: a\nchannels: {web: {placements: {p: }}}\ngroups: {g: }\noffers:\n- offer: o\n  group: g\n  value: 1\n"
        "  propensity: 1\n  treatments:\n    web.p:\n"
    )
    styles = {
        "      t: first {{ now }}\n        second {{ customer.x }}\n": (12, 19),
        '      t: "first\n\n        second\\n {{ customer.x }}"\n': (13, 21),
        "      t: 'it''s {{ customer.x }}'\n": (11, 20),
        "      t: |-\n        first\n\n          second {{ customer.x }}\n": (14, 21),
        "      t: >\n        first\n        second {{ customer.x }}\n": (13, 19),
        '      t: "\\u00e9\\x41\\t{{ customer.x }}"\n': (11, 26),
    }
    for text, (line, column) in styles.items():
        told = problems(one_file(template + text))
        assert [each.split(": ")[0] for each in told] == [f"program.yaml:{line}:{column}"], text


def test_windows_line_ends_and_byte_order_mark_change_no_place() -> None:
    plain = "program: a\r\nsegments:\r\n  s: >-\r\n    true &&\r\n    customer.x\r\n"
    for data in (plain.encode(), b"\xef\xbb\xbf" + plain.encode()):
        told = problems({"program.yaml": data})
        assert [each.split(": ")[0] for each in told] == ["program.yaml:5:5"]


def accepted(text: str) -> Program:
    return check(read(one_file(text)))


def test_program_without_offers_is_accepted() -> None:
    program = accepted("program: empty\n")
    assert (program.name, program.offers, program.channels) == ("empty", (), ())
