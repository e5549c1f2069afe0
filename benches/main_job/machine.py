"""The machine that is measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe(work: Path) -> list[str]:
    """Sentences about processor, memory, kernel, file system and what else is going on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = int(next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"{len(os.sched_getaffinity(0))} cores of {model}, {memory / 2**20:.0f} GiB, Linux {platform.release()}",
        f"work folder {work} on {_file_system(work)}; load average at the start {load}",
    ]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in _lines("/proc/mounts")]
    inside = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(inside)[1]
