"""Steps that are not run again, retries, timeouts, and documents that come as arguments."""

import base64
import json
import zlib

import pytest

STEPS = """\
import os, time
from longshore import step

def count(name):
    with open(name, "a") as file:
        file.write("x")
    return len(open(name).read())

@step
def load(rows: int) -> list:
    count("loads")
    return list(range(rows))

@step
def total(data) -> int:
    count("totals")
    return sum(data)

@step
def flaky() -> int:
    tries = count("tries")
    if tries < 3:
        raise ValueError(f"try {tries}")
    return tries

@step
def slow() -> None:
    time.sleep(30)
"""


def document(store, run, name, inputs=None, outputs=("output",), **more):
    def at(step, output):
        return {"uri": f"{store.as_uri()}/{run}/{step}/{output}"}

    return {
        "name": name,
        "source": {"module": "app", "attribute": name},
        "inputs": {key: at(*place) for key, place in (inputs or {}).items()},
        "parameters": {},
        "outputs": {output: at(name, output) for output in outputs},
        **more,
    }


def both(store, run, rows=3, image="sha256:1", **more):
    return [
        document(store, run, "load", parameters={"rows": rows}, cache=image, **more),
        document(store, run, "total", inputs={"data": ("load", "output")}, cache=image, **more),
    ]


def counts(project):
    return [len((project.folder / name).read_text()) for name in ("loads", "totals")]


def test_the_same_step_runs_once(project, tmp_path):
    project.write("app.py", STEPS)
    store = tmp_path / "store"
    first = project.step(*both(store, "r1"))
    assert first.returncode == 0, first.stderr
    again = project.step(*both(store, "r2"))
    assert again.returncode == 0, again.stderr
    assert "step load is cached" in again.stderr
    assert counts(project) == [1, 1]
    # The outputs are the new run's own: the old run may be deleted.
    data = json.loads((store / "r2/total/output/data.json").read_text())
    assert data == 3

    project.step(*both(store, "r3", rows=4))
    assert counts(project) == [2, 2], "another parameter, and so another input of the second step"
    project.step(*both(store, "r4", image="sha256:2"))
    assert counts(project) == [3, 3], "other code or packages"


def test_without_being_asked_nothing_is_remembered(project, tmp_path):
    project.write("app.py", STEPS)
    store = tmp_path / "store"
    for run in ("r1", "r2"):
        steps = both(store, run)
        for step in steps:
            del step["cache"]
        assert project.step(*steps).returncode == 0
    assert counts(project) == [2, 2]
    assert not (store / ".steps").exists()


@pytest.mark.parametrize("damage", ["row", "artifact", "gone"])
def test_what_is_damaged_is_made_again(project, tmp_path, damage):
    project.write("app.py", STEPS)
    store = tmp_path / "store"
    assert project.step(*both(store, "r1")).returncode == 0
    if damage == "row":
        for row in (store / ".steps").iterdir():
            row.write_text("{")
    elif damage == "artifact":
        (store / "r1/load/output/artifact.json").write_text("{}")
    else:
        (store / "r1/load/output/artifact.json").unlink()
    done = project.step(*both(store, "r2"))
    assert done.returncode == 0, done.stderr
    assert json.loads((store / "r2/total/output/data.json").read_text()) == 3
    assert counts(project)[0] == 2


def test_a_step_is_tried_again(project, tmp_path):
    project.write("app.py", STEPS)
    done = project.step(document(tmp_path / "store", "r", "flaky", retries=2))
    assert done.returncode == 0, done.stderr
    assert "step flaky failed: ValueError: try 1" in done.stderr
    assert "step flaky is tried again, up to 2 times" in done.stderr
    (project.folder / "tries").unlink()
    done = project.step(document(tmp_path / "store", "r", "flaky", retries=1))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("step flaky failed: ValueError: try 2")


def test_a_step_has_its_time(project, tmp_path):
    project.write("app.py", STEPS)
    done = project.step(document(tmp_path / "store", "r", "slow", outputs=(), timeout=1))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("step slow failed: it took longer than its timeout of 1 s")


def pieces(steps):
    text = json.dumps({"version": 2, "run_id": "{run}", "steps": steps})
    encoded = base64.urlsafe_b64encode(zlib.compress(text.encode())).decode().rstrip("=")
    cut = [encoded[i : i + 255] for i in range(0, len(encoded), 255)]
    return ["." + piece if piece.startswith("-") else piece for piece in cut]


@pytest.mark.parametrize(("run", "folder"), [("r-1", "r-1"), ("a/b:c d", "a-b-c-d"), ("../..", "-")])
def test_the_document_as_arguments(project, tmp_path, run, folder):
    project.write("app.py", STEPS)
    store = tmp_path / "store"
    steps = [document(store, "{run}", "load", parameters={"rows": 2})]
    done = project.python("-m", "longshore.entrypoint", "--run", run, "--step", *pieces(steps))
    assert done.returncode == 0, done.stderr
    assert json.loads((store / folder / "load/output/data.json").read_text()) == [0, 1]


@pytest.mark.parametrize("arguments", [["--run"], ["--run", "r", "--step", "x"], ["--run", "..", "--step", "eJw"]])
def test_arguments_that_cannot_be_used(project, arguments):
    done = project.python("-m", "longshore.entrypoint", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
