"""Typed reading of a document's nodes: each getter gives a value, or notes a problem with its place and gives None.

A reader never raises for what an author wrote; it notes and goes on, so that one attempt tells everything. A key
whose value is empty (``eligibility:`` and nothing after it) reads as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

from core import limits
from core.errors import Where, nearest
from core.programs import quantity
from core.programs.document import EXCLAMATION, Document, Mapping, Node, Problems, Scalar, Sequence
from core.schema import Money

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_T = TypeVar("_T")


def is_empty(node: Node) -> bool:
    """Whether nothing was written after a key, or YAML's null."""
    return isinstance(node, Scalar) and not node.style and node.value in ("", "~", "null")


class Table:
    """A mapping's keys, each once, with what was written; unknown keys have been noted as problems."""

    __slots__ = ("_entries", "node", "where")

    def __init__(self, node: Mapping, where: Where, entries: dict[str, tuple[Scalar, Node]]) -> None:
        self.node = node
        self.where = where
        self._entries = entries

    def get(self, key: str) -> Node | None:
        """The value of a key, or None when it is absent or empty."""
        entry = self._entries.get(key)
        return None if entry is None or is_empty(entry[1]) else entry[1]

    def has(self, key: str) -> bool:
        """Whether the key was written, even with nothing after it."""
        return key in self._entries

    def items(self) -> Iterable[tuple[str, Scalar, Node]]:
        """Key, key's node, value's node in written order."""
        return ((key, entry[0], entry[1]) for key, entry in self._entries.items())


