"""Reads offers: schedule, propensity, value, price and treatments; what offers share with groups is in `policy`.

This is the part that runs a hundred thousand times for a large program, so lists that repeat (the features of a
scorecard, a template's pieces) are kept by their text and shared.
"""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Final

from core import limits
from core.errors import Where, nearest
from core.expressions import Expression, InputKind
from core.programs import quantity, template
from core.programs.checker import FEATURE, NUMBER, REAL, SHOWN, OfferFields
from core.programs.document import Node, Scalar
from core.programs.policy import KEYS as POLICY_KEYS
from core.programs.policy import Declared, read_condition, read_id, read_policy
from core.programs.program import (
    Adjustment,
    CasePause,
    ConstantPropensity,
    ModelPropensity,
    Offer,
    Price,
    Propensity,
    Rounding,
    ScorecardPropensity,
    Text,
    Treatment,
)
from core.programs.reading import Reader, Table, is_empty, shorten
from core.schema import ValueType, wrong_product

KEYS: Final = (
    "offer", "group", "schedule", *POLICY_KEYS, "value", "propensity", "price", "treatments", "fields", "product", "stopped",
)
# Inputs that say something about the customer, and so make a price personal.
_PERSONAL: Final = frozenset(
    {
        InputKind.ATTRIBUTE, InputKind.AGGREGATE, InputKind.CONSENT, InputKind.CASE, InputKind.KNOWN, InputKind.SHARED,
        InputKind.HOUSEHOLD, InputKind.BAND,
    }
)
# A price cannot fall by more than itself; the upper bound is arbitrary: eleven times the list price.
_ADJUSTMENT_LOW: Final = -100.0
_ADJUSTMENT_HIGH: Final = 1000.0
_PERCENT_STEP: Final = Decimal("0.0001")
_INT_LIMIT: Final = 2**62


