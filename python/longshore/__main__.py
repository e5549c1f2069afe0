"""`python -m longshore …` is the program `longshore …`."""

from __future__ import annotations

import os
import sys

from longshore.binary import find_binary

if __name__ == "__main__":
    program = find_binary()
    os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 (our own program, no shell wanted)
