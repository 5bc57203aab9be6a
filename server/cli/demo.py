"""Customers, events and history for the demonstration programs: generated from a seed, and owned by nobody.

`generate` writes, for each program, what a company's systems would deliver: a file of customers for each source, one
of events for each type, each with the mapping that `rapport import` reads it by, and a history (consents, cases,
outcomes) as JSON Lines, for which there is no import: it is told to the store. `load` does all of it for an empty or
existing store that no server owns.
The same seed, number of customers and time give the same bytes; loading again changes nothing.

Distributions are made up so that every stage of a decision has something to do: some customers have no consent, some
an open complaint, some a cap reached, some nothing but a cookie.
"""

from __future__ import annotations

import abc
import csv
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
import yaml

from core.errors import StoreUnavailable
from server.cli import show
from server.cli.commands import Json
from server.cli.exits import Exit, InputMissing
from server.cli.serving import File
from server.config import Config

if TYPE_CHECKING:
    from core.hub.store import Store
    from core.importing.importer import ImportReport

DEMOS: Final = ("bank", "shop")
DAY_US: Final = 86_400 * 1_000_000
# Mutations under way at once while a history is told; the committer takes a thousand into one commit.
_IN_FLIGHT: Final = 4096

_FIRST_NAMES: Final = (
    "Ana", "Bruno", "Carla", "Diego", "Elisa", "Filipe", "Greta", "Hugo", "Ines", "Jonas", "Karin", "Luis", "Marta",
    "Nuno", "Olga", "Pedro", "Rita", "Sofia", "Tiago", "Vera",
)
_JOBS: Final = (
    "admin.", "blue-collar", "entrepreneur", "housemaid", "management", "retired", "self-employed", "services",
    "student", "technician", "unemployed", "unknown",
)
_CATEGORIES: Final = ("shoes", "jackets", "bags", "sports", "home_living")
_README: Final = """# Generated data

Everything here was made by a random generator (seed {seed}, {customers} customers, as of {as_of}).
No person, company, account or order in it exists; names were drawn from a list of given names.
"""

Row = Mapping[str, object]

