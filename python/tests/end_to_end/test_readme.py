"""What README.md says is true: its program runs, and so does every command of its page about images."""

from __future__ import annotations

import re
import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from .machine import PROGRAM, ROOT

if TYPE_CHECKING:
    from .machine import Machine

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    longshore (.*?)(?:  +#.*)?$", README, re.MULTILINE)


def test_the_pipeline_runs(machine: Machine) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    machine.write("train.py", program)
    outcome = machine.python("train.py").done()
    assert "evaluate succeeded" in outcome.stderr


def test_the_commands_run(machine: Machine) -> None:
    assert len(COMMANDS) >= 6
    machine.write("hello.py", "")
    for command in COMMANDS:
        arguments = shlex.split(command)
        if arguments[:2] != ["registry", "serve"]:
            machine.longshore(*arguments).done()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("registry serve")])
def test_the_server_serves_until_it_is_told_to_stop(machine: Machine, command: str) -> None:
    process = machine.start(str(PROGRAM), *shlex.split(command))
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "at http://127.0.0.1:5000" in line or "address already in use" in line.lower(), line
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
