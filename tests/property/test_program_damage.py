"""Goal: whatever is done to a program's files, checking ends in a program or in problems with places, never in another error.

Method: the demonstration programs, damaged at random: characters, lines and whole values exchanged, cut or doubled, and
values put where others belong. RAPPORT_DAMAGE_CASES (default 60) sets how many; the seed is printed and RAPPORT_SEED repeats it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from core.errors import ProgramError
from core.programs.program import Program
from core.programs.source import check, read

PROGRAMS = Path(__file__).parent.parent.parent / "programs"
CASES = int(os.environ.get("RAPPORT_DAMAGE_CASES", "60"))
SEED = int(os.environ.get("RAPPORT_SEED", "20261122"))

FRAGMENTS = (
    "", "~", "null", "[]", "{}", "[[]]", "{a: b}", "- ", ": ", "!", "!!str x", "&a ", "*a", "<<: ", "{{", "}}", "{{ }}",
    "\t", "\r", "\x85", "\u2028", "\x00", "\ue000", "\ud7ff", "é", "|", ">", "'", '"', "\\", "#", "%", "@", "?", "---\n", "...\n",
    "9" * 30, "-1", "1e999", ".nan", "0x10", "1_000", "2026-13-45", "0000-00-00", "9999-12-31", "99999999d", "1 EUR", "EUR",
    "1.999999999 EUR", "true", "yes", "customer.", "customer.age > ", "segment.adult", "offer.margin", "size(", "((((((((",
    "\U0001f600", "a" * 70, "name: name", "when: true", "id: x",
)


def damaged(rng: random.Random, text: str) -> str:
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(len(text) + 1)
        lines = text.split("\n")
        match rng.randrange(7):
            case 0:
                text = text[:position] + rng.choice(FRAGMENTS) + text[position:]
            case 1:
                text = text[:position] + text[position + rng.randint(1, 12):]
            case 2:
                line = rng.randrange(len(lines))
                lines[line : line + 1] = [lines[line]] * 2
                text = "\n".join(lines)
            case 3:
                first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[first], lines[second] = lines[second], lines[first]
                text = "\n".join(lines)
            case 4:
                line = rng.randrange(len(lines))
                head, colon, _ = lines[line].partition(": ")
                lines[line] = head + colon + rng.choice(FRAGMENTS)
                text = "\n".join(lines)
            case 5:
                line = rng.randrange(len(lines))
                lines[line] = rng.choice(["  ", "", " "]) + lines[line].strip()
                text = "\n".join(lines)
            case 6:
                words = text.split(" ")
                words[rng.randrange(len(words))] = rng.choice(FRAGMENTS)
                text = " ".join(words)
    return text


def test_damaged_program_is_refused_or_read_but_never_breaks_the_reader() -> None:
    print(f"seed {SEED}, {CASES} cases")
    rng = random.Random(SEED)
    sources = {name: dict(read(PROGRAMS / name).files) for name in ("bank", "shop")}
    refused = 0
    for case in range(CASES):
        files = dict(sources[rng.choice(["bank", "shop"])])
        victim = rng.choice(list(files))
        files[victim] = damaged(rng, files[victim].decode()).encode("utf-8", "surrogatepass")
        try:
            assert isinstance(check(read(files)), Program)
            continue
        except ProgramError as error:
            problems = error.problems
        except Exception as error:
            shown = files[victim].decode(errors="replace")
            raise AssertionError(f"case {case} of seed {SEED}, {victim}:\n{shown}") from error
        refused += 1
        assert problems
        for problem in problems:
            assert problem.where.line >= 1, (case, str(problem))
            assert problem.where.column >= 1, (case, str(problem))
            assert problem.message.rstrip().endswith((".", "?")), (case, str(problem))
    # Both ends are met: most damage is noticed, some falls on free text.
    assert CASES < 20 or 0 < refused < CASES
