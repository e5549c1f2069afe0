"""What README.md says is true: its program runs, and so does every command of its page about images."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, Iterator

import pytest

from .docker_registry import DockerRegistry
from .machine import PROGRAM, ROOT
from .test_registries import PIPELINE, user

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine
    from .test_registration import User

__all__ = ["user"]

README = (ROOT / "README.md").read_text()
TESTKIT = PROGRAM.with_name("longshore-testkit")


def commands(heading: str) -> list[str]:
    """The commands below a heading, without `longshore` and comments."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    return re.findall(r"^    longshore (.*?)(?:  +#.*)?$", section, re.MULTILINE)


IMAGES = commands("Images")


def test_the_pipeline_runs(machine: Machine) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    machine.write("train.py", program)
    outcome = machine.python("train.py").done()
    assert "evaluate succeeded" in outcome.stderr


def test_the_commands_run(machine: Machine) -> None:
    assert len(IMAGES) >= 6
    machine.write("hello.py", "")
    # The image that the page rebases onto: of this name here, one that longshore has made.
    machine.write("base/base.py", "")
    machine.longshore("build", "base", "--tag", "python:3.12-slim").done()
    for command in IMAGES:
        arguments = shlex.split(command)
        if arguments[:2] != ["registry", "serve"]:
            machine.longshore(*arguments).done()


@pytest.fixture
def google_key() -> Iterator[str]:
    """The key of a service account that a stand-in for Google's token service knows."""
    stand_in = subprocess.Popen([TESTKIT, "google"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert stand_in.stdout is not None
    yield json.dumps(json.loads(stand_in.stdout.readline())["service_account"])
    stand_in.communicate()


def test_images_go_to_a_registry_of_ones_own(user: User, google_key: str, tmp_path: Path) -> None:
    registry = DockerRegistry(tmp_path / "registry", password=None)
    try:
        user.served_at(gcr_io=registry.host)
        (user.project.parent / "key.json").write_text(google_key)
        for command in commands("Your own registry"):
            user.longshore(*shlex.split(command)).done()
        user.write("train.py", PIPELINE.format(more=""))
        shown = user.python("train.py").done().stderr
    finally:
        registry.stop()
    assert "→ gcr.io/my-project/greeting:20" in shown
    assert "run      succeeded" in shown


@pytest.mark.parametrize("command", [command for command in IMAGES if command.startswith("registry serve")])
def test_the_server_serves_until_it_is_told_to_stop(machine: Machine, command: str) -> None:
    process = machine.start(str(PROGRAM), *shlex.split(command))
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "at http://127.0.0.1:5000" in line or "address already in use" in line.lower(), line
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