class OfferReader:
    """Reads the offers of one program; `read` once for each."""

    def __init__(self, declared: Declared, *, propensity_used: bool, value_used: bool) -> None:
        self._declared = declared
        self._propensity_used = propensity_used
        self._value_used = value_used
        self._features: dict[tuple[str, ...], tuple[Expression, ...]] = {}
        self._texts: dict[tuple[str, str], Text] = {}

    def read(self, reader: Reader, node: Node) -> Offer | None:
        """One offer; None when it has no usable name. Its problems are noted."""
        table = reader.table(node, "an offer", KEYS)
        if table is None:
            return None
        name_node = table.get("offer")
        if name_node is None:
            reader.problem(node, "An offer has no name.", "Begin it with offer: and its name.")
            return None
        name = reader.name(name_node, "the name of an offer")
        if name is None:
            return None
        declared = self._declared
        where = reader.where(name_node)
        group = ""
        if (written := table.get("group")) is None:
            reader.problem(name_node, f"Offer '{name}' has no group.", "Add group: and the name of one in groups.yaml.")
        else:
            group = reader.known(written, "group", declared.groups) or ""
        fields = self._fields(reader, table.get("fields"), name)
        policy = read_policy(reader, table, name, declared, fields)
        product = self._product(reader, table.get("product"), name_node, name, group, policy.paused_by_cases)
        from_us, until_us = self._schedule(reader, table.get("schedule"), name)
        price = table.get("price")
        return Offer(
            name=name, group=group, where=where,
            propensity=self._propensity(reader, table.get("propensity"), name_node, name, fields),
            value=self._value(reader, table.get("value"), name_node, name, fields),
            schedule_from_us=from_us, schedule_until_us=until_us,
            rules=policy.rules, caps=policy.caps, suppressions=policy.suppressions,
            context_weights=policy.context_weights, levers=policy.levers,
            consent=policy.consent, paused_by_cases=policy.paused_by_cases, product=product,
            price=None if price is None else self._price(reader, price, name, fields),
            treatments=self._treatments(reader, table.get("treatments"), name, fields), fields=fields,
            stopped=reader.boolean(table.get("stopped"), "stopped", default=False),
        )

    def _product(
        self, reader: Reader, node: Node | None, at: Node, name: str, group: str, pauses: tuple[CasePause, ...]
    ) -> str:
        """The product that cases must be about to pause the offer, where it or its group says so."""
        product = None if node is None else reader.text(node, "product")
        if node is not None and product is not None and (wrong := wrong_product(product)) is not None:
            reader.problem(node, *wrong)
        declared = self._declared.groups.get(group)
        asked = next((each for each in (*pauses, *(declared.paused_by_cases if declared else ())) if each.of_product), None)
        if node is None and asked is not None:
            owner = f"Offer '{name}'" if asked in pauses else f"Group '{group}' of offer '{name}'"
            reader.problem(at, f"{owner} is paused by a {asked.kind} of the offer's product, and the offer names none.",
                           "Add product: and its name, as cases have it.")
        return product or ""

    def _schedule(self, reader: Reader, node: Node | None, name: str) -> tuple[int | None, int | None]:
        if node is None or (table := reader.table(node, f"schedule of '{name}'", ("from", "until"))) is None:
            return None, None
        from_us = until_us = None
        if (written := table.get("from")) is not None:
            from_us = reader.moment(written, "from")
        if (written := table.get("until")) is not None:
            until_us = reader.moment(written, "until", whole_day=True)
        if from_us is not None and until_us is not None and from_us >= until_us:
            reader.problem(node, f"The schedule of '{name}' ends before it begins.", "Set until after from.")
        return from_us, until_us

    def _fields(self, reader: Reader, node: Node | None, name: str) -> OfferFields:
        found: dict[str, float | str | bool | int] = {}
        if node is None or (table := reader.table(node, f"fields of '{name}'")) is None:
            return MappingProxyType(found)
        types = self._declared.offer_fields
        for key, key_node, value in table.items():
            type_ = types.get(key)
            read: float | str | bool | int | None
            if type_ is None:
                close = nearest(key, types)
                hint = f"Did you mean '{close}'?" if close else "Declare it under offer_fields in schema.yaml."
                reader.problem(key_node, f"There is no offer field '{shorten(key)}'.", hint)
                continue
            if is_empty(value):
                continue
            if type_ is ValueType.DOUBLE:
                read = reader.number(value, key)
            elif type_ is ValueType.INT:
                read = reader.integer(value, key, -_INT_LIMIT, _INT_LIMIT)
            elif type_ is ValueType.BOOL:
                text = reader.text(value, key)
                read = None if text is None else reader.boolean(value, key, default=False)
            else:
                read = reader.text(value, key)
                if isinstance(read, str) and len(read.encode()) > limits.STRING_BYTES:
                    reader.problem(value, f"{key} has more than {limits.STRING_BYTES} bytes.",
                                   "Content belongs into treatments.")
                    read = None
            if read is not None:
                found[key] = read
        return MappingProxyType(found)

    # --- what an offer is worth -------------------------------------------------------------------------------

    def _value(self, reader: Reader, node: Node | None, at: Node, name: str, fields: OfferFields) -> float | Expression:
        if node is None:
            if self._value_used:
                reader.problem(at, f"Offer '{name}' has no value.", "Add value: such as 42.00 EUR, or a number.")
            return 1.0
        text = reader.text(node, "value")
        if text is None or not isinstance(node, Scalar):
            return 1.0
        if quantity.looks_like_number(text):
            number = reader.number(node, "value")
            return 1.0 if number is None else number
        if quantity.looks_like_money(text):
            money = reader.money(node, "value", self._declared.currency)
            return 1.0 if money is None else quantity.major_units(money)
        found = self._declared.checker.expression(reader, node, NUMBER, fields=fields)
        if found is None:
            return 1.0
        if found.type.currency and found.type.currency != self._declared.currency:
            reader.problem(node, f"The value is in {found.type.currency}; the program's currency is "
                                 f"{self._declared.currency or 'not declared'}.", "Values must be comparable.")
        return self._declared.checker.expression(reader, node, REAL, fields=fields) or 1.0

    def _propensity(self, reader: Reader, node: Node | None, at: Node, name: str, fields: OfferFields) -> Propensity:
        nothing = ConstantPropensity(1.0)
        if node is None:
            if self._propensity_used:
                reader.problem(at, f"Offer '{name}' has no propensity.",
                               "Add propensity: a number such as 0.05, a scorecard or a model.")
            return nothing
        if isinstance(node, Scalar):
            number = reader.number(node, "propensity", 0, 1)
            return nothing if number is None else ConstantPropensity(number)
        table = reader.table(node, f"propensity of '{name}'", ("scorecard", "model"))
        if table is None:
            return nothing
        model, scorecard = table.get("model"), table.get("scorecard")
        if model is not None and scorecard is None:
            found = reader.name(model, "the name of a model")
            return nothing if found is None else ModelPropensity(found, reader.where(model))
        if scorecard is not None and model is None:
            return self._scorecard(reader, scorecard, name, fields) or nothing
        reader.problem(node, f"The propensity of '{name}' needs one of: a number, a model, a scorecard.",
                       "Write propensity: {model: name}, or propensity: 0.05.")
        return nothing

    def _scorecard(self, reader: Reader, node: Node, name: str, fields: OfferFields) -> ScorecardPropensity | None:
        table = reader.table(node, f"the scorecard of '{name}'", ("intercept", "weights", "missing"))
        if table is None:
            return None
        intercept = missing = 0.0
        if (written := table.get("intercept")) is None:
            reader.problem(node, f"The scorecard of '{name}' has no intercept.", "Write intercept: 0 if it has none.")
        else:
            intercept = reader.number(written, "intercept") or 0.0
        if (written := table.get("missing")) is not None:
            missing = reader.number(written, "missing") or 0.0
        written = table.get("weights")
        weights = None if written is None else reader.table(written, f"the weights of '{name}'")
        if weights is None:
            return ScorecardPropensity(intercept, (), (), missing)
        texts: list[str] = []
        numbers: list[float] = []
        nodes: list[Scalar] = []
        for key, key_node, value in weights.items():
            number = reader.number(value, "a weight")
            if number is not None:
                texts.append(key)
                nodes.append(key_node)
                numbers.append(number)
        if len(texts) > limits.MODEL_INPUTS:
            reader.problem(node, f"The scorecard of '{name}' has {len(texts)} features; the limit is "
                                 f"{limits.MODEL_INPUTS}.")
            return None
        shared = tuple(texts)
        features = self._features.get(shared)
        if features is None:
            checker = self._declared.checker
            read = [checker.expression(reader, each, FEATURE, fields=fields) for each in nodes]
            features = tuple(feature for feature in read if feature is not None)
            if len(features) != len(nodes):
                return None
            if not any("offer." in text for text in texts):
                self._features[shared] = features
        return ScorecardPropensity(intercept, features, tuple(numbers), missing)

    # --- price ------------------------------------------------------------------------------------------------

    def _price(self, reader: Reader, node: Node, name: str, fields: OfferFields) -> Price | None:
        table = reader.table(node, f"the price of '{name}'", ("list", "adjustments", "floor", "ceiling", "round"))
        if table is None:
            return None
        currency = self._declared.currency
        if table.get("list") is None:
            reader.problem(node, f"The price of '{name}' has no list price.", "Add list: such as 19.90 EUR.")
            return None
        list_minor = self._amount(reader, table, "list", low=0)
        floor = self._amount(reader, table, "floor", low=0)
        ceiling = self._amount(reader, table, "ceiling", low=0)
        self._check_bounds(reader, table, list_minor, floor, ceiling)
        adjustments, basis = self._adjustments(reader, table.get("adjustments"), name, fields)
        increment, ending, rounding = self._round(reader, table.get("round"), name)
        if list_minor is None:
            return None
        # Adjustments add up, and an ending may lie above the price: without a floor of its own nothing else keeps a price
        # from falling below nothing, and no shop pays its customers to buy.
        return Price(
            list_minor, currency, adjustments, 0 if floor is None else floor, ceiling, increment, ending, rounding, basis
        )

    def _check_bounds(self, reader: Reader, table: Table, list_minor: int | None, floor: int | None,
                      ceiling: int | None) -> None:
        shown = {minor: quantity.show_money(minor, self._declared.currency) for minor in (list_minor, floor, ceiling)
                 if minor is not None}
        listed = table.get("list") or table.node
        if floor is not None and ceiling is not None and floor > ceiling:
            reader.problem(table.get("floor") or listed,
                           f"The floor {shown[floor]} is above the ceiling {shown[ceiling]}.", "Exchange them.")
            return
        if list_minor is not None and floor is not None and list_minor < floor:
            reader.problem(listed, f"The list price {shown[list_minor]} is below the floor {shown[floor]}.",
                           "Lower the floor or raise the list price.")
        if list_minor is not None and ceiling is not None and list_minor > ceiling:
            reader.problem(listed, f"The list price {shown[list_minor]} is above the ceiling {shown[ceiling]}.",
                           "Raise the ceiling or lower the list price.")

    def _amount(self, reader: Reader, table: Table, key: str, low: int) -> int | None:
        node = table.get(key)
        money = None if node is None else reader.money(node, key, self._declared.currency)
        if node is None or money is None:
            return None
        if money.minor < low:
            least = quantity.show_money(low, money.currency)
            written = quantity.show_money(money.minor, money.currency)
            reader.problem(node, f"{key} is {written}; it must be at least {least}.")
            return None
        return money.minor

    def _adjustments(self, reader: Reader, node: Node | None, name: str,
                     fields: OfferFields) -> tuple[tuple[Adjustment, ...], tuple[str, ...]]:
        found: list[Adjustment] = []
        basis: dict[str, None] = {}
        for position, item in enumerate(reader.items(node, f"adjustments of '{name}'"), 1):
            table = reader.table(item, f"an adjustment of '{name}'", ("id", "percent", "amount", "when", "description"))
            if table is None:
                continue
            id_ = read_id(reader, table, self._declared) or f"{name}.price.{position}"
            percent, amount = 0.0, 0
            by_percent, by_amount = table.get("percent"), table.get("amount")
            if (by_percent is None) == (by_amount is None):
                reader.problem(item, "An adjustment has either a percent or an amount.",
                               "Write {percent: -10, when: ...} or {amount: -2.00 EUR, when: ...}.")
            elif by_percent is not None:
                percent = self._percent(reader, by_percent)
            elif by_amount is not None:
                money = reader.money(by_amount, "amount", self._declared.currency)
                amount = 0 if money is None else money.minor
            when = table.get("when")
            condition = read_condition(reader, when, self._declared, fields)
            if when is not None and condition is None:
                continue
            if condition is not None and when is not None:
                for each in condition.inputs:
                    if each.protected:
                        reader.problem(when, f"The price of '{name}' may not depend on {each.path}: it is protected.",
                                       "Take it out of this condition and of the segments that it uses.")
                    if each.kind in _PERSONAL:
                        basis[each.path] = None
            found.append(Adjustment(id_, percent, amount, condition))
        return tuple(found), tuple(basis)

    def _percent(self, reader: Reader, node: Node) -> float:
        percent = reader.number(node, "percent", _ADJUSTMENT_LOW, _ADJUSTMENT_HIGH)
        if percent is None:
            return 0.0
        written = Decimal(reader.text(node, "percent") or "0")
        if written % _PERCENT_STEP != 0:
            reader.problem(node, f"percent is {written}; prices are exact to 0.0001 percent.",
                           "Write at most four decimals.")
        return percent

    def _round(self, reader: Reader, node: Node | None, name: str) -> tuple[int, int, Rounding]:
        nothing = (1, 0, Rounding.NEAREST)
        if node is None or (table := reader.table(node, f"round of '{name}'", ("to", "ending", "mode"))) is None:
            return nothing
        if table.get("to") is None:
            reader.problem(node, f"The rounding of the price of '{name}' has no increment.",
                           "Add to: such as 0.05 EUR.")
            return nothing
        increment = self._amount(reader, table, "to", low=1)
        ending = self._amount(reader, table, "ending", low=0) or 0
        rounding = Rounding.NEAREST
        if (written := table.get("mode")) is not None:
            mode = reader.known(written, "mode of rounding", tuple(each.value for each in Rounding))
            rounding = Rounding(mode) if mode else Rounding.NEAREST
        if increment is None:
            return nothing
        if ending >= increment:
            reader.problem(table.get("ending") or node, "The ending must be less than the increment it is added to.",
                           "To end prices in .99, write to: 1.00 and ending: 0.99.")
        return increment, ending, rounding

    # --- content ----------------------------------------------------------------------------------------------

    def _treatments(self, reader: Reader, node: Node | None, name: str,
                    fields: OfferFields) -> MappingProxyType[str, Treatment]:
        found: dict[str, Treatment] = {}
        if node is None or (table := reader.table(node, f"treatments of '{name}'")) is None:
            return MappingProxyType(found)
        for _, key_node, value in table.items():
            placement = reader.known(key_node, "placement", self._declared.placements)
            content = None if is_empty(value) else reader.table(value, f"the treatment of '{name}'")
            if placement is None:
                continue
            texts: list[Text] = []
            if content is not None:
                for _, field_node, field_value in content.items():
                    text = self._text(reader, field_node, field_value, fields)
                    if text is not None:
                        texts.append(text)
            found[placement] = Treatment(placement, tuple(texts))
        return MappingProxyType(found)

    def _text(self, reader: Reader, key: Scalar, node: Node, fields: OfferFields) -> Text | None:
        name = reader.name(key, "the name of a content field")
        text = reader.text(node, "The content")
        if name is None or text is None or not isinstance(node, Scalar):
            return None
        if len(text) * 4 > limits.CONTENT_BYTES and len(text.encode()) > limits.CONTENT_BYTES:
            reader.problem(node, f"The content has {len(text.encode())} bytes; the limit is {limits.CONTENT_BYTES}.",
                           "Send a link to longer content.")
            return None
        if template.OPEN not in text:
            return Text(name, (text,) if text else ())
        shared = self._texts.get((name, text))
        if shared is not None:
            return shared
        try:
            split = template.split(text)
        except template.TemplateError as error:
            reader.problems.add(reader.document.where_inside(node, error.offset), error.problem, error.hint)
            return None
        pieces: list[str | Expression] = []
        for piece in split:
            if isinstance(piece, str):
                pieces.append(piece)
                continue
            found = self._declared.checker.expression(
                reader, node, SHOWN, fields=fields, text=piece.text, offset=piece.offset
            )
            if found is not None:
                pieces.append(found)
        if len(pieces) < len(split):
            return None
        made = Text(name, tuple(pieces))
        if "offer." not in text:
            self._texts[name, text] = made
        return made


def check_unique(reader: Reader, offer: Offer, seen: dict[str, Where], declared: Declared) -> bool:
    """Whether the name is free among offers and groups; a problem is noted when it is not."""
    first = seen.setdefault(offer.name, offer.where)
    if first is not offer.where:
        reader.problems.add(offer.where, f"The offer '{offer.name}' is declared twice.", f"The first is at {first}.")
        return False
    if offer.name in declared.groups or offer.name == "program":
        taken = "a group" if offer.name in declared.groups else "the program itself, in the ids of its caps,"
        reader.problems.add(offer.where, f"The offer has the name of {taken}: '{offer.name}'.",
                            "Ids of rules begin with these names: choose another.")
        return False
    return True
