"""How far a process is that runs several steps: a line for the program as each step begins and ends."""

from __future__ import annotations

import json
import os
import time

ENVIRONMENT_NAME = "LONGSHORE_PROGRESS"
"""Names the file that the lines are appended to, if set."""


def tell(step: str, status: str) -> None:
    """Says that a step is as far as that: `running`, `succeeded`, `failed` or `interrupted`."""
    path = os.environ.get(ENVIRONMENT_NAME)
    if path:
        line = json.dumps({"step": step, "status": status, "at": int(time.time() * 1000)})
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
