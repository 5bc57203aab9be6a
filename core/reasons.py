"""Why an offer was not returned, and how a slot was filled: closed vocabularies, the same on wire, in logs, in code.

`Reason` is ordered by precedence. An offer that fails several stages gets the lowest, so the reason is what a
marketer would have to change first; within one stage the group's rules speak before the offer's, in declared order.
"""

from __future__ import annotations

import enum


class Reason(enum.IntEnum):
    """The one reason an offer was not returned in a placement."""

    SCHEDULE = 1  # outside its dates
    CHANNEL = 2  # has no treatment for the request's channel
    PLACEMENT = 3  # has treatments for the channel, none for this placement
    ELIGIBILITY = 4  # may we? a rule did not hold (detail tells whether a value was missing)
    APPLICABILITY = 5  # does it fit now?
    SUITABILITY = 6  # is it right for the customer?
    CONSENT = 7  # the customer has not consented to its purpose in this channel
    CASE_OPEN = 8  # a case of a kind that pauses it is open
    BUDGET = 9  # reserved: its budget is spent
    EXPERIMENT = 10  # reserved: the customer is in a group that does not get it
    CONTACT_CAP = 11  # the contact history reached a cap
    SUPPRESSED = 12  # paused after outcomes of it, its group, or an offer that names it as related
    MODEL_FAILED = 13  # its model did not answer in time or failed, and has no fallback value
    SCORE_UNDEFINED = 14  # its propensity, value or formula gave no finite number
    DUPLICATE = 15  # already returned in an earlier placement of this request
    GROUP_LIMIT = 16  # its group has reached its share of the page
    ARBITRATION_LOST = 17  # competed, and others scored higher


class Detail(enum.IntEnum):
    """Why a rule did not hold."""

    NONE = 0
    FALSE = 1  # all values known, condition false
    VALUE_MISSING = 2  # unknown, for want of the input named beside it
    EXPRESSION_FAILED = 3  # overflow, division by zero, or a conversion that cannot be made


class SlotStatus(enum.IntEnum):
    """How a placement's answer came about."""

    OK = 1  # as many offers as slots, or every offer that could be returned
    FALLBACK_NO_ELIGIBLE_OFFER = 2  # nothing was left: the placement's fallback content is returned
    FALLBACK_UNKNOWN_CUSTOMER = 3  # nothing was left, and no identifier was known
    FALLBACK_EMPTY_CATALOGUE = 4  # no offer has a treatment for this placement at all
    FALLBACK_MODEL = 5  # nothing was left, and offers were out because their model failed or was late
    FALLBACK_DEADLINE = 6  # the deadline left no time to decide this placement
    FALLBACK_OVERLOAD = 7  # refused under load before it was decided
    OK_MODEL_FALLBACK = 8  # offers are returned; one competed with its model's fallback value, or was out for it
