"""Laws that hold for every decision, tried on the oracle with random worlds.

They need no second opinion, so they catch what oracle and kernel might have wrong together. Small worlds, so that
hypothesis shrinks a failure to a program one can read.
"""

from __future__ import annotations

import itertools
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.decision import DecideAnswer, DecideRequest
from core.programs.program import Program
from core.programs.source import check, read
from core.reasons import Reason, SlotStatus
from tests.oracle import OracleCustomer, OracleModel, decide
from tests.oracle_hub import OracleHub
from tests.property import generate
from tests.property.models import oracle_models

Customer = OracleCustomer | None
MODELS: dict[str, OracleModel] = dict(oracle_models())


def case(source: random.Random) -> tuple[Program, list[tuple[DecideRequest, Customer]]]:
    """A small program, and some requests with the customers they mean."""
    world = generate.world(source, offers=8, people=2, requests=4, models=tuple(MODELS))
    program = check(read(world.sources))
    hub = OracleHub(program, MODELS)
    for person in world.people:
        generate.fill(hub, person)
    return program, [(request, hub.customer(request.identifiers)) for request in world.requests]


def winners(answer: DecideAnswer) -> list[list[tuple[str, float]]]:
    return [[(one.offer, one.priority) for one in placement.offers] for placement in answer.placements]


def each_offer_is_returned_or_has_one_reason(program: Program, request: DecideRequest, who: Customer) -> None:
    for placement in decide(program, who, request, MODELS).placements:
        told = [one.offer for one in placement.offers] + [one.offer for one in placement.rejections]
        assert sorted(told) == [offer.name for offer in program.offers]
        assert sum(placement.summary.values()) == len(placement.rejections)
        assert (placement.status in {SlotStatus.OK, SlotStatus.OK_MODEL_FALLBACK}) == bool(placement.offers)


def no_loser_outranks_a_winner(program: Program, request: DecideRequest, who: Customer) -> None:
    for placement in decide(program, who, request, MODELS).placements:
        ranked = [(-one.priority, one.offer) for one in placement.offers]
        assert ranked == sorted(ranked)
        for one in placement.rejections:
            if one.reason is Reason.ARBITRATION_LOST:
                assert one.priority is not None
                assert (-one.priority, one.offer) > ranked[-1]


def repeats_and_group_limits_are_kept(program: Program, request: DecideRequest, who: Customer) -> None:
    answer = decide(program, who, request, MODELS)
    offers = [one for placement in answer.placements for one in placement.offers]
    if not program.arbitration.repeats:
        assert len({one.offer for one in offers}) == len(offers)
    most = program.arbitration.at_most_per_group
    if most:
        assert all(sum(other.group == one.group for other in offers) <= most for one in offers)


def an_offer_that_lost_is_not_missed(program: Program, request: DecideRequest, who: Customer) -> None:
    """Taking out an offer that lost, and whose contacts bind nobody else, changes no winner."""
    if program.caps or any(group.caps or group.suppressions for group in program.groups.values()):
        return
    alone = replace(request, placements=request.placements[:1])
    answer = decide(program, who, alone, MODELS)
    for one in answer.placements[0].rejections:
        binds = any(offer.name == one.offer and offer.suppressions for offer in program.offers)
        if one.reason is Reason.ARBITRATION_LOST and not binds:
            offers = tuple(offer for offer in program.offers if offer.name != one.offer)
            assert winners(decide(replace(program, offers=offers), who, alone, MODELS)) == winners(answer)


def more_slots_only_add(program: Program, request: DecideRequest, who: Customer) -> None:
    """A placement with one more slot returns the same offers first, at the same prices."""
    asked = request.placements[0]
    pages = [replace(request, placements=(replace(asked, slots=count),)) for count in (1, 2, 3, 4)]
    answers = [decide(program, who, page, MODELS).placements[0].offers for page in pages]
    for slots, (few, many) in enumerate(itertools.pairwise(answers), start=1):
        assert few == many[:slots]


def prices_stay_within_their_bounds(program: Program, request: DecideRequest, who: Customer) -> None:
    prices = {offer.name: offer.price for offer in program.offers}
    for placement in decide(program, who, request, MODELS).placements:
        for one in placement.offers:
            declared = prices[one.offer]
            assert (one.price is None) == (declared is None)
            if one.price and declared:
                assert declared.floor is None or one.price.amount.minor >= declared.floor
                assert declared.ceiling is None or one.price.amount.minor <= declared.ceiling


LAWS = (
    each_offer_is_returned_or_has_one_reason,
    no_loser_outranks_a_winner,
    repeats_and_group_limits_are_kept,
    an_offer_that_lost_is_not_missed,
    more_slots_only_add,
    prices_stay_within_their_bounds,
)


# A world is drawn from one source of chance, so its smallest is as large as any.
@settings(
    max_examples=25, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.randoms(use_true_random=False))
def test_laws_hold_for_random_worlds(source: random.Random) -> None:
    program, requests = case(source)
    for request, customer in requests:
        for law in LAWS:
            law(program, request, customer)
