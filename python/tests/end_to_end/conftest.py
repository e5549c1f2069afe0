"""Machines for the tests: one that has a parent image, and new ones."""

import shutil
import socket
import time
from pathlib import Path
from typing import Iterator

import pytest

from .machine import PROGRAM, ROOT, Machine


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


@pytest.fixture
def server(machine: Machine) -> Iterator[str]:
    """The embedded registry, served on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = machine.start(str(PROGRAM), "registry", "serve", "--listen", address)
    try:
        for _ in range(600):
            try:
                socket.create_connection(tuple(address.split(":")), timeout=1).close()  # type: ignore[arg-type]
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
