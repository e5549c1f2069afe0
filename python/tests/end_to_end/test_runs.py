"""Runs on this machine: remembered, looked at again, and not done twice."""

import json
import re

from .machine import Machine

PIPELINE = """
from longshore import pipeline, step

@step
def load(rows: int) -> list:
    print("loading", rows)
    return list(range(rows))

@step
def left(data) -> int:
    return sum(data)

@step
def right(data) -> int:
    return max(data)

@step
def join(a, b) -> int:
    return a + b

@step(retries=2)
def flaky(total) -> int:
    # Its container has a disk of its own.
    import os
    tries = len(os.listdir("/tmp"))
    open(f"/tmp/try-{tries}", "w").close()
    if tries < 2:
        raise ValueError(f"try {tries}")
    return total

@pipeline(cache=True)
def diamond(rows: int = 4):
    data = load(rows)
    flaky(join(left(data), right(data)))

if __name__ == "__main__":
    print("result", diamond.main().load("flaky"))
"""


def newest(machine: Machine) -> dict:
    return json.loads(machine.longshore("run", "list", "-n", "1", "-o", "json").done().stdout)[0]


def test_a_run_is_remembered(machine: Machine) -> None:
    machine.write("diamond.py", PIPELINE)
    outcome = machine.python("diamond.py").done()
    assert "result 9\n" in outcome.stdout
    assert "flaky    | step flaky is tried again, up to 2 times" in outcome.stderr
    run = newest(machine)
    assert (run["pipeline"], run["status"]) == ("diamond", "succeeded")
    assert [step["name"] for step in run["steps"]] == ["load", "left", "right", "join", "flaky"]

    described = machine.longshore("run", "describe", run["id"]).done().stdout
    assert "● load\n├─╮\n│ ● left\n● │ right\n├─╯\n● join\n● flaky\n" in described
    assert re.search(r"^flaky +succeeded", described, re.MULTILINE), described
    assert machine.longshore("run", "logs", run["id"], "load").done().stdout == "loading 4\n"
    assert "load  | loading 4\n" in machine.longshore("run", "logs", run["id"]).done().stdout
    mermaid = machine.longshore("run", "graph", run["id"], "--format", "mermaid").done().stdout
    assert mermaid.startswith("flowchart TD\n")
    assert mermaid.count("-->") == 5
    svg = machine.longshore("run", "graph", run["id"], "--format", "svg").done().stdout
    assert svg.count("<rect") == 5

    listed = machine.longshore("run", "list").done().stdout
    short = listed.splitlines()[1].split()[0]
    assert machine.longshore("run", "logs", short, "load").done().stdout == "loading 4\n"
    assert max(len(line) for line in listed.splitlines()) <= 80


def test_steps_that_ran_before_are_not_run_again(machine: Machine) -> None:
    machine.write("diamond.py", PIPELINE)
    machine.python("diamond.py", "--rows", "5").done()
    again = machine.python("diamond.py", "--rows", "5").done()
    assert "result 14\n" in again.stdout
    for name in ("load", "left", "right", "join", "flaky"):
        assert re.search(rf"^{name} +\| step {name} is cached", again.stderr, re.MULTILINE), again
    assert "loading" not in again.stdout
    other = machine.python("diamond.py", "--rows", "6").done()
    assert "loading 6" in other.stdout


def test_build_only(machine: Machine) -> None:
    machine.write("diamond.py", PIPELINE + "\n")
    machine.write("build.py", "from diamond import diamond\nprint(diamond.build(rows=1).images['load'])\n")
    outcome = machine.python("build.py").done()
    assert re.fullmatch(r"localhost:5000/diamond@sha256:[0-9a-f]{64}\n", outcome.stdout), outcome


def test_mistakes_about_runs(machine: Machine) -> None:
    assert "there is no run `ffffffff`" in machine.longshore("run", "describe", "ffffffff").refused(2)
    machine.write("small.py", PIPELINE)
    machine.write("scheduled.py", "from small import diamond\ndiamond.scheduled('0 3 * * *')()\n")
    text = machine.python("scheduled.py").refused(2)
    assert "where nothing runs by itself" in text
    assert "give --spec FILE, or one of: list" in machine.longshore("run").refused(2)


def test_stacks_that_cannot_work_are_refused_when_they_are_registered(new_machine: Machine) -> None:
    longshore = new_machine.longshore
    longshore("orchestrator", "register", "cluster", "--flavor", "kubernetes", "--namespace", "ml").done()
    longshore("artifact-store", "register", "bucket", "--flavor", "s3", "--uri", "s3://team/runs").done()
    longshore("container-registry", "register", "here", "--flavor", "default", "--uri", "localhost:5001").done()
    text = longshore("stack", "register", "a", "-o", "cluster", "-c", "embedded", "-a", "bucket").refused(2)
    assert "cannot reach the embedded registry" in text
    assert "registry serve --listen" in text
    text = longshore("stack", "register", "a", "-o", "cluster", "-c", "here", "-a", "bucket").refused(2)
    assert "localhost:5001 is this machine to this machine only" in text
    longshore("orchestrator", "update", "cluster", "--local=true").done()
    longshore("stack", "register", "a", "-o", "cluster", "-c", "here", "-a", "bucket").done()
    text = longshore("stack", "register", "b", "-o", "cluster", "-c", "here").refused(2)
    assert "--flavor s3|gcs|azure" in text
    assert "`gs://x/y` is not of this flavor" in longshore(
        "artifact-store", "register", "other", "--flavor", "s3", "--uri", "gs://x/y"
    ).refused(2)


def test_a_stack_goes_to_another_machine(new_machine: Machine, tmp_path) -> None:
    longshore = new_machine.longshore
    longshore("orchestrator", "register", "cluster", "--flavor", "kubernetes").done()
    longshore("artifact-store", "register", "bucket", "--flavor", "gcs", "--uri", "gs://team").done()
    longshore("container-registry", "register", "hub", "--flavor", "github", "--uri", "ghcr.io/o").done()
    longshore("stack", "register", "prod", "-o", "cluster", "-c", "hub", "-a", "bucket").done()
    text = longshore("stack", "export", "prod").done().stdout
    file = new_machine.write("prod.yaml", text)
    other = Machine(tmp_path / "other", tmp_path / "project")
    other.longshore("stack", "import", str(file), "--set").done()
    assert other.longshore("stack", "export").done().stdout == text
    file.write_text(text.replace("version: 1", "version: 9"))
    assert "has version 9" in other.longshore("stack", "import", str(file)).refused(2)
