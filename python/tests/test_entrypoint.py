"""The entrypoint as the program starts it: a process of its own that reads the step document."""

import json
import signal
import subprocess
import sys

import pytest

from longshore.artifacts import load, save

STEPS = """\
from typing import Annotated, NamedTuple, Tuple
from longshore import pipeline, step

class Point:
    def __init__(self, x): self.x = x

class Split(NamedTuple):
    left: int
    right: int

@step
def load() -> int:
    print("loading")
    return 20

@step
def train(data: int, depth: int = 3) -> Annotated[Point, "model"]:
    return Point((data, depth))

@step
def two() -> Tuple[Annotated[int, "a"], Annotated[str, "b"]]:
    return 1, "b"

@step
def named() -> Split:
    return Split(left=1, right=2)

@step
def nothing() -> None:
    pass

def deeper():
    raise ValueError("first line\\nsecond line")

@step
def fail() -> int:
    deeper()

@step
def chained() -> int:
    try:
        deeper()
    except ValueError as error:
        raise RuntimeError("outer") from error

@step
def leave(code) -> int:
    import sys
    sys.exit(code)

@step
def leave_nothing() -> None:
    import sys
    sys.exit(0)

@step
def lock() -> Annotated[object, "model"]:
    import threading
    return threading.Lock()

@step
def wrong_count() -> Tuple[Annotated[int, "a"], Annotated[int, "b"]]:
    return 1, 2, 3

@step
def no_tuple() -> Tuple[Annotated[int, "a"], Annotated[int, "b"]]:
    return 1

@step
def unannounced() -> None:
    return 1

@step
def needs_package() -> int:
    import not_there.at_all

@step
def crash() -> int:
    import ctypes
    ctypes.string_at(0)

@step
def sleep() -> int:
    import time
    print("sleeping")
    time.sleep(60)
"""


@pytest.fixture
def app(project):
    project.write("train.py", STEPS)
    return project


def document(project, attribute, inputs=None, parameters=None, outputs=("output",), module="train"):
    def uri(path):
        return (project.folder / "store" / path).as_uri()

    return {
        "name": attribute,
        "source": {"module": module, "attribute": attribute},
        "inputs": {name: {"uri": uri(path)} for name, path in (inputs or {}).items()},
        "parameters": parameters or {},
        "outputs": {name: {"uri": uri(f"{attribute}/{name}")} for name in outputs},
    }


def value(project, path):
    return load((project.folder / "store" / path).as_uri())


def failed(app, attribute, **rest) -> str:
    """Runs a step that fails; returns what it wrote to standard error."""
    done = app.step(document(app, attribute, **rest))
    assert done.returncode == 1, done.stderr
    assert not (app.folder / "store").exists()
    return done.stderr


