"""A machine of a user's own: a folder for longshore's data, a project, and the real program."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

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

    def start(self, *command: str, cwd: Optional[Path] = None, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=cwd or self.project,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, cwd: Optional[Path] = None, **environment: str) -> "Outcome":
        process = self.start(*command, cwd=cwd, **environment)
        stdout, stderr = process.communicate(timeout=600)
        return Outcome(process.returncode, stdout, stderr)

    def longshore(self, *arguments: str, cwd: Optional[Path] = None, **environment: str) -> "Outcome":
        return self.run(str(PROGRAM), *arguments, cwd=cwd, **environment)

    def python(self, script: str, cwd: Optional[Path] = None, **environment: str) -> "Outcome":
        return self.run(sys.executable, script, cwd=cwd, **environment)

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

    def done(self) -> "Outcome":
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


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has a parent image and small packages: made once, used by all tests that need no fresh one."""
    assert PROGRAM.exists(), f"{PROGRAM} is missing: run scripts/test, or cargo build -p longshore-cli"
    home = tmp_path_factory.mktemp("home")
    machine = Machine(home, tmp_path_factory.mktemp("first"))
    machine.write("hello.py", "print('hello')\n")
    machine.longshore("build", ".", "--tag", "first:1", "-r", "idna==3.10").done()
    return home


@pytest.fixture
def machine(shared_home: Path, tmp_path: Path) -> Machine:
    return Machine(shared_home, tmp_path / "project")


@pytest.fixture
def new_machine(tmp_path: Path) -> Machine:
    """A machine that has never seen longshore."""
    return Machine(tmp_path / "home", tmp_path / "project")


@pytest.fixture
def quickstart(machine: Machine) -> Path:
    """A copy of the quickstart that a test may edit."""
    return Path(shutil.copytree(ROOT / "examples/quickstart", machine.project / "quickstart"))


def interrupt_when(process: "subprocess.Popen[str]", seen: Path, pattern: str, seconds: float = 120) -> None:
    """Interrupts a process once a file that matches the pattern is below `seen`."""
    end = time.monotonic() + seconds
    while not any(seen.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {pattern} below {seen}"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