class Reader:
    """Reads nodes of one document and notes problems."""

    __slots__ = ("document", "problems")

    def __init__(self, document: Document, problems: Problems) -> None:
        self.document = document
        self.problems = problems

    def problem(self, node: Node, message: str, hint: str = "") -> None:
        """Notes a problem at a node."""
        self.problems.add(self.document.where(node), message, hint)

    def where(self, node: Node) -> Where:
        return self.document.where(node)

    # --- shapes -----------------------------------------------------------------------------------------------

    def table(self, node: Node, what: str, known: Iterable[str] | None = None) -> Table | None:
        """A mapping. ``known`` are its legal keys; None: its keys are names that the author chooses."""
        if not isinstance(node, Mapping):
            self.problem(node, f"{_sentence(what)} must be a mapping of keys to values, not {_shape(node)}.")
            return None
        entries: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Node] = []
        for key_node, value in node.value:
            if not isinstance(key_node, Scalar):
                self.problem(key_node, f"A key of {what} must be a text, not {_shape(key_node)}.",
                             "A text with brackets or braces needs quotes.")
                continue
            key = self.document.value(key_node)
            if key == "<<" and not key_node.style:
                merged.append(value)
                continue
            if key in entries:
                first = self.document.where(entries[key][0])
                self.problem(key_node, f"Key '{key}' stands twice in {what}.", f"The first is in line {first.line}.")
                continue
            entries[key] = (key_node, value)
        for value in merged:
            self._merge(value, entries)
        if known is not None:
            legal = tuple(known)
            for key in [key for key in entries if key not in legal]:
                self._unknown_key(entries.pop(key)[0], key, what, legal)
        return Table(node, self.document.where(node), entries)

    def _merge(self, value: Node, entries: dict[str, tuple[Scalar, Node]]) -> None:
        """YAML's merge key: what is written here wins, then the first of the merged mappings."""
        for source in value.value if isinstance(value, Sequence) else [value]:
            if not isinstance(source, Mapping):
                self.problem(source, f"'<<' takes a mapping or a list of mappings, not {_shape(source)}.",
                             "Write <<: *name, where &name marks a mapping above.")
                continue
            nested: list[Node] = []
            for key_node, inherited in source.value:
                if isinstance(key_node, Scalar):
                    key = self.document.value(key_node)
                    if key == "<<":
                        nested.append(inherited)
                    else:
                        entries.setdefault(key, (key_node, inherited))
            for inner in nested:
                self._merge(inner, entries)

    def _unknown_key(self, node: Scalar, key: str, what: str, legal: tuple[str, ...]) -> None:
        if "?" in key and not node.style and "when" in legal:
            self.problem(node, "YAML reads this as a key, because of the colon followed by a blank.",
                         "Put the whole expression in quotes.")
            return
        close = nearest(key, legal)
        hint = f"Did you mean '{close}'?" if close else f"It has: {', '.join(legal)}."
        self.problem(node, f"There is no key '{key}' in {what}.", hint)

    def items(self, node: Node | None, what: str) -> list[Node]:
        """The items of a list; an absent one has none."""
        if node is None:
            return []
        if not isinstance(node, Sequence):
            self.problem(node, f"{_sentence(what)} must be a list, not {_shape(node)}.",
                         "Begin each item with a dash, or put them in [ ].")
            return []
        items: list[Node] = []
        for item in node.value:
            if is_empty(item) and item.value == "":
                self.problem(item, f"An item of {what} is empty.", "Remove its dash, or write something after it.")
            else:
                items.append(item)
        return items

    # --- texts and names --------------------------------------------------------------------------------------

    def text(self, node: Node, what: str) -> str | None:
        """A scalar as written."""
        if not isinstance(node, Scalar):
            flow = getattr(node, "flow_style", False)
            hint = "A text with braces or brackets at its beginning needs quotes." if flow else ""
            self.problem(node, f"{what} must be a text, not {_shape(node)}.", hint)
            return None
        return self.document.value(node)

    def name(self, node: Node, what: str) -> str | None:
        """A name as programs form them: ``[a-z][a-z0-9_]*``, at most NAME_LENGTH characters."""
        text = self.text(node, what)
        if text is None:
            return None
        if not _NAME.fullmatch(text):
            better = re.sub(r"[^a-z0-9_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()).strip("_")
            hint = f"Write {better}." if _NAME.fullmatch(better) else "It begins with a letter: a to z, 0 to 9 and _."
            self.problem(node, f"'{shorten(text)}' cannot be {what}.", hint)
            return None
        if len(text) > limits.NAME_LENGTH:
            self.problem(node, f"{what[:1].upper()}{what[1:]} has {len(text)} characters; the limit is {limits.NAME_LENGTH}.",
                         "Choose a shorter one.")
            return None
        return text

    def known(self, node: Node, kind: str, names: Collection[str]) -> str | None:
        """A name that has been declared."""
        text = self.text(node, f"a {kind}")
        if text is None:
            return None
        if text in names:
            return text
        close = nearest(text, names)
        listed = ", ".join(list(names)[:12])
        hint = f"Did you mean '{close}'?" if close else f"Declared: {listed}." if listed else "None is declared."
        self.problem(node, f"There is no {kind} '{shorten(text)}'.", hint)
        return None

    # --- values -----------------------------------------------------------------------------------------------

    def _parsed(self, node: Node, what: str, parse: Callable[[str], _T]) -> _T | None:
        text = self.text(node, what)
        if text is None:
            return None
        try:
            return parse(text)
        except quantity.QuantityError as error:
            self.problem(node, f"{what}: {error.problem}", error.hint)
            return None

    def boolean(self, node: Node | None, what: str, default: bool) -> bool:
        if node is None:
            return default
        value = self._parsed(node, what, quantity.parse_bool)
        return default if value is None else value

    def integer(self, node: Node, what: str, low: int, high: int) -> int | None:
        value = self._parsed(node, what, quantity.parse_int)
        if value is not None and not low <= value <= high:
            self.problem(node, f"{what} is {value}; it must lie between {low} and {high}.")
            return None
        return value

    def number(self, node: Node, what: str, low: float = float("-inf"), high: float = float("inf")) -> float | None:
        value = self._parsed(node, what, quantity.parse_number)
        if value is not None and not low <= value <= high:
            hint = f"For {value:g} % write {value / 100:g}." if high == 1 and 1 < value <= 100 else ""
            self.problem(node, f"{what} is {value:g}; it must lie between {low:g} and {high:g}.", hint)
            return None
        return value

    def duration(self, node: Node, what: str) -> int | None:
        return self._parsed(node, what, quantity.parse_duration)

    def moment(self, node: Node, what: str, *, whole_day: bool = False) -> int | None:
        return self._parsed(node, what, lambda text: quantity.parse_moment(text, whole_day=whole_day))

    def money(self, node: Node, what: str, currency: str) -> Money | None:
        """An amount in the given currency ('' when the program has none, which is a problem in itself)."""
        value = self._parsed(node, what, quantity.parse_money)
        if value is None:
            return None
        if not currency:
            self.problem(node, f"{what} is in {value.currency}, and the program declares no currency.",
                         f"Write currency: {value.currency} in program.yaml.")
            return None
        if value.currency != currency:
            self.problem(node, f"{what} is in {value.currency}; the program's currency is {currency}.",
                         f"Write it in {currency}.")
            return None
        return value


def shorten(text: str) -> str:
    """A text for a message: one line, at most 60 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."


def _sentence(what: str) -> str:
    return what[:1].upper() + what[1:]


def _shape(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "empty" if is_empty(node) else f"the text '{shorten(node.value.replace(EXCLAMATION, '!'))}'"
