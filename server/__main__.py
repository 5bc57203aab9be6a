"""``python -m server``: the server with the configuration of the working directory, as ``rapport serve`` starts it."""

from __future__ import annotations

import sys

from server.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
