"""Child of test_hub_kill: reads beside the writers, whoever of them is killed, and fails when anything it sees is torn.

For each number on its input it reads so many customers and pairs by chance, and answers how many it found.
"""

from __future__ import annotations

import random
import sys

from core.decision import Identifier
from core.hub.store import Store
from tests.crash.hub_writer import CUSTOMERS, j, m


def main(path: str, seed: int) -> None:
    """Reads until its input ends."""
    chance = random.Random(seed)
    with Store.open(path, read_only=True) as store:
        for line in sys.stdin:
            found = 0
            for _ in range(int(line)):
                profile = store.profile([Identifier("crm", str(chance.randrange(CUSTOMERS)))])
                if profile is not None:
                    found += 1
                    number = profile.attributes.get("n")
                    if isinstance(number, int):
                        assert profile.attributes.get("digits") == str(number) * (number % 60), "a torn record"
                    for event in profile.events:
                        assert event.fields["n"] == event.at_us
                n = 10 * chance.randrange(1000)
                for one in m(n) + j(n):
                    half = store.profile([one])
                    assert half is None or half.attributes == {"n": n}
            print(found, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
