"""The programs behind the cost model: each series differs in one number only, and the time of a decision is drawn against it.

A program has three kinds of offers. Those *out* have rules like the workloads' and one more that nobody passes, so that the
index takes them out for every customer. Those that *compete* have no rule that fails anybody. One is stopped and only names
attributes, so that what a decision reads of a profile does not hang on the rest. What an offer looks like follows from its
number alone: a longer program begins with the offers of a shorter one, and an offer with more rules or features with those
of an offer with fewer. Everything else (attributes, customers, forms of rules, prices, texts) is that of `shop`.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from loadtest import attributes, names, offers, workload
from loadtest.attributes import Attribute
from loadtest.names import CHANNEL
from loadtest.workload import Workload

BLOCK = 200  # decisions of one program at a time
OTHER_CHANNEL = "phone"  # nobody asks for it, so a rule that demands it takes an offer out


@dataclass(frozen=True, slots=True)
class Shape:
    """What a generated program is made of."""

    out: int = 0  # offers that the index takes out
    rules: int = 6  # of each of these, beside the one that nobody passes
    over: int = 20  # attributes that these rules are about, all together
    competing: int = 0  # offers that a customer may get
    choices: int = 1  # so many times as many offers, of which customers get different ones
    features: int = 20  # of their scorecards
    evaluated: int = 0  # so many of them have a rule of their own about two attributes, which the index cannot hold
    read: int = 40  # attributes that the stopped offer names
    slots: int = 1  # asked for, over all placements
    placements: int = 1
    model: bool = False  # the competing offers are rows of an ONNX model
    events: bool = False  # one aggregate counts the customer's events


@dataclass(frozen=True, slots=True)
class Series:
    """One unit of the cost model: programs that differ in ``field`` only.

    ``history``: they are one program, and customers with so many contacts or events each are what differs.
    """

    name: str
    field: str
    values: tuple[int, ...]
    base: Shape
    history: str = ""  # 'contacts' or 'events'

    def shapes(self) -> list[Shape]:
        """A program's shape for each value; the same one for each where customers differ."""
        if self.history:
            return [self.base for _ in self.values]
        return [dataclasses.replace(self.base, **{self.field: value}) for value in self.values]  # type: ignore[arg-type]


SERIES = (
    Series("attribute", "read", (1, 10, 20, 30, 40), Shape(features=1)),
    Series("ruled", "over", (4, 8, 12, 16, 20), Shape(out=1_000, rules=3)),
    Series("out", "out", (1_000, 4_000, 8_000, 16_000), Shape()),
    Series("rule", "rules", (2, 4, 8, 12), Shape(out=4_000)),
    Series("evaluated", "evaluated", (32, 64, 128, 256), Shape(competing=256)),
    Series("competing", "competing", (64, 128, 256, 512, 768), Shape()),
    Series("far", "choices", (1, 5, 10, 20, 40), Shape(competing=256)),
    Series("features of many", "features", (8, 16, 24), Shape(competing=512)),
    Series("features of few", "features", (8, 16, 24), Shape(competing=8)),
    Series("bounded", "competing", (2_048, 4_096, 8_192, 12_288), Shape()),
    Series("slot", "slots", (1, 2, 4, 8, 12), Shape(competing=256)),
    Series("placement", "placements", (1, 2, 4, 8), Shape(competing=256, slots=8)),
    Series("row", "competing", (8, 24, 40, 60), Shape(model=True)),
    Series("contact", "contacts", (0, 8, 16, 32, 64), Shape(competing=64), history="contacts"),
    Series("event", "events", (0, 8, 16, 32, 64), Shape(competing=64, events=True), history="events"),
)


@functools.cache
def base() -> Workload:
    """The workload whose customers and attributes the programs read."""
    return workload.load("shop")


@functools.cache
def with_model() -> Workload:
    """The workload whose ONNX model the rows go through."""
    return workload.load("bank")


def sources(shape: Shape) -> dict[str, bytes]:
    """The program's files by name, as `core.programs.source.read` takes them."""
    like = base()
    columns = attributes.of(like)
    schema = {**offers.schema(with_model() if shape.model else like, columns), "events": {"view": {}}}
    made = {
        name: {"slots": shape.slots // shape.placements, "fallback": {"title": "Welcome"}}
        for name in names.placements(shape.placements)
    }
    return {
        "program.yaml": _yaml({"program": "cost", "currency": "EUR"}),
        "schema.yaml": _yaml(schema),
        "channels.yaml": _yaml({CHANNEL: {"placements": made}, OTHER_CHANNEL: {"placements": {names.PLACEMENT: {}}}}),
        "groups.yaml": _yaml({"all": {"contact": {"caps": [{"outcome": "shown", "at_most": 1_000, "per": "7d"}]}}}),
        "offers/offers.yaml": "---\n".join(
            "\n".join(lines) + "\n" for lines in _offers(shape, columns)
        ).encode(),
    }


def _yaml(document: object) -> bytes:
    text: str = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, width=200)
    return text.encode()


