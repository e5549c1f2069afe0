"""A machine of a user's own: a folder for longshore's data, a project, and the real program."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import longshore

ROOT = Path(__file__).parents[3]
PROGRAM = Path(os.environ.get("LONGSHORE_BIN", ROOT / "target/debug/longshore"))
PACKAGE_PARENT = str(Path(longshore.__file__).parent.parent)


class Machine:
    """Runs the program and scripts, with data below `home`."""

    def __init__(self, home: Path, project: Path) -> None:
        self.home = home
        self.project = project
        project.mkdir(parents=True, exist_ok=True)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("LONGSHORE_")}
        self.environment.update(LONGSHORE_HOME=str(home), LONGSHORE_BIN=str(PROGRAM), PYTHONPATH=PACKAGE_PARENT)

    def start(self, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=cwd or self.project,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> Outcome:
        process = self.start(*command, cwd=cwd, **environment)
        stdout, stderr = process.communicate(timeout=600)
        return Outcome(process.returncode, stdout, stderr)

    def longshore(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Outcome:
        return self.run(str(PROGRAM), *arguments, cwd=cwd, **environment)

    def python(self, script: str, *arguments: str, cwd: Path | None = None, **environment: str) -> Outcome:
        return self.run(sys.executable, script, *arguments, cwd=cwd, **environment)

    def write(self, path: str, text: str) -> Path:
        file = self.project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def images(self) -> List[Dict[str, Any]]:
        listed: List[Dict[str, Any]] = json.loads(self.longshore("image", "list", "-o", "json").done().stdout)
        return listed


class Outcome:
    """How a process ended."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def done(self) -> Outcome:
        assert self.code == 0, self
        return self

    def refused(self, *codes: int) -> str:
        """What it said when it failed with one of these codes. No backtrace is ever shown."""
        assert self.code in (codes or (1, 2)), self
        for trace in ("Traceback", "panicked", "RUST_BACKTRACE"):
            assert trace not in self.stderr, self
        return self.stderr

    def layers(self, state: str) -> List[str]:
        """The layers that the program says are in this state, e.g. `already there`."""
        lines = [line[9:] for line in self.stderr.splitlines() if re.search(rf"  {state}(  |$)", line)]
        return [re.split(r"  +", line)[0] for line in lines]

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def interrupt_when(process: subprocess.Popen[str], seen: Path, pattern: str, seconds: float = 120) -> None:
    """Interrupts a process once a file that matches the pattern is below `seen`."""
    end = time.monotonic() + seconds
    while not any(seen.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {pattern} below {seen}"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
