"""A limit to the time that a step may take."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE = 30
"""Seconds that a step has to end after it was told to. Compiled code hears of it when it returns."""


class TimeLimitExceeded(LongshoreError):
    """A step took longer than it may."""


@contextlib.contextmanager
def time_limit(seconds: int | None) -> Iterator[None]:
    """Ends what is done in it by `TimeLimitExceeded` after so many seconds."""
    if seconds is None:
        yield
        return
    import faulthandler
    import signal

    def end(number: int, frame: object) -> None:
        del number, frame
        raise TimeLimitExceeded(f"it took longer than its timeout of {seconds} s")

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
