"""Memory of a build, and the start of a process."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from process import CommandFailed, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Memory:
    """Peaks in MB (10^6 bytes)."""

    largest_process: float
    together: float


def memory(argv: Sequence[str], env: Mapping[str, str]) -> Memory:
    """Runs a command; the memory of the largest process, and of it with all its descendants at one time.

    The first is what the kernel says at the end; the second is sampled, as proportional set size, which counts a
    page that several processes share once.
    """
    child = subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    together = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        together = max(together, sum(_proportional_size(each) for each in _tree(child.pid)))
        time.sleep(0.01)
    if status != 0:
        raise CommandFailed(f"{argv[0]} ended with status {status}")
    child.returncode = 0
    return Memory(usage.ru_maxrss * 1024 / 1e6, together / 1e6)


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        process = queue.pop()
        found.append(process)
        queue.extend(children.get(process, []))
    return found


def _proportional_size(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def start(program: Path, runs: int = 50) -> tuple[float, float]:
    """Median and minimum of the seconds that `PROGRAM --version` takes."""
    measured = [seconds([str(program), "--version"]) for _ in range(runs)]
    return statistics.median(measured), min(measured)
