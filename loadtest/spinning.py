"""``python -m loadtest.spinning``: Rapport's server with a Python thread that never rests, for comparison.

What another thread of the process does with Python's lock must not show in decisions; this one holds it whenever it may.
"""

from __future__ import annotations

import sys
import threading

from server.cli.main import main


def _spin() -> None:
    while True:
        sum(range(1000))


if __name__ == "__main__":
    threading.Thread(target=_spin, name="spinning", daemon=True).start()
    sys.argv[1:1] = ["serve"]
    main()
