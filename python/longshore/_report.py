"""How an uncaught error of longshore ends the program: a sentence and where it happened, no traceback.

An exception hook rather than `SystemExit`, so that the errors stay ordinary exceptions for whoever catches
them: tests, notebooks, schedulers that try again.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from longshore.errors import LongshoreError, RunInterrupted

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def install() -> None:
    """Puts the hook before the one that is there, which keeps all other exceptions."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # In an interactive interpreter, leaving would close the session.
        if not isinstance(error, (LongshoreError, RunInterrupted)) or _is_interactive():
            previous(kind, error, trace)
            return
        if not error.told:
            sys.stderr.write(describe(error, trace))
        raise SystemExit(error.exit_code)

    sys.excepthook = hook


def describe(error: BaseException, trace: TracebackType | None) -> str:
    """The error's sentence, and the user's line that led to it."""
    text = f"error: {error}\n"
    place = user_line(trace)
    if place is not None:
        import linecache

        file, line = place
        source = linecache.getline(file, line).strip()
        text += f"  --> {_shown(file)}:{line}" + (f": {source}" if source else "") + "\n"
    return text


def is_own(file: str) -> bool:
    """Whether a frame's file is longshore's own, or generated code (`<string>`, `<frozen …>`)."""
    return file.startswith("<") or os.path.abspath(file).startswith(_PACKAGE)


def user_line(trace: TracebackType | None) -> tuple[str, int] | None:
    """File and line of the innermost frame that is not longshore's own."""
    found: tuple[str, int] | None = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not is_own(file):
            found = (file, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _shown(file: str) -> str:
    here = os.path.join(os.getcwd(), "")
    absolute = os.path.abspath(file)
    return absolute[len(here) :] if absolute.startswith(here) else absolute


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)
