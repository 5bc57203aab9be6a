"""What the generators write and what decides over it agree on. No imports: the measured process loads no generator."""

CHANNEL = "web"
PLACEMENT = "home"
FIRST = 1_000_001  # the first customer's number; seven digits each; past nine million eight, which sort among the others


def placements(count: int) -> list[str]:
    """The placements' names in the order in which a request names them: home, home_2 ..."""
    return [PLACEMENT, *(f"{PLACEMENT}_{number}" for number in range(2, count + 1))]
