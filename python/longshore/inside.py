"""Whether this process runs a step, where a pipeline's code is imported but the pipeline must not start again."""

from __future__ import annotations

import os
import sys

ENVIRONMENT_NAME = "LONGSHORE_STEP"
"""Names the file that tells a step's process what to run. Set by the program `longshore` only."""

importing: str | None = None
"""The module that the entrypoint is importing at this moment."""


class PipelineCalled(BaseException):
    """Ends the import of a step's module at the line that calls a pipeline.

    What stands below that line drives the run from the user's machine (`run.load(…)`, a report, a message)
    and has no business in a step's container. Not an `Exception`, so that `except Exception` lets it pass.
    """


def in_step() -> bool:
    """Whether this process runs a step, or was started by one that does."""
    return ENVIRONMENT_NAME in os.environ


def stop_import() -> None:
    """Raises `PipelineCalled` if it is the module being imported that calls the pipeline.

    Returns otherwise: where another module that it imports calls one, that module has to be imported whole;
    and a worker process that imports the module by itself has nobody to catch the exception.
    """
    if importing is None:
        return
    frame = sys._getframe(1)
    while frame.f_code.co_name != "<module>":
        if frame.f_back is None:
            return
        frame = frame.f_back
    if frame.f_globals.get("__name__") == importing:
        raise PipelineCalled
