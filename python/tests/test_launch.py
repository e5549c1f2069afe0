"""A pipeline's call: the program is found, gets the spec, and its end becomes a `Run` or an exit code."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from longshore.binary import find_binary
from longshore.errors import BinaryNotFound

TRAIN = """\
from typing import Annotated, Tuple
from longshore import pipeline, step

class Model:
    def __init__(self, depth): self.depth = depth

@step
def load() -> Tuple[Annotated[list, "rows"], Annotated[int, "count"]]:
    return [1, 2, 3], 3

@step
def train(rows: list, depth: int = 3) -> Model:
    print("training", len(rows))
    return Model(depth)

@step
def evaluate(model: Model, count: int) -> float:
    return model.depth / count

@pipeline
def my_pipeline(depth: int = 3):
    rows, count = load()
    evaluate(train(rows, depth), count)

"""


def run(project, code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    project.write("train.py", TRAIN + code)
    return project.python("train.py", **environment)


def test_a_run_from_end_to_end(project, program):
    done = run(
        project,
        "run = my_pipeline(depth=6)\n"
        "print(run.id, run.status, run.image, run.load('evaluate'), run.load('load', 'count'))\n"
        "print(run.load('train').depth, type(run.load('train')) is Model, list(run.outputs['load']))\n",
    )
    assert done.stderr == ""
    assert done.stdout == "training 3\nr-1 succeeded None 2.0 3\n6 True ['rows', 'count']\n"
    arguments = json.loads((program.parent / "arguments.json").read_text())
    assert arguments[:4] == ["run", "--spec", "-", "--result"]
    assert not os.path.exists(os.path.dirname(arguments[4]))
    spec = json.loads((program.parent / "spec.json").read_text())
    assert spec["steps"][1]["parameters"] == {"depth": 6}


def test_loading_what_is_not_there(project, program):
    for code, message in [
        ("my_pipeline().load('trian')", "run r-1 has no step `trian`; did you mean `train`?"),
        ("my_pipeline().load('load')", "step `load` has 2 outputs; say which one to load; known: `count`, `rows`"),
        ("my_pipeline().load('load', 'row')", "step `load` has no output `row`; did you mean `rows`?"),
    ]:
        done = run(project, code)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {message}\n")


def test_a_failing_step(project, program):
    done = run(project, "my_pipeline(depth='x')\nprint('not reached')")
    assert done.returncode == 1
    assert done.stdout == "training 3\n"
    assert done.stderr.endswith("step evaluate failed: TypeError: unsupported operand type(s) for /: 'str' and 'int'\n")


@pytest.mark.parametrize("code", [1, 2, 77])
def test_the_programs_exit_code_is_the_scripts(project, program, code):
    done = run(project, "my_pipeline()\nprint('not reached')", STAND_IN=f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_failed_run_can_be_caught(project, program):
    done = run(
        project,
        "from longshore import RunFailed\n"
        "try:\n    my_pipeline()\nexcept RunFailed as error:\n    print(error.exit_code, error)\n",
        STAND_IN="exit 3",
    )
    assert (done.returncode, done.stdout) == (0, "3 the run failed: `longshore run` ended with exit code 3\n")


def test_a_program_that_does_not_read(project, program):
    done = run(project, "my_pipeline(depth='x' * 10_000_000)", STAND_IN="deaf")
    assert (done.returncode, done.stderr) == (7, "")


def test_a_program_that_is_killed(project, program):
    done = run(project, "my_pipeline()", STAND_IN="die")
    assert done.returncode == 137
    assert done.stderr.splitlines()[0] == "error: the run failed: the program `longshore` was ended by SIGKILL"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wish", ["old", "mute"])
def test_a_program_of_another_version(project, program, wish):
    done = run(project, "my_pipeline()", STAND_IN=wish)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {program} did what it was asked but left no readable result (")
    assert "Traceback" not in done.stderr


def test_ctrl_c_waits_for_the_program(project, program):
    project.write("train.py", TRAIN + "my_pipeline()\nprint('not reached')")
    # A group of its own stands for the terminal's foreground group.
    with subprocess.Popen(
        [sys.executable, "train.py"],
        cwd=project.folder,
        env={**project.environment, "STAND_IN": "wait"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (program.parent / "ready").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, "", "")
    assert (program.parent / "cleaned").exists()


def test_the_pipeline_is_checked_before_the_program_is_started(project, program):
    done = run(project, "my_pipeline(dept=4)")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(
        "error: pipeline `my_pipeline` has no parameter `dept`; did you mean `depth`? "
    )
    assert done.stderr.splitlines()[1].endswith("my_pipeline(dept=4)")
    assert not (program.parent / "spec.json").exists()


def test_python_dash_m(project, program):
    done = project.python("-m", "longshore", "image", "list", STAND_IN="exit 5")
    assert done.returncode == 5
    assert json.loads((program.parent / "arguments.json").read_text()) == ["image", "list"]


def install(folder) -> str:
    folder.mkdir(parents=True)
    path = folder / "longshore"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_the_environment_chooses_the_program(tmp_path, monkeypatch):
    path = install(tmp_path / "bin")
    monkeypatch.setenv("LONGSHORE_BIN", path)
    assert find_binary() == path
    monkeypatch.setenv("LONGSHORE_BIN", str(tmp_path / "gone"))
    with pytest.raises(BinaryNotFound, match=r"LONGSHORE_BIN is set to .*/gone, which is not a program"):
        find_binary()


def test_the_program_on_the_path_and_none(tmp_path, monkeypatch):
    monkeypatch.delenv("LONGSHORE_BIN", raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda *_, **__: str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(BinaryNotFound, match=r"`pip install longshore` puts it beside this Python\. Searched: .*/none"):
        find_binary()
    assert find_binary.__module__ == "longshore.binary"
    path = install(tmp_path / "bin")
    assert find_binary() == path


@pytest.mark.parametrize(
    ("package", "programs"),
    [
        ("target", "target/bin"),
        ("prefix/lib/python3.11/site-packages", "prefix/bin"),
    ],
)
def test_the_program_beside_the_package(project, package, programs):
    import longshore

    site = project.folder / package
    site.mkdir(parents=True)
    (site / "longshore").symlink_to(os.path.dirname(longshore.__file__))
    path = install(project.folder / programs)
    project.environment["PYTHONPATH"] = str(site)
    done = project.python("-c", "from longshore.binary import find_binary; print(find_binary())", PATH="/nowhere")
    assert done.stdout == path + "\n", done.stderr


def test_the_program_of_the_user_scheme(project):
    path = install(project.folder / "home/.local/bin")
    done = project.python(
        "-c",
        "from longshore.binary import find_binary; print(find_binary())",
        HOME=str(project.folder / "home"),
        PATH="/nowhere",
    )
    assert done.stdout == path + "\n", done.stderr


def test_the_program_of_a_virtual_environment(project):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project.folder / "venv")], check=True)
    path = project.folder / "venv/bin/longshore"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    done = subprocess.run(
        [
            str(project.folder / "venv/bin/python"),
            "-c",
            "from longshore.binary import find_binary; print(find_binary())",
        ],
        env={**project.environment, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{path}\n"
