"""The pipelines that are measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SMALL = """\
from longshore import pipeline, step
from longshore.config import DockerSettings


@step
def load(rows: int) -> list:
    return list(range(rows))


@step
def left(data) -> int:
    return sum(data)


@step
def right(data) -> int:
    return max(data)


@step
def join(a, b) -> int:
    return a + b


@pipeline(settings={"docker": DockerSettings(requirements=["idna==3.10"])})
def small(rows: int = 4):
    data = load(rows)
    join(left(data), right(data))


small.submit()
"""

_ROW = 10
_INPUTS = 3


def large(steps: int, source_root: Path) -> dict[str, object]:
    """The specification of so many steps in rows of ten, each of which takes three outputs of the row before."""

    def step(number: int) -> dict[str, object]:
        row, place = divmod(number, _ROW)
        above = [(row - 1) * _ROW + (place + offset) % _ROW for offset in range(_INPUTS)] if row > 0 else []
        return {
            "name": f"step_{number}",
            "source": {"module": "work", "attribute": "work"},
            "inputs": {f"input_{index}": {"step": f"step_{up}", "output": "output"} for index, up in enumerate(above)},
            "parameters": {"number": number, "text": "a parameter of some forty characters or so"},
            "outputs": ["output"],
            "retries": 1,
            "settings": {"resources": {"cpu": 1, "memory": "1GiB"}},
        }

    return {
        "version": 2,
        "pipeline": {"name": "large"},
        "source_root": str(source_root),
        "sdk_version": "0.1.0",
        "python": {"executable": sys.executable, "version": ".".join(map(str, sys.version_info[:3]))},
        "steps": [step(number) for number in range(steps)],
    }
