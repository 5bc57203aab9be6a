"""From a folder of YAML to a checked program, or to all problems at once.

`read` collects a program's files as bytes (`Sources`), which is also what travels over the wire and lies in the store.
`check` reads them in the order of what they need: program, schema, channels, definitions (segments, derived values, bands),
groups, offers; names used before they are declared (related offers) are looked up last. Offers are read file by file and
their nodes dropped, so memory follows the largest file, not the program. Everything wrong is noted with its place; a program
is returned only when nothing was.

`programs/README.md` lists every key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from core import limits
from core.errors import EngineFault, Problem, ProgramError, Where, nearest
from core.expressions import Expression, InputKind
from core.programs.checker import REAL, Checker
from core.programs.collecting import paused
from core.programs.definitions import read_definitions
from core.programs.document import Document, Node, Problems, Scalar, Sequence
from core.programs.document import Mapping as MappingNode
from core.programs.offer_source import OfferReader, check_unique
from core.programs.policy import KEYS as POLICY_KEYS
from core.programs.policy import Declared, read_caps, read_policy
from core.programs.program import Arbitration, ContentType, Group, Offer, Placement, Program, Score
from core.programs.reading import Reader, Table, is_empty
from core.programs.schema_source import read_currency, read_schema
from core.schema import Schema, ValueType

_PROGRAM_KEYS: Final = (
    "program", "description", "currency", "instance_expiry", "segments", "derived", "bands", "scores", "arbitration", "caps",
    "schema", "channels", "groups", "offers",
)
_ARBITRATION_KEYS: Final = (
    "propensity", "context_weight", "value", "levers", "formula", "repeats", "at_most_per_group",
)
_PLACEMENT_KEYS: Final = ("slots", "content_type", "fallback", "at_most_per_group", "description")
_FILES: Final = ("program", "schema", "channels", "groups", "offers")
_FOLDERS: Final = ("groups", "offers")
# The importer's, and not part of a program.
_OTHER_FOLDERS: Final = ("data", "mappings")
_OTHER_FILES: Final = "mapping"


@dataclass(frozen=True, slots=True)
class Sources:
    """A program's files: POSIX paths inside its folder, in order, and their bytes."""

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 over all names and contents, in hex: equal for equal sources whatever folder they lay in."""
        digest = hashlib.sha256()
        for name, data in self.files.items():
            encoded = name.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded + len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


def read(source: Path | str | Mapping[str, bytes]) -> Sources:
    """The files of a program's folder, or those of a mapping of file name to bytes, sorted by name.

    Reads ``*.yaml`` and ``*.yml`` where programs have them; ``mapping*.yaml``, ``data/`` and ``mappings/`` are the
    importer's and left out. Raises ProgramError for a folder that is not there, a file that cannot be read, too many
    bytes, or a YAML file where no program has one.
    """
    problems = Problems()
    if isinstance(source, Mapping):
        found = dict(sorted((_normal(name), bytes(data)) for name, data in source.items()))
    else:
        found = _read_folder(Path(source), problems)
    kept: dict[str, bytes] = {}
    for name, data in found.items():
        path = PurePosixPath(name)
        if path.suffix not in (".yaml", ".yml") or any(part.startswith(".") for part in path.parts):
            continue
        if path.parts[0] in _OTHER_FOLDERS or path.name.startswith(_OTHER_FILES):
            continue
        folder = len(path.parts) > 1
        if (path.parts[0] in _FOLDERS) if folder else (path.stem in _FILES):
            kept[name] = data
        else:
            close = nearest(path.parts[0] if folder else path.stem, _FOLDERS if folder else _FILES)
            right = f"{close}/{'/'.join(path.parts[1:])}" if folder else f"{close}{path.suffix}"
            problems.add(Where(name, 1, 1), "No program has a file of this name.",
                         f"Did you mean '{right}'?" if close else "programs/README.md lists the files of a program.")
    total = sum(map(len, kept.values()))
    if total > limits.PROGRAM_BYTES:
        problems.add(Where("program.yaml", 1, 1), f"The files have {total} bytes together; the limit is "
                                                  f"{limits.PROGRAM_BYTES}.", "Divide the program.")
    problems.refuse_if_any()
    return Sources(MappingProxyType(kept))


def _normal(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def _read_folder(folder: Path, problems: Problems) -> dict[str, bytes]:
    if not folder.is_dir():
        what = "This is not a folder." if folder.exists() else "There is no such folder."
        raise ProgramError([Problem(Where(str(folder), 1, 1), what, "Name the folder that holds program.yaml.")])
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*.y*ml")):
        name = path.relative_to(folder).as_posix()
        try:
            if path.is_file():
                found[name] = path.read_bytes()
        except OSError as error:
            problems.add(Where(name, 1, 1), f"The file cannot be read: {error.strerror}.", "Check its permissions.")
    return dict(sorted(found.items()))


def check(sources: Sources) -> Program:
    """The checked program. Raises ProgramError with every problem found, by file, line and column."""
    problems = Problems()
    program: Program | None = None
    with paused(), suppress(_Unusable):
        program = _Check(sources, problems).program()
    problems.refuse_if_any()
    if program is None:
        raise EngineFault("A program was found unusable without a problem being noted.")
    return program


def declared_at(sources: Sources, path: Iterable[str]) -> Where:
    """Where the schema of a checked program declares what ``path`` leads to, as in ("attributes", "age")."""
    problems = Problems()
    with suppress(_Unusable):
        return _Check(sources, problems).declared_at(tuple(path))
    return Where("schema.yaml", 1, 1)


class _Unusable(Exception):
    """There is nothing to check further against."""


class _Check:
    """One check under way."""

    def __init__(self, sources: Sources, problems: Problems) -> None:
        self._sources = sources
        self._problems = problems
        self._inline: dict[str, tuple[Reader, Node]] = {}

    def program(self) -> Program:
        table, reader = self._program_table()
        name = self._name(table, reader)
        currency = read_currency(reader, table.get("currency"))
        expiry_us = 30 * 86_400 * 1_000_000
        if (node := table.get("instance_expiry")) is not None:
            expiry_us = reader.duration(node, "instance_expiry") or expiry_us
        schema_reader, schema_root = self._section("schema", table, reader)
        declared_schema = read_schema(schema_reader, schema_root, currency)
        schema = declared_schema.schema
        channels, placements = self._channels(table, reader)
        checker = Checker(schema, channels)
        declared = Declared(schema, declared_schema.offer_fields, currency, channels, placements, checker)
        defined = read_definitions(table, reader, checker)
        scores = self._scores(table, reader, schema)
        caps = read_caps(reader, table.get("caps"), "program", declared)
        arbitration = self._arbitration(table, reader, declared)
        self._groups(table, reader, declared)
        offers = self._offers(table, reader, declared, arbitration)
        self._related(declared, offers)
        ordered = tuple(offers[each] for each in sorted(offers))
        groups = {each: declared.groups[each] for each in sorted(declared.groups)}
        return Program(
            name=name, digest=self._sources.digest, schema=schema, channels=channels, placements=placements,
            groups=MappingProxyType(groups), offers=ordered, arbitration=arbitration, currency=currency, caps=caps,
            instance_expiry_us=expiry_us, segments=MappingProxyType(defined.segments),
            derived=MappingProxyType(defined.derived), bands=MappingProxyType(defined.bands),
            scores=MappingProxyType(scores),
        )

    def declared_at(self, path: tuple[str, ...]) -> Where:
        """The place of the key that ``path`` leads to in the schema; of the nearest one around it where it leads on nowhere."""
        reader, node = self._section("schema", *self._program_table())
        where = Where("schema.yaml", 1, 1) if node is None else reader.where(node)
        for name in path:
            table = None if node is None else reader.table(node, "the schema")
            entry = None if table is None else next((each for each in table.items() if each[0] == name), None)
            if entry is None:
                break
            where, node = reader.where(entry[1]), entry[2]
        return where

    # --- files ------------------------------------------------------------------------------------------------

    def _roots(self, stem: str, *, folder: bool = False) -> Iterator[tuple[Reader, Node]]:
        """The documents of ``<stem>.yaml`` and, with ``folder``, of every file under ``<stem>/``."""
        for name, data in self._sources.files.items():
            path = PurePosixPath(name)
            own = len(path.parts) == 1 and path.stem == stem
            if own or (folder and len(path.parts) > 1 and path.parts[0] == stem):
                document = Document.decode(name, data, self._problems)
                if document is not None:
                    reader = Reader(document, self._problems)
                    for node in document.nodes(self._problems):
                        yield reader, node

    def _program_table(self) -> tuple[Table, Reader]:
        found: tuple[Table, Reader] | None = None
        for reader, node in self._roots("program"):
            if found is not None:
                reader.problem(node, "A program is declared once.", "Remove this document.")
                continue
            table = reader.table(node, "program.yaml", _PROGRAM_KEYS)
            if table is not None:
                found = table, reader
        if found is not None:
            return found
        # What else is wrong cannot be told without the program's own keys, its currency above all.
        if not len(self._problems):
            self._problems.add(Where("program.yaml", 1, 1), "The program has no program.yaml, or it is empty.",
                               "Write one that begins with program: and the program's name.")
        raise _Unusable

    def _name(self, table: Table, reader: Reader) -> str:
        node = table.get("program")
        if node is None:
            self._problems.add(table.where, "The program has no name.", "Add program: and a name.")
            return ""
        return reader.name(node, "the name of a program") or ""

    def _section(self, stem: str, table: Table, reader: Reader) -> tuple[Reader, Node | None]:
        """The one document of a section: its own file's, or the key of program.yaml."""
        found: tuple[Reader, Node | None] = (reader, table.get(stem))
        for own, node in self._roots(stem):
            if found[1] is not None:
                first = found[0].where(found[1])
                own.problem(node, f"'{stem}' is declared a second time.", f"The first is at {first}.")
            else:
                found = own, node
        return found

    def _section_roots(self, stem: str, table: Table, reader: Reader) -> Iterator[tuple[Reader, Node]]:
        inline = table.get(stem)
        if inline is not None:
            yield reader, inline
        yield from self._roots(stem, folder=True)

    # --- sections ---------------------------------------------------------------------------------------------

    def _channels(self, table: Table, reader: Reader) -> tuple[tuple[str, ...], MappingProxyType[str, Placement]]:
        own, root = self._section("channels", table, reader)
        channels: list[str] = []
        placements: dict[str, Placement] = {}
        listed = None if root is None else own.table(root, "channels")
        for _, key, value in () if listed is None else listed.items():
            channel = own.name(key, "the name of a channel")
            if channel is None:
                continue
            channels.append(channel)
            if is_empty(value):
                continue
            body = own.table(value, f"channel '{channel}'", ("content_type", "placements", "description"))
            if body is None:
                continue
            default = self._content_type(own, body, ContentType.TEXT)
            node = body.get("placements")
            places = None if node is None else own.table(node, f"the placements of '{channel}'")
            for _, place_key, place in () if places is None else places.items():
                name = own.name(place_key, "the name of a placement")
                if name is not None:
                    full = f"{channel}.{name}"
                    placements[full] = self._placement(own, full, channel, place, default)
        return tuple(channels), MappingProxyType(placements)

    def _placement(self, reader: Reader, full: str, channel: str, node: Node, default: ContentType) -> Placement:
        table = None if is_empty(node) else reader.table(node, f"placement '{full}'", _PLACEMENT_KEYS)
        if table is None:
            return Placement(full, channel, default)
        slots = 1
        if (written := table.get("slots")) is not None:
            slots = reader.integer(written, "slots", 1, limits.SLOTS_PER_PLACEMENT) or 1
        fallback: dict[str, str] = {}
        written = table.get("fallback")
        content = None if written is None else reader.table(written, f"the fallback of '{full}'")
        for _, key, value in () if content is None else content.items():
            name = reader.name(key, "the name of a content field")
            text = reader.text(value, "The content")
            if name is None or text is None:
                continue
            if "{{" in text:
                reader.problem(value, "A fallback is plain text: {{ }} would be shown as it stands.",
                               "Nothing is known about the customer where it is returned; write it out.")
            elif len(text.encode()) > limits.CONTENT_BYTES:
                reader.problem(value, f"The content has {len(text.encode())} bytes; the limit is "
                                      f"{limits.CONTENT_BYTES}.", "Send a link to longer content.")
            fallback[name] = text
        return Placement(full, channel, self._content_type(reader, table, default), slots, MappingProxyType(fallback),
                         self._at_most(reader, table))

    def _content_type(self, reader: Reader, table: Table, default: ContentType) -> ContentType:
        node = table.get("content_type")
        if node is None:
            return default
        chosen = reader.known(node, "content type", tuple(each.value for each in ContentType))
        return ContentType(chosen) if chosen else default

    def _at_most(self, reader: Reader, table: Table) -> int:
        node = table.get("at_most_per_group")
        if node is None:
            return 0
        return reader.integer(node, "at_most_per_group", 1, limits.SLOTS_PER_PLACEMENT) or 0

    def _scores(self, table: Table, reader: Reader, schema: Schema) -> dict[str, Score]:
        node = table.get("scores")
        listed = None if node is None else reader.table(node, "scores")
        scores: dict[str, Score] = {}
        for _, key, value in () if listed is None else listed.items():
            name = reader.name(key, "the name of a score")
            score = reader.table(value, f"score '{name}'", ("model", "into")) if name is not None else None
            if name is None or score is None:
                continue
            model, into = score.get("model"), score.get("into")
            if model is None or into is None:
                reader.problem(key, f"Score '{name}' has no {'model' if model is None else 'attribute'}.",
                               "Write {model: churn, into: churn_score}.")
                continue
            attribute = reader.known(into, "attribute", schema.attributes)
            chosen = reader.name(model, "the name of a model")
            if attribute is None or chosen is None:
                continue
            declared = schema.attributes[attribute]
            taken = next((each.name for each in scores.values() if each.into == attribute), None)
            if declared.type is not ValueType.DOUBLE:
                reader.problem(into, f"Attribute '{attribute}' is of type {declared.type.value}; a score is a double.",
                               f"Declare {attribute}: double.")
            elif declared.sources:
                reader.problem(into, f"Attribute '{attribute}' has sources, and a score comes from none of them.",
                               "Leave sources out: the model alone sets it.")
            elif taken is not None:
                reader.problem(into, f"Attribute '{attribute}' holds the score '{taken}' already.", "Declare one more.")
            else:
                scores[name] = Score(name, chosen, attribute, reader.where(model))
        if len(scores) > limits.SCORES:
            self._problems.add(table.where, f"The program has {len(scores)} scores; the limit is {limits.SCORES}.",
                               "Keep those that something reads.")
        return scores

    def _arbitration(self, table: Table, reader: Reader, declared: Declared) -> Arbitration:
        node = table.get("arbitration")
        own = None if node is None else reader.table(node, "arbitration", _ARBITRATION_KEYS)
        if own is None:
            return Arbitration()
        formula: Expression | None = None
        written = own.get("formula")
        if written is not None and reader.text(written, "a formula") is not None and isinstance(written, Scalar):
            formula = declared.checker.expression(reader, written, REAL, formula=True)
            for key in ("propensity", "context_weight", "value", "levers"):
                if (off := own.get(key)) is not None:
                    reader.problem(off, f"'{key}' has no effect beside a formula.",
                                   "Leave the factor out of the formula instead.")
        return Arbitration(
            use_propensity=reader.boolean(own.get("propensity"), "propensity", default=True),
            use_context_weight=reader.boolean(own.get("context_weight"), "context_weight", default=True),
            use_value=reader.boolean(own.get("value"), "value", default=True),
            use_levers=reader.boolean(own.get("levers"), "levers", default=True),
            formula=formula, repeats=reader.boolean(own.get("repeats"), "repeats", default=False),
            at_most_per_group=self._at_most(reader, own),
        )

    def _groups(self, table: Table, reader: Reader, declared: Declared) -> None:
        seen: dict[str, Where] = {}
        for own, root in self._section_roots("groups", table, reader):
            if isinstance(root, MappingNode) and not any(
                isinstance(key, Scalar) and key.value == "group" for key, _ in root.value
            ):
                listed = own.table(root, "groups")
                for _, key, value in () if listed is None else listed.items():
                    if is_empty(value):
                        body: Table | None = Table(MappingNode("", []), own.where(key), {})
                    else:
                        body = own.table(value, f"group '{key.value}'", POLICY_KEYS)
                    if body is not None:
                        self._group(own, key, body, declared, seen)
                continue
            for each in root.value if isinstance(root, Sequence) else [root]:
                body = own.table(each, "a group", ("group", *POLICY_KEYS))
                if body is None:
                    continue
                written = body.get("group")
                if written is None:
                    own.problem(each, "A group has no name.", "Begin it with group: and its name.")
                else:
                    self._group(own, written, body, declared, seen)

    def _group(self, reader: Reader, at: Node, table: Table, declared: Declared, seen: dict[str, Where]) -> None:
        name = reader.name(at, "the name of a group")
        if name is None:
            return
        where = reader.where(at)
        if name in seen:
            reader.problem(at, f"The group '{name}' is declared twice.", f"The first is at {seen[name]}.")
            return
        seen[name] = where
        if name == "program":
            reader.problem(at, "A group cannot be named 'program': ids of the program's own caps begin so.",
                           "Choose another.")
        policy = read_policy(reader, table, name, declared, None)
        declared.groups[name] = Group(
            name=name, rules=policy.rules, caps=policy.caps, suppressions=policy.suppressions,
            context_weights=policy.context_weights, levers=policy.levers, consent=policy.consent,
            paused_by_cases=policy.paused_by_cases,
        )

    def _offers(self, table: Table, reader: Reader, declared: Declared, arbitration: Arbitration) -> dict[str, Offer]:
        used = {"propensity": arbitration.use_propensity, "value": arbitration.use_value}
        if arbitration.formula is not None:
            terms = {each.name for each in arbitration.formula.inputs if each.kind is InputKind.TERM}
            used = {factor: factor in terms for factor in used}
        offers: dict[str, Offer] = {}
        seen: dict[str, Where] = {}
        read_offer = OfferReader(declared, propensity_used=used["propensity"], value_used=used["value"])
        for own, root in self._section_roots("offers", table, reader):
            for node in root.value if isinstance(root, Sequence) else [root]:
                offer = read_offer.read(own, node)
                if offer is not None and check_unique(own, offer, seen, declared):
                    offers[offer.name] = offer
            if len(offers) > limits.OFFERS:
                own.problem(root, f"The program has more than {limits.OFFERS} offers.", "Divide the program.")
                break
        return offers

    def _related(self, declared: Declared, offers: Mapping[str, Offer]) -> None:
        for reader, node, kind in declared.related:
            name = reader.text(node, f"the name of a related {kind}")
            if kind == "offer" and name is not None and name not in offers and name in declared.groups:
                reader.problem(node, f"'{name}' is a group.", "Name it under related_groups.")
            else:
                reader.known(node, kind, offers if kind == "offer" else declared.groups)