app = typer.Typer(
    help="Generated customers for the demonstration programs.", no_args_is_help=True, rich_markup_mode=None
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` did: the imports, and how many consents, cases and outcomes were told."""

    reports: tuple[ImportReport, ...]
    told: int


@app.command("generate")
def generate_command(
    folder: Annotated[Path, typer.Argument(help="Where to write: a sub-folder for each demonstration.")],
    customers: Annotated[int, typer.Option("--customers", "-n", min=1, max=1_000_000, help="How many in each.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same data.")] = 1,
    json: Json = False,
) -> None:
    """Write customers, events and history for the bank and the shop. All of it is generated."""
    folders = [str(each) for each in generate(folder, seed, customers)]
    if json:
        show.out.print(msgspec.json.encode({"folders": folders}).decode(), markup=False, soft_wrap=True)
    else:
        for each in folders:
            show.out.print(f"{customers} generated customers in {each}", markup=False, soft_wrap=True)


@app.command("load", short_help="Put generated customers into a store of no running server.")
def load_command(
    data: Annotated[Path, typer.Argument(help="A folder that generate wrote, such as data/bank.")],
    program: Annotated[Path, typer.Argument(help="The program it belongs to, such as programs/bank.")],
    store: Annotated[
        Path | None, typer.Option("--store", help="The store's folder. Default: store.path.", show_default=False)
    ] = None,
    config: File = None,
    json: Json = False,
) -> None:
    """Put generated customers, events and history into a store that no server is running on."""
    from core.hub.store import Store

    for folder in (data, program):
        if not folder.is_dir():
            raise InputMissing(str(folder), "is not a folder")
    settings = Config.load(config)
    try:
        opened = Store.open(store or Path(settings.store_path), **settings.store_bounds)
    except StoreUnavailable as error:
        error.hint = f"{error.hint} One process owns a store: stop the server on it first.".strip()
        raise
    with opened:
        loaded = load(opened, data, program)
        customers = opened.customer_count()
    rows = sum(report.applied for report in loaded.reports)
    rejected = sum(report.rejected for report in loaded.reports)
    if json:
        told = {"rows": rows, "rejected": rejected, "history": loaded.told, "customers": customers}
        show.out.print(msgspec.json.encode(told).decode(), markup=False, soft_wrap=True)
    else:
        show.out.print(f"{rows} rows imported, {rejected} rejected, {loaded.told} consents, cases and outcomes told; "
                       f"{customers} customers", markup=False, soft_wrap=True)
    if rejected:
        raise typer.Exit(Exit.PARTLY)


def generate(folder: Path, seed: int, customers: int, as_of_us: int | None = None) -> tuple[Path, ...]:
    """Writes the data of all demonstrations below ``folder``, one sub-folder each; returns these.

    ``as_of_us`` is the newest moment of the history in microseconds since 1970 (default: the last full hour), so that
    windows such as the last 30 days are not empty. The same three arguments give the same bytes.
    """
    if as_of_us is None:
        as_of_us = time.time_ns() // 1000 // (3600 * 1_000_000) * 3600 * 1_000_000
    makers = {"bank": _Bank, "shop": _Shop}
    return tuple(makers[name](seed, customers, as_of_us).write(folder / name) for name in DEMOS)


def load(store: Store, data: Path, program: Path) -> Loaded:
    """Declares the program's schema and puts a generated folder's customers, events and history into the store.

    ``data`` is one of the folders that `generate` wrote, ``program`` the program it belongs to. Raises ProgramError and
    MappingError for files that were changed to something wrong, ImportRefused for files that are missing.
    """
    # The importer and the expression parser are heavy; generating needs neither.
    from core.importing import mapping as mappings
    from core.importing.importer import Importer
    from core.programs.source import check, read

    checked = check(read(program))
    store.declare(checked.schema, [offer.name for offer in checked.offers], checked.channels)
    reports: list[ImportReport] = []
    # Customers first, so that what others say of them finds all their identifiers.
    for path in sorted(data.glob("mapping_*.yaml"), key=lambda path: (path.stem != "mapping_customers", path.name)):
        mapping = mappings.load(path, checked.schema)
        file = data / f"{path.stem.removeprefix('mapping_')}.{mapping.format or 'csv'}"
        reports.append(Importer(store, mapping).run(file))
    return Loaded(tuple(reports), _tell(store, data / "history.jsonl"))


def _tell(store: Store, history: Path) -> int:
    """Applies a history through the one way in; the store's order is the file's."""
    from core.decision import Identifier
    from core.hub.mutations import OpenCase, Outcome, RecordOutcomes, SetConsent

    waiting: list[Future[Any]] = []
    told = 0
    with history.open("rb") as lines:
        for line in lines:
            row = msgspec.json.decode(line)
            who = (Identifier(row["namespace"], row["identifier"]),)
            match row["kind"]:
                case "consent":
                    waiting.append(store.submit(SetConsent(
                        identifiers=who, purpose=row["purpose"], channel=row["channel"], granted=row["granted"],
                        source="generated", at_us=row["at_us"],
                    )))
                case "case":
                    waiting.append(store.submit(OpenCase(
                        identifiers=who, kind=row["case"], key=row["key"], at_us=row["at_us"],
                    )))
                case _:
                    waiting.append(store.submit(RecordOutcomes(outcomes=(Outcome(
                        identifiers=who, offer=row["offer"], outcome=row["outcome"], channel=row["channel"],
                        at_us=row["at_us"], value_minor=row["value_minor"], key=row["key"],
                    ),))))
            told += 1
            if len(waiting) >= _IN_FLIGHT:
                _settle(waiting)
    _settle(waiting)
    return told


def _settle(waiting: list[Future[Any]]) -> None:
    for future in waiting:
        future.result()
    waiting.clear()


class _Demo(abc.ABC):
    """What both demonstrations share: writing files, and drawing moments and shares."""

    namespace = "crm"
    offers: tuple[str, ...] = ()  # those of the history
    pressed: tuple[str, ...] = ()  # those that some customers were shown too often

    def __init__(self, seed: int, customers: int, as_of_us: int) -> None:
        # Each demonstration draws from its own stream, so that one can change without the other.
        self.random = random.Random(f"{seed} {type(self).__name__}")
        self.seed = seed
        self.customers = customers
        self.as_of_us = as_of_us

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        shown = _iso(self.as_of_us)
        (folder / "README.md").write_text(_README.format(seed=self.seed, customers=self.customers, as_of=shown))
        self.write_files(folder)
        return folder

    @abc.abstractmethod
    def write_files(self, folder: Path) -> None:
        """All files but the README."""

    # --- drawing ----------------------------------------------------------------------------------------------

    def moment(self, days: float) -> int:
        """A moment in the last ``days`` days, nearer ones likelier."""
        return self.as_of_us - int(self.random.betavariate(1, 2) * days * DAY_US)

    def since(self, days: int) -> str:
        """A day up to ``days`` days ago."""
        return _iso(self.as_of_us - int(self.random.betavariate(1, 2) * days) * DAY_US)

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def maybe(self, share: float, value: object) -> object:
        """The value, or nothing known in one of ``1 - share`` cases."""
        return value if self.random.random() < share else ""

    def count(self, mean: float) -> int:
        """How often something happened: most customers seldom, a few very often."""
        return min(int(self.random.expovariate(1 / mean) + 0.5), max(3, int(mean * 12)))

    # --- files ------------------------------------------------------------------------------------------------

    def profiles(self, folder: Path, source: str, rows: Sequence[Row], identifiers: Sequence[str],
                 attributes: Sequence[str], *, sets: Sequence[str] = ()) -> None:
        """What one source knows of the customers, ``customers.csv`` or ``<source>.csv``, and its mapping."""
        stem = "customers" if source == "crm" else source
        with (folder / f"{stem}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [*identifiers, *attributes, *sets], extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        cells: dict[str, object] = {name: name for name in attributes}
        cells.update({name: {"column": name, "separator": ";"} for name in sets})
        self.mapping(folder, stem, {
            "mapping": f"{folder.name}_{stem}", "source": source, "format": "csv", "row": "profile",
            "identifiers": {name: name for name in identifiers}, "attributes": cells,
        })

    def events(self, folder: Path, event: str, rows: Iterable[Row], fields: Sequence[str],
               identifiers: Sequence[str]) -> None:
        """``<event>.jsonl`` and its mapping."""
        encoder = msgspec.json.Encoder()
        with (folder / f"{event}.jsonl").open("wb") as file:
            for row in rows:
                file.write(encoder.encode(row) + b"\n")
        self.mapping(folder, event, {
            "mapping": f"{folder.name}_{event}", "source": "generated", "format": "jsonl", "row": "event",
            "event": event, "identifiers": {name: name for name in identifiers},
            "at": {"column": "at", "format": "epoch_us"}, "key": "key", "fields": {field: field for field in fields},
        })

    def mapping(self, folder: Path, name: str, keys: Row) -> None:
        text = yaml.safe_dump(dict(keys), sort_keys=False, allow_unicode=True, width=120)
        (folder / f"mapping_{name}.yaml").write_text(f"# Generated for the demonstration.\n{text}")

    def history(self, folder: Path, rows: Iterable[Row]) -> None:
        encoder = msgspec.json.Encoder()
        with (folder / "history.jsonl").open("wb") as file:
            for row in rows:
                file.write(encoder.encode(row) + b"\n")

    def consent(self, customer: int, purpose: str, granted: bool, channel: str = "") -> Row:
        return {
            "kind": "consent", "namespace": self.namespace, "identifier": str(customer), "purpose": purpose,
            "channel": channel, "granted": granted, "at_us": self.moment(700),
        }

    def case(self, customer: int, kind: str) -> Row:
        return {
            "kind": "case", "namespace": self.namespace, "identifier": str(customer), "case": kind,
            "key": f"generated-{kind}-{customer}", "at_us": self.moment(20),
        }

    def outcomes(self, customer: int, channels: Sequence[str], mean: float) -> Iterator[Row]:
        """Offers shown to a customer, and what became of some of them; a few were shown one again and again."""
        endings: tuple[list[str], ...] = ([], ["clicked"], ["rejected"], ["clicked", "accepted"])
        contacts = [
            (self.random.choice(self.offers), self.moment(60),
             ["shown", *self.random.choices(endings, weights=[70, 16, 11, 3])[0]])
            for _ in range(self.count(mean))
        ]
        if self.often(0.08):
            # Some said no to it, again and again; others only saw it too often.
            offer = self.random.choice(self.pressed)
            if self.often(0.7):
                contacts.extend((offer, self.moment(20), ["shown", "rejected"]) for _ in range(4))
            else:
                contacts.extend((offer, self.moment(5), ["shown"]) for _ in range(6))
        for number, (offer, at_us, became) in enumerate(contacts):
            channel = self.random.choice(channels)
            for step, outcome in enumerate(became):
                yield {
                    "kind": "outcome", "namespace": self.namespace, "identifier": str(customer), "offer": offer,
                    "outcome": outcome, "channel": channel, "value_minor": 0, "key": f"generated-{customer}-{number}",
                    "at_us": min(at_us + step * 30_000_000, self.as_of_us),
                }


class _Bank(_Demo):
    """Retail customers: accounts, cards and calls."""

    offers = (
        "term_deposit_3y", "term_deposit_1y", "savings_plan", "credit_card_classic", "credit_card_gold", "travel_card",
        "consumer_loan", "green_loan", "home_insurance", "travel_insurance", "activate_app", "branch_appointment",
    )
    pressed = ("term_deposit_3y", "savings_plan", "credit_card_classic", "activate_app")
    products = ("savings_plan", "youth_account", "gold_card", "travel_card", "home_insurance")

    def write_files(self, folder: Path) -> None:
        rows = [self._customer(number) for number in range(1, self.customers + 1)]
        self.profiles(folder, "crm", rows, ("crm", "email", "phone"), (
            "first_name", "age", "gender", "country", "job", "marital", "education", "vip", "since",
        ))
        self.profiles(folder, "core_banking", rows, ("crm",), (
            "balance", "monthly_income", "housing_loan", "personal_loan", "in_default", "term_deposit", "credit_card",
        ), sets=("products",))
        crm = ("crm",)
        self.events(folder, "login", self._events(rows, "login", 9, lambda _: {
            "device": self.random.choice(["phone", "phone", "desktop"])}), ("device",), crm)
        self.events(folder, "salary", self._events(rows, "salary", 5, lambda row: {
            "amount": row["monthly_income"]}), ("amount",), crm)
        self.events(folder, "overdraft", self._events(rows, "overdraft", 1.2, lambda _: {
            "amount": self._amount(20, 800)}), ("amount",), crm)
        self.events(folder, "late_payment", self._events(rows, "late_payment", 0.4, lambda _: {
            "amount": self._amount(20, 400), "days": self.random.randint(1, 40)}), ("amount", "days"), crm)
        self.events(folder, "card_payment", self._events(rows, "card_payment", 14, lambda _: {
            "amount": self._amount(3, 240), "abroad": self.often(0.08),
            "merchant": self.random.choice(["grocer", "fuel", "rail", "hotel", "books"])}),
            ("amount", "merchant", "abroad"), crm)
        self.events(folder, "page_view", self._events(rows, "page_view", 4, lambda _: {
            "page": self.random.choice(["/", "/loans", "/cards", "/deposits", "/help"])}), ("page",), crm)
        self.history(folder, self._history())

    def _amount(self, low: float, high: float) -> str:
        return f"{self.random.uniform(low, high):.2f}"

    def _customer(self, number: int) -> Row:
        draw = self.random
        age = min(18 + int(draw.betavariate(2, 3) * 72), 95)
        income = round(max(500.0, draw.lognormvariate(7.4, 0.45)), 2)
        job = "student" if age < 23 and self.often(0.6) else "retired" if age > 66 else draw.choice(_JOBS)
        held = [name for name in self.products if self.often(0.12)]
        return {
            "crm": number, "email": self.maybe(0.7, f"customer{number}@example.com"),
            "phone": self.maybe(0.6, f"+351 900 {number // 1000 % 1000:03} {number % 1000:03}"),
            "first_name": self.maybe(0.9, draw.choice(_FIRST_NAMES)), "age": self.maybe(0.98, age),
            "gender": self.maybe(0.9, draw.choice(["female", "male", "other"])),
            "country": draw.choices(["PT", "ES", "FR", "NO"], weights=[60, 25, 12, 3])[0], "job": job,
            "marital": draw.choices(["divorced", "married", "single"], weights=[12, 58, 30])[0],
            "education": draw.choices(["primary", "secondary", "tertiary", "unknown"], weights=[15, 50, 31, 4])[0],
            "balance": f"{draw.lognormvariate(7.6, 1.3) - 400:.2f}", "monthly_income": f"{income:.2f}",
            "housing_loan": _word(self.often(0.4)), "personal_loan": _word(self.often(0.16)),
            "in_default": _word(self.often(0.02)), "term_deposit": _word(self.often(0.12)),
            "credit_card": _word(self.often(0.45)), "vip": _word(self.often(0.03)),
            "products": ";".join(held), "since": self.since(7000),
        }

    def _events(self, rows: Sequence[Row], kind: str, mean: float, fields: Callable[[Row], Row]) -> Iterator[Row]:
        for row in rows:
            for number in range(self.count(mean)):
                key = f"{kind}-{row['crm']}-{number}"
                yield {"crm": str(row["crm"]), "key": key, "at": self.moment(365), **fields(row)}

    def _history(self) -> Iterator[Row]:
        for customer in range(1, self.customers + 1):
            if self.often(0.85):
                yield self.consent(customer, "marketing", self.often(0.86))
                if self.often(0.05):
                    yield self.consent(customer, "marketing", granted=False, channel="email")
            if self.often(0.5):
                yield self.consent(customer, "profiling", self.often(0.7))
            if self.often(0.03):
                yield self.case(customer, self.random.choice(["complaint", "complaint", "fault", "bereavement"]))
            yield from self.outcomes(customer, ("web", "email", "call_centre"), 3)


class _Shop(_Demo):
    """Visitors and members of a web shop; a third are nothing but a cookie."""

    namespace = "loyalty"
    pressed = ("newsletter", "join_loyalty", "welcome_back")
    offers = (
        "city_sneaker", "trail_runner", "leather_boot", "rain_shell", "down_light", "day_pack", "tote_canvas",
        "yoga_mat", "water_bottle", "wool_blanket", "desk_lamp", "welcome_back", "newsletter", "join_loyalty", "pick_up",
    )

    def write_files(self, folder: Path) -> None:
        rows = [self._customer(number) for number in range(1, self.customers + 1)]
        self.profiles(folder, "crm", rows, ("loyalty", "email", "cookie"), (
            "first_name", "country", "loyalty_tier", "age", "newsletter", "last_size", "since",
        ), sets=("wishlist",))
        who = ("loyalty", "cookie")
        seen = ("article", "category")
        self.events(folder, "view", self._events(rows, "view", 12, 40), seen, who)
        self.events(folder, "add_to_cart", self._events(rows, "add_to_cart", 1.5, 40), (*seen, "amount"), who)
        self.events(folder, "purchase", self._events(rows, "purchase", 2.5, 365), ("order", "category", "amount"), who)
        self.events(folder, "search", self._events(rows, "search", 0.8, 20), ("text",), who)
        self.history(folder, self._history(rows))

    def _customer(self, number: int) -> Row:
        draw = self.random
        member = number % 3 != 0
        liked = [name for name in _CATEGORIES if self.often(0.2)] if member else []
        tier = draw.choices(["none", "bronze", "silver", "gold"], weights=[20, 45, 25, 10])[0]
        return {
            "loyalty": str(number) if member else "", "cookie": f"c-{number}" if not member or self.often(0.5) else "",
            "email": f"shopper{number}@example.com" if member and self.often(0.8) else "",
            "first_name": self.maybe(0.9, draw.choice(_FIRST_NAMES)) if member else "",
            "country": self.maybe(0.8, draw.choices(["PT", "ES", "FR", "DE", "NO"], weights=[40, 25, 15, 15, 5])[0]),
            "loyalty_tier": tier if member else "",
            "age": self.maybe(0.5, draw.randint(18, 80)) if member else "",
            "newsletter": _word(self.often(0.4)) if member else "", "wishlist": ";".join(liked),
            "last_size": self.maybe(0.5, draw.choice(["36", "38", "40", "42", "44", "S", "M", "L"])) if member else "",
            "since": self.since(2500) if member else "",
        }

    def _events(self, rows: Sequence[Row], kind: str, mean: float, days: float) -> Iterator[Row]:
        for row in rows:
            name = row["loyalty"] or row["cookie"]
            for number in range(self.count(mean if row["loyalty"] else mean / 3)):
                event: dict[str, object] = {
                    "loyalty": row["loyalty"] or None, "cookie": None if row["loyalty"] else row["cookie"],
                    "key": f"{kind}-{name}-{number}", "at": self.moment(days),
                }
                if kind == "search":
                    event["text"] = self.random.choice(["rain", "boots", "gift", "lamp", "running"])
                else:
                    event["category"] = self.random.choice(_CATEGORIES)
                if kind in ("view", "add_to_cart"):
                    event["article"] = self.random.choice(self.offers[:11])
                if kind in ("add_to_cart", "purchase"):
                    event["amount"] = f"{self.random.lognormvariate(3.6, 0.6):.2f}"
                if kind == "purchase":
                    event["order"] = f"generated-{name}-{number}"
                yield event

    def _history(self, rows: Sequence[Row]) -> Iterator[Row]:
        for number, row in enumerate(rows, 1):
            if not row["loyalty"]:
                continue
            if self.often(0.8):
                yield self.consent(number, "personal_prices", self.often(0.8))
            if self.often(0.6):
                yield self.consent(number, "marketing", self.often(0.8))
            if self.often(0.04):
                yield self.case(number, self.random.choice(["complaint", "delivery", "delivery"]))
            yield from self.outcomes(number, ("web",), 4)


def _word(value: bool) -> str:
    return "true" if value else "false"


def _iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
