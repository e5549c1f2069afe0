"""Steps side by side on this machine: in containers, and in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest

from .machine import PROGRAM, Machine, Outcome

# Where they meet, steps leave files that the others see: the run's folder, or one that is named.
MEETING = """
import glob, os, time
from longshore import pipeline, step
from longshore.config import DockerSettings, ResourceSettings

def place(folder):
    [found] = [folder] if folder else glob.glob("/longshore/artifacts/*")
    return found

def leave(folder, name):
    open(os.path.join(place(folder), name), "x").close()

def wait_for(folder, name, seconds=120):
    path = os.path.join(place(folder), name)
    for _ in range(seconds * 100):
        if os.path.exists(path):
            return
        time.sleep(0.01)
    raise TimeoutError(f"{name} never came")
"""

DIAMOND = (
    MEETING
    + """
@step
def load(rows: int) -> list:
    return list(range(rows))

def meet(mine, other, folder):
    # What a step writes outside of its outputs no other step sees, in a container.
    if not folder:
        open("/opt/mine", "x").write(mine)
    leave(folder, mine + ".here")
    wait_for(folder, other + ".here")
    if not folder:
        assert open("/opt/mine").read() == mine

@step
def left(data, folder: str) -> int:
    meet("left", "right", folder)
    return sum(data)

@step
def right(data, folder: str) -> int:
    meet("right", "left", folder)
    return max(data)

@step
def join(a, b) -> int:
    return a + b

@pipeline
def diamond(rows: int = 4, folder: str = ""):
    data = load(rows)
    join(left(data, folder), right(data, folder))

if __name__ == "__main__":
    print("result", diamond.main().load("join"))
"""
)

FAILING = (
    MEETING
    + """
@step(timeout=1, retries=1)
def slow(folder: str) -> int:
    try:
        leave(folder, "slow-began")
    except FileExistsError:
        print("again")
    time.sleep(600)
    return 1

@step
def steady(folder: str) -> int:
    wait_for(folder, "go-on")
    print("went on")
    return 2

@step
def join(a, b) -> int:
    return a + b

@step
def last(total) -> None:
    pass

@pipeline
def failing(folder: str = ""):
    last(join(slow(folder), steady(folder)))

if __name__ == "__main__":
    failing.main()
"""
)

LIMITED = (
    MEETING
    + """
SETTINGS = {"resources": ResourceSettings(%s)}

def alone(folder):
    # Fails if another holds it.
    leave(folder, "held")
    time.sleep(0.2)
    os.unlink(os.path.join(place(folder), "held"))

@step(settings=SETTINGS)
def one(folder: str) -> None:
    alone(folder)

@step(settings=SETTINGS)
def two(folder: str) -> None:
    alone(folder)

@step(settings=SETTINGS)
def three(folder: str) -> None:
    alone(folder)

@pipeline
def limited(folder: str = ""):
    one(folder); two(folder); three(folder)

if __name__ == "__main__":
    limited.main()
"""
)

STUBBORN = (
    MEETING
    + """
import signal, subprocess

@step
def polite(folder: str) -> None:
    leave(folder, "polite")
    time.sleep(600)

