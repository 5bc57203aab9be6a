"""YAML as a tree of positioned nodes: what every reader of a program's files builds on.

libyaml composes the nodes; nothing is resolved to Python values here, so a scalar keeps the text its author wrote
and the reader decides what it means (``NO`` is a country where a label is expected, never a bool). Three things are
added:

*   ``!`` is negation. YAML would read ``- !has(customer.loan)`` as a tag, so before parsing every ``!`` is replaced
    by a private-use character of the same width, and put back in every scalar. Tags are therefore impossible, which
    also closes the door on object construction.
*   Depth, size and aliases are bounded. libyaml's composer recurses; its per-node callbacks count the depth and stop it
    long before the C stack ends. Aliases are allowed as long as the expanded document stays small and has no cycle.
*   A position in a scalar's value can be led back to the line and column of the file, also through quotes,
    escapes and folded lines (`Document.where_inside`). That costs time, so it is done only for a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml
from yaml._yaml import CParser

from core.errors import Problem, ProgramError, Where

# One file. The composer holds all nodes of a document at once, at roughly 30 times the text's size.
FILE_BYTES: Final = 64 << 20
# Mappings and lists inside each other. The deepest legal key of a program is at 8.
DEPTH: Final = 40
# Nodes after all aliases are written out. Without aliases there is no need to count.
EXPANDED_NODES: Final = 2_000_000
# Problems told at once; the rest are counted. Nobody reads more before the next attempt.
PROBLEMS_TOLD: Final = 200

# From Unicode's private use area, so it cannot stand in a text that means something to anybody.
EXCLAMATION: Final = "\ue000"
_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_ESCAPE_WIDTHS: Final = {"x": 4, "u": 6, "U": 10}

Node = yaml.nodes.Node
Scalar = yaml.nodes.ScalarNode
Mapping = yaml.nodes.MappingNode
Sequence = yaml.nodes.SequenceNode


class Problems:
    """Everything found wrong so far, in the order found. Reading goes on after a problem, so one attempt tells all."""

    __slots__ = ("_found", "_seen")

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._seen: set[Problem] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: Where, message: str, hint: str = "") -> None:
        """Notes a problem once; through an alias the same place may be read several times."""
        problem = Problem(where, message, hint)
        if problem not in self._seen:
            self._seen.add(problem)
            self._found.append(problem)

    def refuse_if_any(self) -> None:
        """Raises ProgramError with all problems by file, line and column."""
        if not self._found:
            return
        ordered = sorted(self._found, key=lambda each: (each.where.file, each.where.line, each.where.column))
        told = ordered[:PROBLEMS_TOLD]
        if len(ordered) > len(told):
            told.append(Problem(ordered[-1].where, f"{len(ordered) - PROBLEMS_TOLD} more problems are not listed.",
                                "Correct these first."))
        raise ProgramError(told)


class _TooDeep(Exception):
    """The composer went past DEPTH."""


class _Composer(CParser):
    """libyaml's composer without tag resolution: the callbacks it makes per node count the depth instead."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def descend_resolver(self, parent: object, index: object) -> None:
        self.depth += 1
        # A scalar counts, too, and may stand in the innermost list.
        if self.depth > DEPTH + 1:
            raise _TooDeep

    def ascend_resolver(self) -> None:
        self.depth -= 1

    def resolve(self, kind: object, value: object, implicit: object) -> str:
        return ""


