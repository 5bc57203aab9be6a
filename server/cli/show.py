"""Answers as a person wants to see them, or as JSON for a script: the only place that knows about tables and colours.

Results go to standard output, everything else to standard error, so that ``--json`` can be piped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import typer
from google.protobuf import json_format, timestamp_pb2
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from core.errors import MappingError, ProgramError, RapportError
from core.schema import currency_exponent
from protos.rapport.v1 import decision_pb2, model_pb2, profile_pb2, program_pb2, segment_pb2, values_pb2
from server.cli.exits import Exit, RemoteError, code_of

# A pipe has no width: without another wish a table's cells stand on one line there, for grep and for people who copy them.
_WISHED = re.fullmatch(r"[1-9][0-9]{0,3}", os.environ.get("COLUMNS", ""))
_WIDTH = None if sys.stdout.isatty() else int(_WISHED[0]) if _WISHED else 1000

# Seconds between two lines of progress where nobody looks at a terminal.
LINE_SECONDS: Final = 10.0

# What a terminal obeys and does not show; in JSON, too, it may be written as the escape that stands for it.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def seen(text: str) -> str:
    """A text with its control characters shown."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class _Console(Console):
    """Shows control characters in place of sending them: names, keys and owners come from whoever calls the server."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(seen(text), **options)


out = _Console(highlight=False, width=_WIDTH)
err = _Console(stderr=True, highlight=False)


def fields(message: Message) -> dict[str, Any]:
    """A message in the protobuf JSON mapping, names as in the protos. What is false, 0 or empty is there, too: it says so."""
    found: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def as_json(message: Message, *only: str) -> None:
    """A message's fields as JSON, all or those named."""
    document = fields(message)
    if only:
        document = {name: document[name] for name in only}
    out.print(json.dumps(document, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def error(problem: RapportError) -> None:
    """An error and what to do about it."""
    reason = problem.told if isinstance(problem, RemoteError) else problem.reason
    places = _places(problem)
    message = problem.message.partition("\n")[0] if places else problem.message
    err.print(f"[bold red]{reason}[/] {escape(message)}", soft_wrap=True)
    for where, text in places:
        err.print(f"  [cyan]{escape(where)}[/] {escape(text)}", soft_wrap=True)
    if problem.hint:
        err.print(f"[dim]{escape(problem.hint)}[/]", soft_wrap=True)


@contextlib.contextmanager
def leaving(left: str) -> Iterator[None]:
    """Say on Ctrl-C what it leaves behind, and end with 130."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"Interrupted: {left}", markup=False, soft_wrap=True)
        raise typer.Exit(Exit.INTERRUPTED) from None


def _places(problem: RapportError) -> list[tuple[str, str]]:
    """What is wrong in the input, place by place; empty where the message says it all."""
    if isinstance(problem, ProgramError | MappingError):
        return [(str(each.where), f"{each.message} {each.hint}".rstrip()) for each in problem.problems]
    if isinstance(problem, RemoteError) and (len(problem.violations) > 1 or problem.told == ProgramError.reason):
        return list(problem.violations)
    return []


def error_json(problem: RapportError) -> None:
    """An error for a script, on standard error."""
    document = {
        "reason": problem.told if isinstance(problem, RemoteError) else problem.reason,
        "message": problem.message,
        "hint": problem.hint,
        "metadata": problem.metadata,
        "problems": [{"where": where, "message": text} for where, text in _places(problem)],
        "exit": int(code_of(problem)),
    }
    err.print(json.dumps(document, ensure_ascii=False), markup=False, soft_wrap=True)


# --- decisions --------------------------------------------------------------------------------------------------


def answer(response: decision_pb2.DecideResponse) -> None:
    """A decision: for each placement what is shown, what it cost to win, and why the rest is not there."""
    who = "known customer" if response.known else "unknown customer"
    _line(
        f"[bold]Decision[/] {response.decision}  {who}  {escape(response.program)}  {response.took_ns / 1000:.0f} us"
    )
    for placement in response.placements:
        status = decision_pb2.SlotStatus.Name(placement.status).removeprefix("SLOT_STATUS_")
        colour = "green" if placement.offers else "yellow"
        out.print()
        _line(f"[bold]{escape(placement.name)}[/]  [{colour}]{status}[/]")
        for offer in placement.offers:
            _offer(offer)
        _texts("     ", placement.fallback)
        if placement.rejections:
            out.print(_rejections(placement))
        elif placement.summary:
            counts = ", ".join(f"{_reason(each.reason)} {each.count}" for each in placement.summary)
            _line(f"  [dim]not returned:[/] {counts}")


def _offer(offer: decision_pb2.DecidedOffer) -> None:
    by = f"  [dim]by {escape(offer.model)}[/]" if offer.model else ""
    _line(
        f"  [bold]{offer.rank}  {escape(offer.offer)}[/]  [dim]of {escape(offer.group)}[/]  {offer.priority:.6g} = "
        f"{made_of(offer.factors)}{by}"
    )
    if offer.HasField("price"):
        _line(f"     {_price(offer.price)}")
    _texts("     ", offer.content)
    if offer.token:
        _line(f"     [dim]token[/] {offer.token}")


def _texts(margin: str, texts: Mapping[str, str]) -> None:
    width = max((len(name) for name in texts), default=0)
    for name in sorted(texts):
        _line(f"{margin}[dim]{escape(name):<{width}}[/]  {escape(texts[name])}")


def _line(markup: str) -> None:
    """One line, however wide the terminal: wrapping would break what people copy."""
    out.print(markup, soft_wrap=True)


def made_of(factors: decision_pb2.Factors) -> str:
    """propensity 0.2 x context 200 % x value 50 x levers 155 %."""
    return (
        f"propensity {factors.propensity:.4g} x context {100 + factors.context_percent:.4g} % x "
        f"value {factors.value:.6g} x levers {100 + factors.lever_percent:.4g} %"
    )


def _price(price: decision_pb2.QuotedPrice) -> str:
    notes = []
    if price.amount != price.list:
        notes.append(f"list {money(price.list)}")
    if price.clamp > decision_pb2.CLAMP_NONE:
        notes.append(f"at its {decision_pb2.Clamp.Name(price.clamp).removeprefix('CLAMP_').lower()}")
    if price.personal:
        notes.append(f"personal, by {escape(', '.join(price.basis))}")
    return f"[bold]{money(price.amount)}[/]" + (f"  [dim]{'; '.join(notes)}[/]" if notes else "")


# Of reasons that say no more than a name: what it was.
_BECAUSE: Final[dict[int, str]] = {
    decision_pb2.REASON_SCHEDULE: "outside its dates, or stopped",
    decision_pb2.REASON_CHANNEL: "has no content for this channel",
    decision_pb2.REASON_PLACEMENT: "has no content for this placement",
    decision_pb2.REASON_CONSENT: "no consent to it in this channel",
    decision_pb2.REASON_CASE_OPEN: "such a case is open with the customer, or his household",
    decision_pb2.REASON_CONTACT_CAP: "reached by the customer's contacts, or his household's if it is a household's cap",
    decision_pb2.REASON_SUPPRESSED: "paused by what was made of it, or of what it is related to",
    decision_pb2.REASON_MODEL_FAILED: "its model gave no answer in time, and it has no fallback value",
    decision_pb2.REASON_SCORE_UNDEFINED: "its priority is no finite number",
    decision_pb2.REASON_DUPLICATE: "returned in an earlier placement",
    decision_pb2.REASON_GROUP_LIMIT: "its group has its share already",
}


def _rejections(placement: decision_pb2.PlacementAnswer) -> Table:
    table = _plain("not returned", "offer", "reason", "rule", "because")
    for each in placement.rejections:
        because = _BECAUSE.get(each.reason, "")
        if each.detail == decision_pb2.DETAIL_VALUE_MISSING:
            because = f"{each.input} is missing"
        elif each.detail == decision_pb2.DETAIL_FALSE:
            because = "does not hold"
        elif each.detail == decision_pb2.DETAIL_EXPRESSION_FAILED:
            because = "could not be computed"
        if each.HasField("priority"):
            because = f"priority {each.priority:.6g}" + (
                f", last returned {each.lowest_winner:.6g}" if each.HasField("lowest_winner") else ""
            )
        table.add_row(escape(each.offer), _reason(each.reason), escape(each.rule), escape(because))
    return table


def _reason(reason: decision_pb2.Reason) -> str:
    return decision_pb2.Reason.Name(reason).removeprefix("REASON_")


def outcomes(tokens: list[str], response: decision_pb2.RecordResponse) -> None:
    """What became of each report."""
    for token, result in zip(tokens, response.results, strict=True):
        status = decision_pb2.OutcomeStatus.Name(result.status).removeprefix("OUTCOME_STATUS_")
        good = result.status in (decision_pb2.OUTCOME_STATUS_APPLIED, decision_pb2.OUTCOME_STATUS_DUPLICATE)
        text = "" if good else f"  {result.failure.message} {result.failure.hint}".rstrip()
        out.print(
            f"[{'green' if good else 'red'}]{status}[/] {escape(token[:24])}...{escape(text)}", soft_wrap=True
        )


# --- profiles ---------------------------------------------------------------------------------------------------


def profile(response: profile_pb2.GetProfileResponse) -> None:
    """All that is known of one customer."""
    named = ", ".join(f"{each.namespace}={each.value}" for each in response.identifiers)
    out.print(
        f"[bold]Customer {response.customer}[/]  {escape(named)}  updated {when(response.updated)}", soft_wrap=True
    )
    if response.attributes:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, show_header=False)
        for name, value in sorted(response.attributes.items()):
            table.add_row(f"[dim]{escape(name)}[/]", escape(text(value)))
        out.print(table)
    if response.HasField("household"):
        household(response.household)
    if response.consents:
        out.print(_consents("consents", response.consents))
    if response.cases:
        out.print(_cases("cases", response.cases))
    if response.contacts:
        table = _plain("contacts", "at", "offer", "outcome", "channel")
        for contact in response.contacts:
            table.add_row(
                when(contact.at), escape(contact.offer), escape(contact.outcome), escape(contact.channel)
            )
        out.print(table)
        _more("contacts", len(response.contacts), response.contacts_kept)
    if response.events:
        table = _plain("events", "at", "type", "fields")
        for event in response.events:
            fields = ", ".join(f"{name}={text(value)}" for name, value in sorted(event.fields.items()))
            table.add_row(when(event.at), escape(event.type), escape(fields))
        out.print(table)
        _more("events", len(response.events), response.events_kept)


def _more(what: str, shown: int, kept: int) -> None:
    """How many are not shown, and how to see them."""
    if shown < kept:
        _line(f"[dim]the newest {shown:,} of {kept:,} {what}; all: --{what} {kept}[/]")


def consents(response: profile_pb2.GetProfileResponse) -> None:
    """What is recorded of a customer's consents."""
    out.print(_consents("", response.consents) if response.consents else "Nobody asked this customer for a consent yet.")


def _consents(title: str, found: Iterable[profile_pb2.Consent]) -> Table:
    table = _plain(title, "purpose", "channel", "", "since", "source")
    for each in found:
        said = "[green]granted[/]" if each.granted else "[red]refused[/]"
        table.add_row(escape(each.purpose), escape(each.channel or "every"), said, when(each.at), escape(each.source))
    return table


def cases(response: profile_pb2.ListCasesResponse) -> None:
    """A customer's cases."""
    out.print(_cases("", response.cases) if response.cases else "The customer has no such case.")


def overdue(response: profile_pb2.ListOverdueCasesResponse, more: bool) -> None:
    """Cases past their due time, with whose they are."""
    if not response.cases:
        out.print("No case is overdue.")
        return
    table = _plain("", "identifier", "kind", "key", "about", "owner", "due")
    for each in response.cases:
        named = [f"{one.namespace}={one.value}" for one in each.identifiers]
        case = each.case
        table.add_row(
            escape(named[0] if named else str(each.customer or each.household)), escape(case.kind), escape(case.key),
            escape(_about(case)), escape(case.owner), when(case.due),
        )
    out.print(table)
    if more:
        out.print("[dim]There may be more: --limit.[/]")


def _cases(title: str, found: Iterable[profile_pb2.Case]) -> Table:
    table = _plain(title, "kind", "key", "about", "owner", "opened", "due", "closed")
    for each in found:
        table.add_row(
            escape(each.kind), escape(each.key) if each.key else f"[dim]not kept ({each.key_hash:016x})[/]", escape(_about(each)),
            escape(each.owner), when(each.opened), when(each.due) if each.HasField("due") else "",
            when(each.closed) if each.HasField("closed") else "[yellow]open[/]",
        )
    return table


def _about(case: profile_pb2.Case) -> str:
    """What a case is about: customer, household or product, and which product."""
    scope = profile_pb2.CaseScope.Name(case.scope).removeprefix("CASE_SCOPE_").lower()
    return f"{scope} {case.product}".strip() if case.product else scope


def household(found: profile_pb2.Household) -> None:
    """What the members of a household share."""
    named = ", ".join(f"{each.namespace}={each.value}" for each in found.identifiers)
    members = f"{found.members} member{'' if found.members == 1 else 's'}"
    role = f", as {found.role}" if found.role else ""
    since = f"{role} since {when(found.since)}" if found.HasField("since") else ""
    out.print(f"[bold]Household {found.household}[/]  {escape(named)}  {members}{escape(since)}", soft_wrap=True)
    if found.attributes:
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, show_header=False)
        for name, value in sorted(found.attributes.items()):
            table.add_row(f"[dim]{escape(name)}[/]", escape(text(value)))
        out.print(table)


def provenance(response: profile_pb2.GetProvenanceResponse) -> None:
    """What holds of each attribute, and under it what each source says."""
    if not response.attributes:
        out.print("No attribute with declared sources has a value.")
        return
    table = _plain("", "attribute", "value", "rule, source", "at", "before that")
    for each in response.attributes:
        held = _quoted(each.value) if each.HasField("value") else "missing"
        table.add_row(f"[bold]{escape(each.attribute)}[/]", f"[bold]{escape(held)}[/]", f"[dim]{each.rule}[/]", "", "")
        for one in each.origins:
            said = _quoted(one.value) if one.HasField("value") else "cleared"
            before = ""
            if one.HasField("previous_at"):
                before = f"{_quoted(one.previous) if one.HasField('previous') else 'cleared'}, {when(one.previous_at)}"
            table.add_row("", escape(said), escape(one.source or "before sources"), when(one.at), escape(before))
    out.print(table)


def merges(response: profile_pb2.ListMergesResponse) -> None:
    """Joins that can be undone."""
    if not response.merges:
        out.print("Nothing that was joined into this customer can be undone.")
        return
    table = _plain("", "merge", "at", "absorbed", "messages since", "until")
    for each in response.merges:
        absorbed = "\n".join(
            f"{one.customer} ({', '.join(f'{had.namespace}={had.value}' for had in one.identifiers)})" for one in each.customers)
        table.add_row(str(each.merge), when(each.at), absorbed, str(each.since), when(each.until))
    out.print(table)


def unmerged(response: profile_pb2.UnmergeResponse) -> None:
    """What an undo did."""
    apart = ", ".join(str(customer) for customer in response.restored)
    who = f"customer {apart} is" if len(response.restored) == 1 else f"customers {apart} are"
    out.print(f"{who} apart from {response.customer} again; {response.reapplied} later messages assigned anew")
    if response.dropped:
        out.print(f"[yellow]{response.dropped} later messages no longer fit anybody and were left out[/]")


def line(text: str) -> None:
    """One line as it is, written at once: what follows may read it from a pipe."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)
    out.file.flush()


def segments(response: segment_pb2.CountSegmentsResponse) -> None:
    """Members of segments."""
    table = _plain("", "segment", "members", "share", "not known here")
    everybody = response.progress.visited
    for each in response.segments:
        share = f"{100 * each.members / everybody:.1f} %" if everybody else ""
        table.add_row(escape(each.segment), f"{each.members:,}", share, escape(", ".join(each.of_requests)))
    out.print(table if response.segments else "The program declares no segments.")
    out.print(f"[dim]of {everybody:,} customers[/]")


def bands(response: segment_pb2.ListBandsResponse) -> None:
    """Bands and their edges."""
    if not response.bands:
        out.print("The program declares no bands.")
        return
    table = _plain("", "band", "parts", "edges", "customers", "made")
    for each in response.bands:
        made = when(each.at) if each.HasField("at") else "not yet"
        edges = "  ".join(_edge(edge, each.type) for edge in each.edges)
        table.add_row(escape(each.band), str(each.parts), edges, f"{each.customers:,}", made)
    out.print(table)


def _edge(edge: float, kind: str) -> str:
    """An edge as its values are read: times as instants, lengths of time in days."""
    if kind == "timestamp":
        return f"{datetime.fromtimestamp(edge / 1e6, UTC):%Y-%m-%d %H:%M:%SZ}"
    if kind == "duration":
        return f"{edge / 86_400e6:.3f} d"
    return f"{edge:,.2f}" if kind.startswith("money") else f"{edge:,.10g}"


# --- programs and models ----------------------------------------------------------------------------------------


def programs(versions: list[program_pb2.ProgramVersion]) -> None:
    """Versions of programs, newest first."""
    table = _plain("", "program", "loaded", "digest", "")
    for each in versions:
        table.add_row(
            escape(each.version), when(each.loaded), each.digest[:12], "[green]active[/]" if each.active else ""
        )
    out.print(table if versions else "No program has been loaded. Load one: rapport program load FOLDER.")


def problems(found: list[program_pb2.ProgramProblem]) -> None:
    """What is wrong with a program, in the form that editors understand."""
    for each in found:
        out.print(
            f"[cyan]{escape(each.file)}:{each.line}:{each.column}[/]: {escape(each.message)} [dim]{escape(each.hint)}[/]",
            soft_wrap=True,
        )


def models(versions: list[model_pb2.ModelVersion]) -> None:
    """Versions of models."""
    table = _plain("", "model", "version", "state", "since")
    colours = {model_pb2.MODEL_STATE_LIVE: "green", model_pb2.MODEL_STATE_REFUSED: "red"}
    for each in versions:
        state = model_pb2.ModelState.Name(each.state).removeprefix("MODEL_STATE_")
        colour = colours.get(each.state, "dim")
        since = when(each.since) if each.HasField("since") else ""
        table.add_row(escape(each.name), str(each.version), f"[{colour}]{state}[/]", since)
    out.print(table if versions else "The repository holds no models.")
    for each in versions:
        if each.cause:
            _line(f"[dim]{escape(each.name)}/{each.version}[/] {escape(each.cause)}")


# --- values -----------------------------------------------------------------------------------------------------


def money(amount: values_pb2.Money) -> str:
    """19.99 EUR, with as many decimals as the currency has."""
    return f"{Decimal(amount.minor).scaleb(-currency_exponent(amount.currency))} {amount.currency}"


def text(value: values_pb2.Value) -> str:
    """A value in a table's cell."""
    kind = value.WhichOneof("kind")
    if kind == "money_value":
        return money(value.money_value)
    if kind == "timestamp_value":
        return when(value.timestamp_value)
    if kind == "set_value":
        return f"[{', '.join(value.set_value.members)}]"
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "string_value" and not value.string_value:
        return '""'
    return str(getattr(value, kind)) if kind else ""


def _quoted(value: values_pb2.Value) -> str:
    """A value beside words of ours, such as missing and cleared: a text stands in quotes."""
    return f'"{value.string_value}"' if value.WhichOneof("kind") == "string_value" else text(value)


def when(at: timestamp_pb2.Timestamp) -> str:
    """An instant in UTC, to the second."""
    return f"{datetime.fromtimestamp(at.seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def everything(response: profile_pb2.GetProfileResponse, kept: profile_pb2.ListMergesResponse) -> None:
    """A customer as a JSON document for the customer: oldest first, times exact, amounts as text.

    ``kept`` are the joins of which an undo still keeps what everybody was.
    """
    document: dict[str, object] = {
        "customer": response.customer,
        "updated": _exact(response.updated),
        "identifiers": [{"namespace": each.namespace, "value": each.value} for each in response.identifiers],
        "attributes": {name: _json_value(response.attributes[name]) for name in sorted(response.attributes)},
        "sources": {each.attribute: [_said(one) for one in each.origins] for each in response.provenance},
        "household": _household(response.household) if response.HasField("household") else None,
        "consents": [
            {
                "purpose": each.purpose, "channel": each.channel, "granted": each.granted, "source": each.source,
                "at": _exact(each.at),
            }
            for each in response.consents
        ],
        "cases": [
            {
                "kind": each.kind, "key": each.key or None, "key_hash": each.key_hash,
                "scope": profile_pb2.CaseScope.Name(each.scope).removeprefix("CASE_SCOPE_").lower(),
                "product": each.product or None, "owner": each.owner or None, "opened": _exact(each.opened),
                "due": _exact(each.due) if each.HasField("due") else None,
                "closed": _exact(each.closed) if each.HasField("closed") else None,
            }
            for each in response.cases
        ],
        "contacts": [
            {
                "at": _exact(each.at), "offer": each.offer, "outcome": each.outcome, "channel": each.channel,
                "instance": each.instance, "value_minor": each.value_minor,
            }
            for each in reversed(response.contacts)
        ],
        "events": [
            {
                "type": each.type, "at": _exact(each.at),
                "fields": {name: _json_value(each.fields[name]) for name in sorted(each.fields)},
            }
            for each in reversed(response.events)
        ],
        "joins": [
            {"at": _exact(each.at), "absorbed": {
                str(one.customer): [f"{had.namespace}={had.value}" for had in one.identifiers] for one in each.customers
            }, "kept_until": _exact(each.until)} for each in kept.merges
        ],
    }
    out.print(json.dumps(document, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def _said(one: profile_pb2.OriginValue) -> dict[str, object]:
    """What a source says, and said before; null where it cleared it."""
    document: dict[str, object] = {
        "source": one.source or None, "at": _exact(one.at), "value": _json_value(one.value) if one.HasField("value") else None,
    }
    if one.HasField("previous_at"):
        document["before"] = {
            "at": _exact(one.previous_at), "value": _json_value(one.previous) if one.HasField("previous") else None,
        }
    return document


def _household(found: profile_pb2.Household) -> dict[str, object]:
    return {
        "household": found.household,
        "identifiers": [{"namespace": each.namespace, "value": each.value} for each in found.identifiers],
        "role": found.role,
        "since": _exact(found.since),
        "members": found.members,
        "attributes": {name: _json_value(found.attributes[name]) for name in sorted(found.attributes)},
    }


def _exact(at: timestamp_pb2.Timestamp) -> str:
    """An instant in UTC, to the microsecond where it has them. ISO 8601."""
    return str(at.ToJsonString())


def _json_value(value: values_pb2.Value) -> bool | int | float | str | list[str]:
    """A value as JSON has it; money and times are texts."""
    kind = value.WhichOneof("kind")
    if kind == "money_value":
        return money(value.money_value)
    if kind == "timestamp_value":
        return _exact(value.timestamp_value)
    if kind == "set_value":
        return list(value.set_value.members)
    plain: bool | int | float | str = getattr(value, kind or "string_value")
    return plain


def settings(rows: Mapping[str, tuple[str, str, str]]) -> None:
    """Settings with value, origin, and when to change them."""
    for key, (value, origin, why) in rows.items():
        _line(f"[bold]{escape(key)}[/] = {escape(value)}  [dim]({escape(origin)})[/]")
        out.print(f"[dim]    {escape(why)}[/]", soft_wrap=True)


def _plain(title: str, *columns: str) -> Table:
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        show_edge=False,
        title=title or None,
        title_justify="left",
        title_style="dim",
    )
    for column in columns:
        table.add_column(column, header_style="dim", overflow="fold")
    return table
