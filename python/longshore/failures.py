"""How a step's failure is told: the user's part of the traceback, one closing line, and a record for the program."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from longshore._report import is_own
from longshore.errors import LongshoreError
from longshore.materializers import type_name

if TYPE_CHECKING:
    from types import TracebackType

ENVIRONMENT_NAME = "LONGSHORE_FAILURE"
"""Names the file that a failure is recorded in, if set."""


def report(step: str, error: BaseException) -> None:
    """Writes the failure to standard error, and to the file of `LONGSHORE_FAILURE`."""
    trace = _traceback(error)
    sys.stdout.flush()
    sys.stderr.write(trace)
    hint = _hint(error)
    if hint is not None:
        sys.stderr.write(hint + "\n")
    sys.stderr.write(f"step {step} failed: {_summary(error)}\n")
    sys.stderr.flush()
    path = os.environ.get(ENVIRONMENT_NAME)
    if path:
        record = {"step": step, "type": type_name(error), "message": str(error), "traceback": trace}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record, file)


def _traceback(error: BaseException) -> str:
    """The traceback without longshore's frames; empty where the error's own sentence says it all."""
    if isinstance(error, LongshoreError):
        return ""
    import traceback

    lines = traceback.format_exception(type(error), error, _user_part(error.__traceback__))
    return "".join(lines)


def _user_part(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _summary(error: BaseException) -> str:
    if isinstance(error, LongshoreError):
        return str(error)
    name = type_name(error)
    lines = str(error).strip().splitlines()
    return f"{name}: {lines[0]}" if lines else name


def _hint(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.split(".")[0]
        return (
            f"The module `{package}` is not there: add its package to DockerSettings(requirements=[…]), "
            "or its file to the folder of the pipeline's code."
        )
    return None
