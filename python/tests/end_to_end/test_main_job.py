"""From `python train.py` to a score, with the real program, packages and containers."""

import json
import os
import re
from pathlib import Path

from .machine import Machine


def test_the_quickstart_runs_and_then_only_what_changed_is_made_again(machine: Machine, quickstart: Path) -> None:
    first = machine.python("train.py", cwd=quickstart).done()
    assert re.search(r"^evaluate +\| score: 0\.9\d+$", first.stdout, re.MULTILINE), first
    assert re.search(r"^image +sha256:[0-9a-f]{64}$", first.stderr, re.MULTILINE), first
    assert re.search(r"localhost:5000/my_pipeline:\d{4}(-\d\d){5}", first.stderr), first
    assert any(layer.startswith("pandas 2.2.3") for layer in first.layers("spliced")), first
    assert any(layer.startswith("bytecode of pandas") for layer in first.layers("compiled")), first

    second = machine.python("train.py", cwd=quickstart).done()
    assert second.layers("spliced") == second.layers("compiled") == second.layers("packed") == []
    digest = re.search(r"sha256:[0-9a-f]{64}", first.stderr)
    assert digest is not None
    assert digest[0] in second.stderr

    script = quickstart / "train.py"
    script.write_text(script.read_text() + "\n# changed\n")
    third = machine.python("train.py", cwd=quickstart).done()
    assert [layer.split(":")[0] for layer in third.layers("packed")] == ["code"], third
    assert third.layers("spliced") == third.layers("compiled") == []


PIPELINE = """
from longshore import pipeline, step
from longshore.config import DockerSettings

@step
def number(n: int = 20) -> int:
    print("counting")
    return n

@step
def double(n: int) -> int:
    import idna
    return n * {factor}

@pipeline(settings={{"docker": DockerSettings({settings})}})
def small():
    double(number())

if __name__ == "__main__":
    run = small()
    print("result", run.load("double"))
"""


def test_a_step_gets_what_another_returned(machine: Machine) -> None:
    machine.write("small.py", PIPELINE.format(factor=2, settings='requirements=["idna==3.10"]'))
    outcome = machine.python("small.py").done()
    assert "number   | counting\n" in outcome.stdout
    assert "result 40\n" in outcome.stdout


def test_a_failing_step_shows_its_traceback_and_what_succeeded_stays(machine: Machine) -> None:
    machine.write("small.py", PIPELINE.format(factor="[][0]", settings='requirements=["idna==3.10"]'))
    outcome = machine.python("small.py")
    assert outcome.code == 1, outcome
    assert "double   |     return n * [][0]" in outcome.stderr
    assert "double   | step double failed: IndexError: list index out of range" in outcome.stderr
    assert "result" not in outcome.stdout
    folder = re.search(r"outputs in (\S+)", outcome.stderr)
    assert folder is not None, outcome
    assert json.loads((Path(folder[1]) / "number/output/data.json").read_text()) == 20


def test_the_local_stack_needs_no_image(machine: Machine) -> None:
    before = machine.images()
    machine.write("small.py", PIPELINE.format(factor=3, settings="").replace("import idna", "import os"))
    outcome = machine.python("small.py", LONGSHORE_STACK="local").done()
    assert "result 60\n" in outcome.stdout
    assert machine.images() == before


def test_steps_with_settings_of_their_own_get_an_image_of_their_own(machine: Machine) -> None:
    text = PIPELINE.format(factor=2, settings='requirements=["idna==3.10"]')
    own = '@step(settings={"docker": DockerSettings(environment={"COLOR": "blue"})})\ndef number'
    text = text.replace("@step\ndef number", own).replace('print("counting")', 'import os; print(os.environ["COLOR"])')
    machine.write("small.py", text)
    outcome = machine.python("small.py").done()
    assert "number   | blue\n" in outcome.stdout
    assert "localhost:5000/small-number:" in outcome.stderr


def test_settings_reach_the_container(machine: Machine) -> None:
    machine.write(
        "small.py",
        PIPELINE.format(
            factor=2, settings='requirements=["idna==3.10"], user="1234:1234", environment={"GREETING": "it\'s $HOME"}'
        ).replace('print("counting")', 'import os; print(os.getuid(), os.environ["GREETING"], os.getcwd())'),
    )
    outcome = machine.python("small.py").done()
    assert "number   | 1234 it's $HOME /app\n" in outcome.stdout
    assert "result 40\n" in outcome.stdout


def test_a_command_runs_in_an_image_as_its_root(machine: Machine) -> None:
    outcome = machine.longshore("image", "run", "first:1", "--", "python", "-c", "import os, idna; print(os.getuid())")
    assert outcome.done().stdout == "0\n"
    assert machine.home.stat().st_uid == os.getuid()
