"""What was measured, and the table of it."""

from __future__ import annotations

import enum
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Case(enum.Enum):
    """What a build had to do."""

    COLD = "cold"
    NOTHING = "nothing changed"
    LINE = "one code line changed"
    PIN = "one pin changed"


class Samples:
    """Seconds by builder and case. The first builder is the one that the others are compared with."""

    def __init__(self) -> None:
        self._seconds: dict[str, dict[Case, list[float]]] = {}

    def add(self, builder: str, case: Case, seconds: float) -> None:
        """One more measurement."""
        self._seconds.setdefault(builder, {}).setdefault(case, []).append(seconds)

    def table(self) -> list[list[str]]:
        """Rows of cells: median, range, and how many times as long as the first builder."""
        first = next(iter(self._seconds))
        cases = [case for case in Case if any(case in measured for measured in self._seconds.values())]
        rows = [["seconds: median (min-max), ratio", *(case.value for case in cases)]]
        for builder, measured in self._seconds.items():
            row = [builder]
            for case in cases:
                own = self._seconds[first].get(case)
                row.append(_cell(measured.get(case), own if builder != first else None))
            rows.append(row)
        best = ["fastest other / " + first]
        for case in cases:
            others = [
                statistics.median(measured[case])
                for builder, measured in self._seconds.items()
                if builder != first and case in measured
            ]
            own = self._seconds[first].get(case)
            best.append(f"{min(others) / statistics.median(own):.1f}x" if others and own else "")
        return [*rows, best]


def _cell(measured: list[float] | None, own: list[float] | None) -> str:
    if not measured:
        return "-"
    median = statistics.median(measured)
    cell = f"{median:.3f} ({min(measured):.3f}-{max(measured):.3f})"
    return f"{cell} {median / statistics.median(own):.1f}x" if own else cell


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows as a Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)