@step
def stubborn(folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    leave(folder, "stubborn")
    child.wait()

@step
def later() -> None:
    pass

@pipeline
def unfinished(folder: str = ""):
    polite(folder)
    stubborn(folder)
    later.after(polite, stubborn)()
"""
)

WIDE = {"LONGSHORE_MAX_PARALLELISM": "4"}


def newest(machine: Machine) -> dict:
    found: List[dict] = json.loads(machine.longshore("run", "list", "-n", "1", "-o", "json").done().stdout)
    return found[0] if found else {"steps": []}


def statuses(run: dict) -> Dict[str, str]:
    return {step["name"]: step["status"] for step in run["steps"]}


def when(step: dict, field: str) -> Tuple[str, float]:
    """When a step began or ended, as something to compare: times are written with as many digits as they need."""
    text: str = step[field]
    return text[:19], float("0" + text[19:-1])


def spec(machine: Machine, module: str, name: str, *arguments: str) -> Path:
    code = f"import json, {module}; print(json.dumps({module}.{name}.spec({', '.join(arguments)})))"
    return machine.write("spec.json", machine.python("-c", code).done().stdout)


def until(process: "subprocess.Popen[str]", come: Callable[[], bool], seconds: float = 180) -> None:
    """Waits for something while a process goes on."""
    end = time.monotonic() + seconds
    while not come():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def of_run(run: str) -> List[int]:
    """The processes that belong to a run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if run.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_independent_steps_run_at_the_same_time(machine: Machine) -> None:
    machine.write("diamond.py", DIAMOND)
    outcome = machine.python("diamond.py", **WIDE).done()
    assert "result 9\n" in outcome.stdout
    run = newest(machine)
    assert list(statuses(run)) == ["load", "left", "right", "join"]
    assert set(statuses(run).values()) == {"succeeded"}
    began = {step["name"]: when(step, "started") for step in run["steps"]}
    ended = {step["name"]: when(step, "finished") for step in run["steps"]}
    assert max(began["left"], began["right"]) < min(ended["left"], ended["right"])
    assert max(ended["left"], ended["right"]) <= began["join"]
    drawn = machine.longshore("run", "graph", run["id"]).done().stdout
    assert re.search(r"^│ ● left  succeeded, .*\n● │ right  succeeded, ", drawn, re.MULTILINE), drawn


def test_steps_of_several_users_share_the_folder_of_the_run(machine: Machine) -> None:
    text = DIAMOND.replace("@step\ndef left", '@step(settings={"docker": DockerSettings(user="1234")})\ndef left')
    # A container's own disk is not that user's.
    machine.write("diamond.py", text.replace('"/opt/mine"', '"/tmp/mine"'))
    outcome = machine.python("diamond.py", **WIDE).done()
    assert "result 9\n" in outcome.stdout


def test_processes_of_their_own_without_containers(machine: Machine, tmp_path: Path) -> None:
    machine.write("diamond.py", DIAMOND)
    machine.longshore("orchestrator", "register", "wide", "--flavor", "local", "--max-parallelism", "2").done()
    machine.longshore("stack", "register", "wide", "-o", "wide").done()
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    outcome = machine.python("diamond.py", "--folder", str(meeting), LONGSHORE_STACK="wide").done()
    assert "result 9\n" in outcome.stdout
    assert re.search(r"^run +succeeded: 4 steps done, ", outcome.stderr, re.MULTILINE), outcome
    assert set(statuses(newest(machine)).values()) == {"succeeded"}
    text = machine.longshore("orchestrator", "update", "wide", "--max-parallelism", "0").refused(2)
    assert "--max_parallelism: `0` is not a whole number above zero" in text


def test_after_a_failure_those_that_run_go_on_and_no_other_begins(machine: Machine) -> None:
    machine.write("failing.py", FAILING)
    process = machine.start(sys.executable, "failing.py", **WIDE)
    until(process, lambda: statuses(newest(machine)) == {"slow": "failed", "steady": "running"})
    (machine.home / "data/artifacts" / newest(machine)["id"] / "go-on").touch()
    stdout, stderr = process.communicate(timeout=120)
    outcome = Outcome(process.returncode, stdout, stderr)
    text = outcome.refused(1)
    assert "slow     | step slow is tried again, once" in text
    assert "slow     | step slow failed: it took longer than its timeout of 1 s" in text
    assert "steady   | went on\n" in outcome.stdout
    assert re.search(r"^run +failed: 1 step done, 2 not run, ", text, re.MULTILINE), text
    assert "         not run: join, last\n" in text
    run = newest(machine)
    assert (run["status"], statuses(run)) == ("failed", {"slow": "failed", "steady": "succeeded"})
    described = machine.longshore("run", "describe", run["id"]).done().stdout
    assert re.search(r"^join +not run +-$", described, re.MULTILINE), described
    drawn = machine.longshore("run", "graph", run["id"]).done().stdout
    assert re.search(r"^● join  not run$", drawn, re.MULTILINE), drawn


@pytest.mark.parametrize(
    ("resources", "environment"),
    [
        ('memory="1TiB"', WIDE),
        ("cpu=1000", WIDE),
        ("", {"LONGSHORE_MAX_PARALLELISM": "1"}),
    ],
)
def test_no_more_at_a_time_than_may(machine: Machine, resources: str, environment: Dict[str, str]) -> None:
    machine.write("limited.py", LIMITED % resources)
    outcome = machine.python("limited.py", **environment).done()
    assert re.search(r"^run +succeeded: 3 steps done, ", outcome.stderr, re.MULTILINE), outcome


def test_lines_of_several_steps_stay_whole(machine: Machine) -> None:
    step = (
        "@step\ndef {0}() -> None:\n    for number in range(3000):\n        print('{0}', number, 'x' * (number % 50))\n"
    )
    machine.write(
        "lines.py",
        "from longshore import pipeline, step\n"
        + step.format("first")
        + step.format("second")
        + "@pipeline\ndef lines():\n    first(); second()\n\nif __name__ == '__main__':\n    lines()\n",
    )
    # Both streams of the program into one pipe, as on a terminal.
    process = subprocess.run(
        [str(PROGRAM), "run", "--spec", str(spec(machine, "lines", "lines"))],
        cwd=machine.project,
        env={**machine.environment, **WIDE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    for name in ("first", "second"):
        found = re.findall(rf"^{name:<8} \| {name} (\d+) (x*)$", process.stdout, re.MULTILINE)
        assert [(int(number), len(x)) for number, x in found] == [(n, n % 50) for n in range(3000)]
    run = newest(machine)
    log = machine.longshore("run", "logs", run["id"], "first").done().stdout
    assert len(log.splitlines()) == 3000


@pytest.mark.parametrize("stack", ["default", "local"])
def test_an_interrupt_ends_every_step(machine: Machine, tmp_path: Path, stack: str) -> None:
    machine.write("unfinished.py", STUBBORN)
    folder = tmp_path / "meeting"
    folder.mkdir()
    file = spec(machine, "unfinished", "unfinished", repr("" if stack == "default" else str(folder)))
    process = machine.start(str(PROGRAM), "run", "--spec", str(file), LONGSHORE_STACK=stack, **WIDE)
    seen = folder if stack == "local" else machine.home / "data/artifacts"
    until(process, lambda: all(list(seen.glob(f"**/{name}")) for name in ("polite", "stubborn")))
    run = newest(machine)
    assert statuses(run) == {"polite": "running", "stubborn": "running"}
    assert len(of_run(run["id"])) >= 2
    process.send_signal(signal.SIGINT)
    until(process, lambda: statuses(newest(machine))["polite"] != "running")
    # The one that heeds no interrupt is killed by the second.
    assert statuses(newest(machine)) == {"polite": "interrupted", "stubborn": "running"}
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, stderr
    run = newest(machine)
    assert (run["status"], statuses(run)) == (
        "interrupted",
        {"polite": "interrupted", "stubborn": "interrupted"},
    )
    assert re.search(r"^run +interrupted: 0 steps done, 1 not run, ", stderr, re.MULTILINE), stderr
    assert of_run(run["id"]) == []


def test_one_process_tells_the_times_of_its_steps(machine: Machine) -> None:
    machine.write(
        "chain.py",
        "import time\nfrom longshore import pipeline, step\n"
        "@step\ndef first() -> int:\n    time.sleep(0.2)\n    return os_pid()\n"
        "@step\ndef second(pid) -> None:\n    assert pid == os_pid(), 'one process'\n    raise ValueError('no')\n"
        "@step\ndef third() -> None: ...\n"
        "def os_pid():\n    import os\n    return os.getpid()\n"
        "@pipeline\ndef chain():\n    second(first())\n    third.after(second)()\n\n"
        "if __name__ == '__main__':\n    chain()\n",
    )
    outcome = machine.python("chain.py", LONGSHORE_STACK="local")
    assert outcome.code == 1
    assert "step second failed: ValueError: no" in outcome.stderr
    run = newest(machine)
    assert statuses(run) == {"first": "succeeded", "second": "failed"}
    first, second = run["steps"]
    assert when(first, "started") < when(first, "finished") <= when(second, "started") <= when(second, "finished")
    assert os.path.isdir(machine.home / "data/artifacts" / run["id"])


def test_orchestrators_elsewhere_have_a_limit_of_their_own(new_machine: Machine) -> None:
    longshore = new_machine.longshore
    longshore("orchestrator", "register", "cluster", "--flavor", "kubernetes").done()
    longshore("artifact-store", "register", "bucket", "--flavor", "gcs", "--uri", "gs://team").done()
    longshore("container-registry", "register", "hub", "--flavor", "github", "--uri", "ghcr.io/o").done()
    longshore("stack", "register", "prod", "-o", "cluster", "-c", "hub", "-a", "bucket").done()
    new_machine.write("diamond.py", DIAMOND)
    text = new_machine.python("diamond.py", LONGSHORE_STACK="prod", **WIDE).refused(2)
    assert "is about steps on this machine, and those of stack `prod` run on cluster" in text
    text = new_machine.python("diamond.py", LONGSHORE_MAX_PARALLELISM="0").refused(2)
    assert "--max-parallelism" in text
