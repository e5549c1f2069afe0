"""What can go wrong, as exceptions whose text is a sentence for the user.

Uncaught, they end the program with that sentence and their exit code, without a traceback: see `_report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class LongshoreError(Exception):
    """The base of everything that longshore raises."""

    exit_code: int = 1
    """The program's exit code when nobody catches the error."""
    told: bool = False
    """Whether the user has been told already, so that nothing is left to print."""


class UsageError(LongshoreError):
    """A mistake in how longshore is used: an unknown setting, a wrong argument, a step that cannot be found."""

    exit_code = 2


class ArtifactError(LongshoreError):
    """An artifact cannot be written or read."""


class BinaryNotFound(LongshoreError):
    """The `longshore` program that builds and runs is not installed."""


class RunFailed(LongshoreError):
    """A run did not succeed. The program `longshore` has already said why; `exit_code` is its exit code."""

    told = True

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunKilled(RunFailed):
    """The program `longshore` was ended by a signal, and could not say anything."""

    told = False


class RunInterrupted(KeyboardInterrupt):
    """A run was ended by Ctrl-C, after the program `longshore` had cleaned up."""

    exit_code: int = 130
    told: bool = True


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about the unknown name `word`: the nearest known name, or all of them."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(word.lower(), names, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    if not names:
        return "; it has none"
    return "; known: " + ", ".join(f"`{name}`" for name in names)