def _offers(shape: Shape, columns: list[Attribute]) -> Iterator[Iterator[str]]:
    yield _reading(shape, columns)
    # Those that compete come first in the order of names, so that what is out changes no number of theirs.
    for number in range(shape.competing * shape.choices):
        yield _competing(shape, columns, number)
    for number in range(shape.out):
        yield _out(shape, columns, number)


def _head(shape: Shape, columns: list[Attribute], name: str, generator: random.Random) -> Iterator[str]:
    yield f"offer: {name}"
    yield "group: all"
    yield f"value: {generator.randrange(200, 20_000) / 100:.2f} EUR"
    yield "contact: {caps: [{outcome: shown, at_most: 1000, per: 7d}]}"
    yield from _propensity(shape, columns, random.Random(f"propensity/{name}"))


def _reading(shape: Shape, columns: list[Attribute]) -> Iterator[str]:
    yield from _head(shape, columns, "reading", random.Random(0))
    yield "stopped: true"
    named = [f"{{{{ customer.{column.name} }}}}" for column in columns[: shape.read]]
    if shape.events:
        named.append("{{ events.view.count_30d }}")
    yield f"treatments: {{{CHANNEL}.{names.PLACEMENT}: {{title: \"{' '.join(named) or 'nothing'}\"}}}}"


def _competing(shape: Shape, columns: list[Attribute], number: int) -> Iterator[str]:
    generator = random.Random(f"competing/{number}")
    yield from _head(shape, columns, f"offer_{number:06d}", generator)
    list_price = generator.randrange(500, 50_000)
    enum = generator.choice([column for column in columns if column.kind == "enum"])
    yield "price:"
    yield f"  list: {list_price / 100:.2f} EUR"
    yield f"  floor: {list_price * 0.7 / 100:.2f} EUR"
    label = generator.choice(enum.labels)
    yield f"  adjustments: [{{percent: -{generator.choice((5, 10, 15, 20))}, when: \"customer.{enum.name} == '{label}'\"}}]"
    first, second = generator.sample([column.name for column in columns if column.kind in ("enum", "int")], 2)
    yield "treatments:"
    for placement in names.placements(shape.placements):
        yield f"  {CHANNEL}.{placement}:"
        yield f'    title: "Number {number} for {{{{ customer.{first} }}}}"'
        yield f'    text: "You have {{{{ customer.{second} }}}}"'
    if shape.choices > 1:
        yield "eligibility:"
        for about, labels in _chosen(number, shape.choices):
            yield f'  - "customer.{about} in {[f"{about}_{label:02d}" for label in labels]}"'
    if number < shape.evaluated:
        # Nobody lacks these two.
        yield f'eligibility: ["customer.visits + customer.points > -{number + 1}"]'


def _chosen(number: int, choices: int) -> Iterator[tuple[str, range]]:
    """Labels of one attribute, or of two, which every customer has, that give this offer to one customer of ``choices``."""
    first = min(choices, attributes.LABELS)
    width = attributes.LABELS // first
    yield "country", range(number % first * width, (number % first + 1) * width)
    if choices > first:
        width = attributes.LABELS * first // choices
        place = number // first % (choices // first)
        yield "lifecycle", range(place * width, (place + 1) * width)


def _propensity(shape: Shape, columns: list[Attribute], generator: random.Random) -> Iterator[str]:
    # All offers alike, those that never compete too: scorecards over the same features are one table, as in the workloads.
    if shape.model:
        yield f"propensity: {{model: {offers.program_name(with_model())}}}"
        yield "fields:"
        for name in offers.offer_fields(with_model()):
            yield f"  {name}: {generator.random():.4f}"
    else:
        yield from offers.scorecard(offers.features(dataclasses.replace(base(), features=shape.features), columns), generator)


def _out(shape: Shape, columns: list[Attribute], number: int) -> Iterator[str]:
    generator = random.Random(f"out/{number}")
    yield from _head(shape, columns, f"outside_{number:06d}", generator)
    yield f"treatments: {{{CHANNEL}.{names.PLACEMENT}: {{title: Nobody}}}}"
    yield "eligibility:"
    yield f"  - channel == '{OTHER_CHANNEL}'"
    about = columns[: shape.over]
    generator.shuffle(about)
    for column in about[: shape.rules]:
        drawn = random.Random(f"rule/{number}/{column.name}")
        text, _ = offers.condition(column, drawn, drawn.uniform(0.4, 0.9), base().thresholds)
        yield f'  - "{text}"'
