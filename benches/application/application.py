"""Measures builds of an application of some 150 packages: planning, nothing changed, a changed line, a changed pin."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
from process import run

if TYPE_CHECKING:
    from collections.abc import Callable

APPLICATION = "apache-airflow[amazon]"
# A small package of one wheel that many others want, and an older version that all of them take.
PIN, OLDER = "certifi", "2025.8.3"


class Application:
    """The code, its pinned requirements, and a data folder that holds a build of them."""

    def __init__(self, program: Path, work: Path) -> None:
        self.program, self.code = program, work / "code"
        self.code.mkdir()
        self.edit(0)
        self.environment = {"LONGSHORE_HOME": str(work / "home"), "UV_CACHE_DIR": str(work / "uv")}
        # The Python of the parent that longshore makes by itself decides which versions there are.
        built = self.build()
        python = run([str(program), "image", "run", built["image"], "--", "python", "-V"], self.environment)
        version = ".".join(python.split()[1].split(".")[:2])
        wanted = work / "wanted.txt"
        wanted.write_text(f"{APPLICATION}\n")
        command = ["uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--python-version", version]
        self.pins = run([*command, str(wanted)], self.environment)
        self.requirements = work / "requirements.txt"
        self.requirements.write_text(self.pins)

    def edit(self, edition: int) -> None:
        """Makes the code what it never was before."""
        (self.code / "main.py").write_text(f"EDITION = {edition}\n")

    def build(self, *options: str) -> dict[str, Any]:
        """Builds, without bytecode, and says what was done."""
        argv = [str(self.program), "build", str(self.code), "--tag", "application:1", "--no-bytecode", "-o", "json"]
        result: dict[str, Any] = json.loads(run([*argv, *options], self.environment))
        return result

    def of_all(self, *options: str) -> dict[str, Any]:
        """Builds with the requirements."""
        return self.build("--requirements", str(self.requirements), *options)

    def pin(self, version: str | None) -> None:
        """Pins the small package to another version, or as it was."""
        pinned = re.sub(rf"(?m)^{PIN}==.*$", f"{PIN}=={version}", self.pins) if version else self.pins
        self.requirements.write_text(pinned)


def took(action: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the longshore that is measured")
    parser.add_argument("--runs", type=int, default=9, help="builds of each kind (default: 9)")
    chosen = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="longshore-bench-", dir="/var/tmp"))
    try:
        for sentence in machine.describe(work):
            print(sentence)
        application = Application(chosen.program.resolve(), work)
        cold = took(application.of_all)
        print(f"{APPLICATION}: {len(application.pins.splitlines())} packages\n")
        print("| seconds | median (min-max) |\n|---|---|")
        print(f"| everything for the first time, downloads included | {cold:.2f} |")
        row("planning alone (`--dry-run`)", [took(lambda: application.of_all("--dry-run")) for _ in range(chosen.runs)])
        row("nothing changed", [took(application.of_all) for _ in range(chosen.runs)])
        lines = []
        for edition in range(1, chosen.runs + 1):
            application.edit(edition)
            lines.append(took(application.of_all))
        row("one code line changed", lines)
        application.pin(OLDER)
        [planned] = application.of_all("--dry-run")["images"]
        row("one pin changed", [took(application.of_all)])
        new = [layer["title"] for layer in planned["layers"] if not layer["reused"]]
        print(f"\nOne pin changed: {len(new)} of {len(planned['layers'])} layers are made: {'; '.join(new)}.")
    finally:
        for folder, _, _ in os.walk(work):
            Path(folder).chmod(0o700)
        shutil.rmtree(work, ignore_errors=True)


def row(name: str, seconds: list[float]) -> None:
    """Prints one row of the table."""
    print(f"| {name} | {statistics.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f}) |", flush=True)


if __name__ == "__main__":
    main()