class Document:
    """One YAML file: its name as shown in problems, its text, and the way from nodes back to places in it."""

    __slots__ = ("_lines", "_replaced", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._replaced = False
        self._lines: list[str] | None = None

    @staticmethod
    def decode(name: str, data: bytes, problems: Problems) -> Document | None:
        """The file as text, or None with a problem noted: too large, or not UTF-8."""
        if len(data) > FILE_BYTES:
            problems.add(Where(name, 1, 1), f"The file has {len(data)} bytes; the limit for one file is {FILE_BYTES}.",
                         "Split it: every file under offers/ is read.")
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line = before.count(b"\n") + 1
            column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
            problems.add(Where(name, line, column), f"Byte 0x{data[error.start]:02x} is not UTF-8.",
                         "Save the file as UTF-8.")
            return None
        return Document(name, text)

    def nodes(self, problems: Problems) -> Iterator[Node]:
        """The roots of the file's documents in order, empty ones left out. Stops at the first error of YAML itself."""
        text = self.text
        if EXCLAMATION in text:
            line, column = self._place_of(text.index(EXCLAMATION))
            problems.add(Where(self.name, line, column), "Character U+E000 is for private use and not allowed here.",
                         "Remove it.")
            return
        if "!" in text:
            text = text.replace("!", EXCLAMATION)
            self._replaced = True
        aliased = "*" in text and "&" in text
        # The constructor reads ahead and so may raise, too.
        try:
            composer = _Composer(text)
            while composer.check_node():
                node = composer.get_node()
                if node is None or (aliased and not self._expandable(node, problems)):
                    continue
                if not (isinstance(node, Scalar) and node.value == "" and not node.style):
                    yield node
        except _TooDeep:
            self._refuse_depth(self.text, problems)
        except yaml.MarkedYAMLError as error:
            # libyaml reads ahead, and newer releases stop at a depth of their own before a node could be counted here. The
            # text before that stop holds more than DEPTH levels too, and can be scanned.
            if "nesting depth" in (error.problem or "") and error.problem_mark is not None:
                self._refuse_depth(self.text[: error.problem_mark.index], problems)
            else:
                self._explain(error, problems)
        except yaml.reader.ReaderError as error:
            position = error.position if isinstance(error.position, int) else 0
            line, column = self._place_of(position)
            character = self.text[position : position + 1]
            code = f"U+{ord(character):04X}" if character else "at the end"
            problems.add(Where(self.name, line, column), f"Character {code} is not allowed in YAML.",
                         "Remove it, or write it as an escape in a quoted text.")

    # --- places -----------------------------------------------------------------------------------------------

    def where(self, node: Node) -> Where:
        """Where a node begins; for a quoted or block scalar, where its text begins."""
        mark = node.start_mark
        if isinstance(node, Scalar) and node.style:
            if node.style in "|>":
                return self.where_inside(node, 0)
            return Where(self.name, mark.line + 1, mark.column + 2)
        return Where(self.name, mark.line + 1, mark.column + 1)

    def value(self, node: Scalar) -> str:
        """A scalar's text as its author wrote it."""
        text: str = node.value
        if self._replaced and EXCLAMATION in text:
            return text.replace(EXCLAMATION, "!")
        return text

    def where_inside(self, node: Scalar, offset: int) -> Where:
        """The place in the file of character ``offset`` of a scalar's value.

        Exact for every character but blanks that folding made; those count as where the line before ended.
        """
        lines = self._split()
        line, column = node.start_mark.line, node.start_mark.column
        style = node.style or ""
        if style and style in "|>":
            line, column = line + 1, 0
        elif style:
            column += 1
        found = (line, column)
        value = self.value(node)
        for character in value[: offset + 1]:
            if not character.isspace():
                # Blanks and line ends between words were folded, or belong to the indentation.
                while line < len(lines):
                    rest = lines[line][column:]
                    if not rest or rest.isspace():
                        line, column = line + 1, 0
                    elif rest[0] in " \t":
                        column += 1
                    elif style == '"' and rest == "\\":
                        line, column = line + 1, 0
                    else:
                        break
            if line >= len(lines):
                break
            found = (line, column)
            here = lines[line][column : column + 2]
            if style == '"' and here[:1] == "\\" and len(here) == 2:
                column += _ESCAPE_WIDTHS.get(here[1], 2)
            elif style == "'" and here == "''":
                column += 2
            elif character == "\n" or column >= len(lines[line]):
                if style and style in "|>":
                    line, column = line + 1, 0
            else:
                column += 1
        return Where(self.name, found[0] + 1, found[1] + 1)

    def _split(self) -> list[str]:
        if self._lines is None:
            self._lines = _LINE_BREAK.split(self.text)
        return self._lines

    def _place_of(self, index: int) -> tuple[int, int]:
        before = _LINE_BREAK.split(self.text[:index])
        return len(before), len(before[-1]) + 1

    @staticmethod
    def _too_deep(text: str) -> tuple[int, int]:
        """Where an opening bracket or a further indent passes DEPTH: found by scanning, which does not recurse."""
        depth = 0
        opening = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
        closing = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, opening):
                depth += 1
                mark = event.start_mark
                if depth > DEPTH and mark is not None:
                    return mark.line + 1, mark.column + 1
            elif isinstance(event, closing):
                depth -= 1
        return 1, 1

    # --- what went wrong --------------------------------------------------------------------------------------

    def _refuse_depth(self, text: str, problems: Problems) -> None:
        problems.add(Where(self.name, *self._too_deep(text)), f"Mappings and lists are nested more than {DEPTH} deep.",
                     "No key of a program is deeper than 8.")

    def _explain(self, error: yaml.MarkedYAMLError, problems: Problems) -> None:
        """libyaml's message in plain words where its own would mislead."""
        mark = error.problem_mark or error.context_mark
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        said = (error.problem or "cannot be read").strip()
        lines = self._split()
        source = lines[line - 1] if line <= len(lines) else ""
        character = source[column - 1 : column]
        message, hint = f"This is not YAML: {said}.", ""
        if character == "\t" or (source[: column - 1].isspace() and "\t" in source[:column]):
            message, hint = "A tab cannot indent YAML.", "Use spaces."
        elif "mapping values are not allowed" in said:
            message = "YAML takes a colon followed by a blank for a key's, and no key can stand here."
            hint = "If it belongs to a text, put the whole text in quotes; if it is a key, check the indentation."
        elif "undefined alias" in said:
            hint = "An anchor (&name) must come before its alias (*name); a text that begins with * needs quotes."
        elif "cannot start any token" in said and character in ("@", "`", "%"):
            message = f"A text cannot begin with '{character}' in YAML."
            hint = "Put it in quotes."
        elif "did not find expected key" in said or "did not find expected '-' indicator" in said:
            message = "This line belongs to neither what is above it nor what is around it."
            hint = "Check its indentation, and quotes or brackets left open above."
        elif "anchor" in (error.context or "") or "alias" in (error.context or ""):
            hint = "A text that begins with & or * needs quotes."
        elif "unexpected end of stream" in said or "expected ',' or" in said:
            hint = "A quote or bracket was opened and not closed."
        problems.add(Where(self.name, line, column), message, hint)

    def _expandable(self, root: Node, problems: Problems) -> bool:
        """Whether the document has no cycle and stays within EXPANDED_NODES with every alias written out."""
        sizes: dict[int, int] = {}
        open_nodes: set[int] = set()
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, closing = stack.pop()
            key = id(node)
            if isinstance(node, Scalar):
                sizes[key] = 1
                continue
            children: list[Node] = (
                [part for pair in node.value for part in pair] if isinstance(node, Mapping) else list(node.value)
            )
            if closing:
                open_nodes.discard(key)
                sizes[key] = 1 + sum(sizes[id(child)] for child in children)
                continue
            if key in sizes:
                continue
            if key in open_nodes:
                problems.add(self.where(node), "This anchor contains an alias of itself.", "Write it out.")
                return False
            open_nodes.add(key)
            stack.append((node, True))
            stack.extend((child, False) for child in children if id(child) not in sizes or id(child) in open_nodes)
        if sizes[id(root)] > EXPANDED_NODES:
            problems.add(self.where(root), f"With its aliases written out the document has {sizes[id(root)]} values; "
                                           f"the limit is {EXPANDED_NODES}.", "Use fewer aliases.")
            return False
        return True