def test_steps_one_by_one(app):
    assert app.step(document(app, "load")).returncode == 0
    done = app.step(
        document(app, "train", {"data": "load/output"}, {"depth": {"$tuple": [1]}}, ["model"]),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shown = app.python(
        "-c",
        f"from longshore.artifacts import load; m = load('file://{app.folder}/store/train/model')\n"
        "print(type(m).__module__, m.x)",
    )
    assert shown.stdout == "train (20, (1,))\n"


def test_several_steps_in_one_process(app):
    steps = [document(app, "load"), document(app, "train", {"data": "load/output"}, outputs=["model"])]
    done = app.step(*steps)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loading\n", "")
    assert (app.folder / "store/train/model/artifact.json").is_file()


def test_the_first_failure_ends_the_process_and_what_had_succeeded_stays(app):
    done = app.step(document(app, "load"), document(app, "fail"), document(app, "two", outputs=["a", "b"]))
    assert done.returncode == 1
    assert done.stderr.endswith("step fail failed: ValueError: first line\n")
    assert value(app, "load/output") == 20
    assert not (app.folder / "store/two").exists()


def test_several_outputs(app):
    assert app.step(document(app, "two", outputs=["b", "a"])).returncode == 0
    assert (value(app, "two/a"), value(app, "two/b")) == (1, "b")
    assert app.step(document(app, "named", outputs=["left", "right"])).returncode == 0
    assert (value(app, "named/left"), value(app, "named/right")) == (1, 2)


def test_no_outputs(app):
    assert app.step(document(app, "nothing", outputs=[])).returncode == 0
    assert app.step(document(app, "leave_nothing", outputs=[])).returncode == 0


def test_the_traceback_has_the_users_frames_only(app):
    lines = [line for line in failed(app, "fail").splitlines() if "^" not in line]
    assert lines == [
        "Traceback (most recent call last):",
        f'  File "{app.folder}/train.py", line 37, in fail',
        "    deeper()",
        f'  File "{app.folder}/train.py", line 33, in deeper',
        '    raise ValueError("first line\\nsecond line")',
        "ValueError: first line",
        "second line",
        "step fail failed: ValueError: first line",
    ]


def test_causes_are_shown(app):
    text = failed(app, "chained")
    assert "ValueError: first line" in text
    assert "The above exception was the direct cause" in text
    assert "longshore/entrypoint.py" not in text
    assert text.endswith("RuntimeError: outer\nstep chained failed: RuntimeError: outer\n")


def test_the_failure_is_recorded(app):
    path = app.folder / "failure.json"
    done = app.step(document(app, "fail"), LONGSHORE_FAILURE=str(path))
    record = json.loads(path.read_text())
    assert record["step"] == "fail"
    assert record["type"] == "ValueError"
    assert record["message"] == "first line\nsecond line"
    assert done.stderr == record["traceback"] + "step fail failed: ValueError: first line\n"


def test_progress_is_told_step_by_step(app):
    path = app.folder / "progress"
    steps = [document(app, name) for name in ("load", "fail", "two")]
    assert app.step(*steps, LONGSHORE_PROGRESS=str(path)).returncode == 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [(line["step"], line["status"]) for line in lines]
    assert told == [("load", "running"), ("load", "succeeded"), ("fail", "running"), ("fail", "failed")]
    times = [line["at"] for line in lines]
    assert times == sorted(times)
    assert times[0] > 1_700_000_000_000


def test_leaving(app):
    assert failed(app, "leave", parameters={"code": 3}).endswith("step leave failed: SystemExit: 3\n")
    assert failed(app, "leave", parameters={"code": "bye"}).endswith("step leave failed: SystemExit: bye\n")
    assert failed(app, "leave", parameters={"code": 0}) == (
        "step leave failed: it called sys.exit() before it returned `output`\n"
    )


@pytest.mark.parametrize(
    ("attribute", "outputs", "message"),
    [
        ("wrong_count", ["a", "b"], "it declares 2 outputs (`a`, `b`) but returned 3"),
        ("no_tuple", ["a", "b"], "it declares 2 outputs (`a`, `b`) but returned a int"),
        ("unannounced", [], "it is annotated with -> None but returned a int; annotate what it returns"),
        (
            "lock",
            ["model"],
            "the output `model` is a _thread.lock, which cannot be stored: TypeError: cannot pickle '_thread.lock' "
            "object; return plain data, an array, a data frame, or an object that `pickle` can write",
        ),
        (
            "two",
            ["a", "c"],
            "the code has the outputs `a`, `b`, but the pipeline was started with `a`, `c`; start it anew",
        ),
        (
            "gone",
            ["output"],
            "the module `train` has no step `gone`, or only below the line that calls the pipeline, "
            "where its import ends",
        ),
        (
            "Point",
            ["output"],
            "the module `train` has no step `Point`, or only below the line that calls the pipeline, "
            "where its import ends",
        ),
    ],
)
def test_outputs_that_do_not_fit(app, attribute, outputs, message):
    done = app.step(document(app, attribute, outputs=outputs))
    assert done.returncode == 1
    assert done.stderr == f"step {attribute} failed: {message}\n"
    assert not list((app.folder / "store").rglob("artifact.json"))


def test_a_missing_module_says_what_to_do(app):
    assert failed(app, "needs_package").endswith(
        "The module `not_there` is not there: add its package to DockerSettings(requirements=[…]), "
        "or its file to the folder of the pipeline's code.\n"
        "step needs_package failed: ModuleNotFoundError: No module named 'not_there'\n"
    )
    done = app.step(document(app, "load", module="absent"))
    assert done.returncode == 1
    assert f"there is no module `absent` in {app.folder}" in done.stderr


def test_a_syntax_error_is_pythons_own(project):
    project.write("train.py", "def broken(:\n")
    done = project.step(document(project, "broken"))
    assert done.returncode == 1
    assert "importlib" not in done.stderr
    assert f'File "{project.folder}/train.py", line 1' in done.stderr
    assert "\nstep broken failed: SyntaxError: " in done.stderr


def test_a_module_that_fails_while_it_is_imported(project):
    project.write("train.py", "def check():\n    raise OSError('no data')\ncheck()\n")
    done = project.step(document(project, "load"))
    assert done.stderr.splitlines()[1] == f'  File "{project.folder}/train.py", line 3, in <module>'
    assert done.stderr.endswith("step load failed: OSError: no data\n")


def test_a_crash_leaves_the_line(app):
    done = app.step(document(app, "crash"))
    assert done.returncode == -signal.SIGSEGV
    assert "train.py" in done.stderr
    assert "in crash" in done.stderr


def test_a_missing_input(app):
    assert "its step has not run, or it was removed" in failed(
        app, "train", inputs={"data": "load/output"}, outputs=["model"]
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_output_is_seen_at_once_and_an_interrupt_is_quiet(app, number):
    path = app.write("step.json", json.dumps({"version": 2, "run_id": "r", "steps": [document(app, "sleep")]}))
    with subprocess.Popen(
        [sys.executable, "-m", "longshore.entrypoint"],
        cwd=app.folder,
        env={**app.environment, "LONGSHORE_STEP": str(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "sleeping\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "step sleep interrupted\n"


DRIVER = """\
from longshore import pipeline, step

@step
def one() -> int:
    return 1

@pipeline
def p():
    one()

{call}
"""


@pytest.mark.parametrize(
    "call",
    [
        "p()",
        "run = p()\nscore = run.load('one')\nprint(f'{score:.3f}')\nraise SystemExit(9)",
        "def main():\n    p()\n    raise SystemExit(9)\nmain()",
        "try:\n    p()\nexcept Exception:\n    raise SystemExit(9)",
        "import os\nif __name__ == '__main__':\n    os._exit(9)",
    ],
)
def test_an_unguarded_call_does_not_start_the_pipeline_again(project, call):
    project.write("train.py", DRIVER.format(call=call))
    done = project.step(document(project, "one"), LONGSHORE_BIN="/bin/false")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert value(project, "one/output") == 1


def test_an_unguarded_call_in_another_module_lets_its_import_finish(project):
    project.write("other.py", DRIVER.format(call="run = p()\nrun.load('one')\nlater = 5"))
    project.write("app/__init__.py", "")
    project.write(
        "app/train.py",
        "from longshore import step\nimport other\n@step\ndef two() -> int:\n    return other.later\n",
    )
    done = project.step(document(project, "two", module="app.train"), LONGSHORE_BIN="/bin/false")
    assert (done.returncode, done.stderr) == (0, "")
    assert value(project, "two/output") == 5


def test_worker_processes_of_a_step_do_not_start_the_pipeline(project):
    code = """\
import multiprocessing
from longshore import pipeline, step

def square(x):
    return x * x

@step
def one() -> list:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(square, [1, 2, 3])

@pipeline
def p():
    one()

run = p()
run.load("one")
"""
    project.write("train.py", code)
    done = project.step(document(project, "one"), LONGSHORE_BIN="/bin/false")
    assert (done.returncode, done.stderr) == (0, "")
    assert value(project, "one/output") == [1, 4, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "has version None, this package reads 2"),
        ('{"version": 1, "steps": []}', "has version 1, this package reads 2"),
    ],
)
def test_documents_that_cannot_be_used(project, content, message):
    path = project.folder / "step.json"
    if content is not None:
        path.write_text(content)
    done = project.python("-m", "longshore.entrypoint", LONGSHORE_STEP=str(path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the step's document {path} ")
    assert message in done.stderr


def test_without_a_document(project):
    done = project.python("-m", "longshore.entrypoint")
    assert (done.returncode, done.stderr) == (
        2,
        "error: LONGSHORE_STEP is not set; this module is started by `longshore`, not by hand\n",
    )


def test_inputs_are_checked_before_they_are_read(app):
    save([1], (app.folder / "store/load/output").as_uri(), "it")
    (app.folder / "store/load/output/data.json").write_text("[2]")
    done = app.step(document(app, "train", {"data": "load/output"}, outputs=["model"]))
    assert done.returncode == 1
    assert "is damaged" in done.stderr
