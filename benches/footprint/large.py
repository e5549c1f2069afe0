"""What a build of large wheels takes: memory of the largest process, and bytes written to the disk."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine
from process import CommandFailed, run
from samples import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMATS = {"gzip": [], "eStargz": ["--lazy", "estargz"], "Zstandard": ["--compression", "zstd"]}


@dataclass(frozen=True)
class Taken:
    """What a command and all that it started took."""

    seconds: float
    # Bytes: the largest process at its largest, and what went to the disk.
    memory: int
    written: int


def taken(argv: Sequence[str], env: Mapping[str, str]) -> Taken:
    """Runs a command to its end."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(argv, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=said)
        # It has ended and still has its numbers, in which those of the children that it waited for are.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        seconds = time.perf_counter() - started
        lines = Path(f"/proc/{child.pid}/io").read_text().splitlines()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            raise CommandFailed(f"{' '.join(argv)} ended with {child.returncode}:\n{said.read().decode()[-3000:]}")
    numbers = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    return Taken(seconds, usage.ru_maxrss * 1024, numbers["write_bytes"])


class Bench:
    """A program, and a folder for all that it writes."""

    def __init__(self, program: Path, work: Path) -> None:
        self._program, self._work = program, work
        self._code = work / "code"
        self._code.mkdir()
        (self._code / "main.py").write_text("print('main')\n")

    def _environment(self, home: Path) -> dict[str, str]:
        return {"LONGSHORE_HOME": str(home), "UV_CACHE_DIR": str(home / "uv"), "LONGSHORE_CACHE_SIZE": "unlimited"}

    def _build(self, *options: str) -> list[str]:
        return [str(self._program), "build", str(self._code), "--tag", "app:1", "-o", "json", *options]

    def _layers(self, home: Path) -> dict[str, int]:
        """The sizes of the image's layers."""
        listed = json.loads(run([str(self._program), "image", "list", "-o", "json"], self._environment(home)))
        [digest] = [image["digest"] for image in listed if image["repository"].endswith("/app")]
        name = digest.removeprefix("sha256:")
        manifest = json.loads((home / "data/registry/blobs/sha256" / name[:2] / name).read_text())
        return {layer["digest"]: layer["size"] for layer in manifest["layers"]}

    def measure(self, requirements: Sequence[str], formats: Sequence[str], bytecode: bool) -> list[list[str]]:
        """Builds with each of the formats, on a disk that has the parent and nothing else."""
        pinned = self._work / "requirements.txt"
        pinned.write_text("".join(f"{line}\n" for line in requirements))
        rows = [["layers", "compressed", "written", "ratio", "memory", "seconds"]]
        for name in formats:
            home = self._work / "home"
            options = [*FORMATS[name], *([] if bytecode else ["--no-bytecode"])]
            run(self._build(*options), self._environment(home))
            parent = self._layers(home)
            took = taken(self._build(*options, "--requirements", str(pinned)), self._environment(home))
            layers = self._layers(home)
            compressed = sum(size for digest, size in layers.items() if digest not in parent)
            rows.append(
                [
                    name,
                    f"{compressed / 1e6:.1f} MB",
                    f"{took.written / 1e6:.1f} MB",
                    f"{took.written / compressed:.3f}",
                    f"{took.memory / 1e6:.0f} MB",
                    f"{took.seconds:.1f}",
                ]
            )
            shutil.rmtree(home)
        return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="longshore")
    parser.add_argument("--requirement", action="append", help="pinned; torch==2.8.0 unless said otherwise")
    parser.add_argument(
        "--format", action="append", choices=list(FORMATS), help="gzip and eStargz unless said otherwise"
    )
    parser.add_argument("--bytecode", action="store_true", help="compile it, which writes it too")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk, not in memory")
    arguments = parser.parse_args()
    requirements = arguments.requirement or ["torch==2.8.0"]
    with tempfile.TemporaryDirectory(prefix="longshore-footprint-", dir=arguments.work) as folder:
        work = Path(folder)
        print("\n".join(machine.describe(work)))
        print(f"{run([str(arguments.program), '--version']).strip()}; {', '.join(requirements)}\n")
        bench = Bench(arguments.program.resolve(), work)
        rows = bench.measure(requirements, arguments.format or ["gzip", "eStargz"], arguments.bytecode)
        print_table(rows)


if __name__ == "__main__":
    main()
