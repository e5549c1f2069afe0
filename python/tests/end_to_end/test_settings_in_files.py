"""Settings in the project's files and on the command line, and several images that are built at once."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any, Dict

from .machine import PROGRAM

if TYPE_CHECKING:
    from .machine import Machine, Outcome

PIPELINE = """
import os
from longshore import pipeline, step
from longshore.config import DockerSettings

@step{load}
def load() -> str:
    return os.environ.get("COLOR", "none") + " " + os.environ.get("SHAPE", "none")

@step{fit}
def fit(what: str) -> str:
    import six
    return what + ", " + os.environ.get("COLOR", "none") + " " + six.__version__

@pipeline{pipeline}
def training():
    fit(load())

if __name__ == "__main__":
    run = training()
    print("result:", run.load("load"), "|", run.load("fit"))
"""


def write(machine: Machine, load: str = "", fit: str = "", pipeline: str = "") -> None:
    def settings(docker: str) -> str:
        return f'(settings={{"docker": DockerSettings({docker})}})' if docker else ""

    machine.write("train.py", PIPELINE.format(load=settings(load), fit=settings(fit), pipeline=settings(pipeline)))


def config(machine: Machine, image: str) -> Dict[str, Any]:
    inspected = json.loads(machine.longshore("image", "inspect", image, "-o", "json").done().stdout)
    found: Dict[str, Any] = inspected["config"]["config"]
    return found


def built(machine: Machine, *options: str, **environment: str) -> str:
    """Builds an image of the project, and gives its name by digest."""
    done = machine.longshore("build", ".", "-o", "json", *options, **environment).done()
    return str(json.loads(done.stdout)["reference"])


def result(outcome: Outcome) -> str:
    found = re.search(r"^result: (.*)$", outcome.stdout, re.MULTILINE)
    assert found is not None, outcome
    return found[1]


def test_two_images_are_built_at_once_from_a_files_settings(machine: Machine) -> None:
    write(machine)
    machine.write(
        "longshore.toml",
        """
        [docker]
        requirements = ["six==1.15.0", "idna==3.7"]
        environment = {COLOR = "red"}

        [pipeline.training.docker]
        environment.SHAPE = "round"

        [pipeline.training.step.fit.docker]
        environment.COLOR = "blue"

        [pipeline.another.step.nothing.docker]
        user = "nobody"
        """,
    )
    outcome = machine.python("train.py").done()
    assert result(outcome) == "red round | red round, blue 1.15.0"
    # Each line says which image it is about, and each image has its own name and digest.
    lines = [line for line in outcome.stderr.splitlines() if re.match(r"(load|fit ) \| ", line)]
    assert len(re.findall(r"^(?:load|fit ) \| (?:image)? +sha256:", outcome.stderr, re.MULTILINE)) == 2, outcome
    assert re.search(r"^load \| training → localhost:5000/training:", outcome.stderr, re.MULTILINE), outcome
    assert re.search(r"^fit  \| training → localhost:5000/training-fit:", outcome.stderr, re.MULTILINE), outcome
    rows = [line for line in lines if re.search("  (spliced|compiled|packed|already there)", line)]
    assert max(map(len, rows)) <= 80, rows
    # What both have in common is fetched and made once.
    assert len([line for line in lines if "fetched" in line and "six" in line]) <= 1, outcome
    assert len([line for line in lines if " spliced" in line and "six" in line]) == 1, outcome
    assert len([line for line in lines if " compiled" in line and "six" in line]) == 1, outcome

    again = machine.python("train.py").done()
    assert again.layers("spliced") == again.layers("compiled") == again.layers("packed") == []


def test_code_wins_over_the_file_and_the_command_line_over_both(machine: Machine) -> None:
    write(machine, load='environment={"COLOR": "code"}', pipeline='requirements=["six==1.16.0"]')
    machine.write(
        "pyproject.toml",
        """
        [project]
        name = "mine"

        [tool.longshore.docker]
        requirements = ["does-not-exist==1"]
        environment = {COLOR = "file", SHAPE = "file"}
        """,
    )
    assert result(machine.python("train.py").done()) == "code file | code file, file 1.16.0"

    given = 'docker.environment.SHAPE=given\nstep.load.docker.environment={"COLOR": "step"}'
    given += '\ndocker.requirements=["six==1.15.0"]'
    outcome = machine.python("train.py", LONGSHORE_SET=given).done()
    assert result(outcome) == "step given | step given, file 1.15.0"

    machine.write("other.yaml", "docker:\n  environment: {COLOR: other}\n")
    outcome = machine.python("train.py", LONGSHORE_CONFIG="other.yaml").done()
    assert result(outcome) == "code none | code none, other 1.16.0"


def test_mistakes_name_the_file_and_the_line(machine: Machine) -> None:
    write(machine, pipeline='requirements=["six==1.16.0"]')
    file = machine.write("longshore.toml", "[docker]\nuser = 'me'\nrequirments = []\n")
    said = machine.python("train.py").refused(2)
    assert f"{file}:3: [docker] DockerSettings has no field `requirments`; did you mean `requirements`?" in said
    file.write_text("[docker]\nuser = 1000\n")
    said = machine.longshore("build", ".", "--tag", "mine").refused(2)
    assert f"{file}:2: [docker] DockerSettings: `user` must be text, not 1000; put it in quotes" in said
    file.write_text("[pipeline.training.step.fitt.docker]\nuser = 'me'\n")
    said = machine.python("train.py").refused(2)
    assert f"{file}:1: the pipeline training has no step `fitt`; did you mean `fit`?" in said
    file.unlink()
    said = machine.python("train.py", LONGSHORE_SET="docker.usr=me").refused(2)
    assert "DockerSettings has no field `usr`; did you mean `user`?" in said
    said = machine.python("train.py", LONGSHORE_CONFIG="nowhere.toml").refused(2)
    assert "nowhere.toml" in said
    said = machine.python("train.py", LONGSHORE_SET="docker.skip_build=true").refused(2)
    assert "`skip_build` uses `parent_image` as it is, and there is none" in said


def test_build_takes_settings_from_the_file_and_options_win(machine: Machine) -> None:
    machine.write("main.py", "print('hello')\n")
    machine.write("src/empty.py", "")
    machine.write("requirements.txt", "six==1.16.0\n")
    machine.write(
        "longshore.toml",
        """
        [docker]
        requirements = "requirements.txt"
        user = "1000"
        target_repository = "from-file"
        image_tag = "v1"
        labels = {team = "file", maintainer = "us"}
        runtime_environment = {MODE = "file"}
        """,
    )
    # The file is that of the folder around the code, and so are its paths.
    image = json.loads(machine.longshore("build", "src", "-o", "json").done().stdout)
    assert image["image"] == "localhost:5000/from-file:v1"
    process = config(machine, "from-file:v1")
    assert process["User"] == "1000"
    assert process["Labels"] == {"team": "file", "maintainer": "us"}
    assert "MODE=file" in process["Env"]
    packages = machine.longshore("image", "run", "from-file:v1", "--", "python", "-c", "import six; print(six)").done()
    assert "/opt/venv" in packages.stdout

    machine.longshore(
        "build", "--tag", "mine:2", "--label", "team=given", "--user", "0", "--runtime-env", "MODE=given", "-e", "A=b=c"
    ).done()
    process = config(machine, "mine:2")
    assert process["User"] == "0"
    assert process["Labels"] == {"team": "given", "maintainer": "us"}
    assert {"MODE=given", "A=b=c"} <= set(process["Env"])


def named(machine: Machine) -> int:
    """How many images there are of the name that the step's own would have."""
    return len([image for image in machine.images() if image["repository"].endswith("/training-load")])


def test_an_image_is_used_as_it_is(machine: Machine) -> None:
    write(machine, load="skip_build=True, parent_image='localhost:5000/ready:1'", fit="requirements=['six==1.16.0']")
    said = machine.python("train.py").refused(1)
    assert "localhost:5000/ready" in said
    ready = built(machine, "--tag", "ready:1", "-e", "COLOR=ready")
    before = named(machine)
    outcome = machine.python("train.py").done()
    assert result(outcome).startswith("ready none | ")
    assert "load | training uses localhost:5000/ready:1" in outcome.stderr
    digest = ready.split("@")[1]
    assert re.search(rf"load \| +image +{digest}|load \| image +{digest}", outcome.stderr), outcome
    assert named(machine) == before


def test_the_failure_of_one_image_stops_the_others(machine: Machine) -> None:
    write(machine, load="requirements=['longshore-has-no-such-package==9']", fit="requirements=['six==1.16.0']")
    said = machine.python("train.py").refused(1)
    assert "longshore-has-no-such-package" in said
    assert re.search(r"^load \| failed", said, re.MULTILINE), said
    assert "result" not in said
    # Nothing half-made is left behind: the next build is right.
    write(machine, fit="requirements=['six==1.16.0']")
    assert result(machine.python("train.py").done()).endswith("1.16.0")


def test_ctrl_c_ends_all_images(machine: Machine) -> None:
    write(machine, load="environment={'N': '1'}", fit="requirements=['numpy==1.26.4']")
    spec = machine.run(
        "python3",
        "-c",
        "import json, train; print(json.dumps(train.training.spec()))",
        PYTHONPATH=machine.environment["PYTHONPATH"],
    ).done()
    file = machine.write("spec.json", spec.stdout)
    process = machine.start(str(PROGRAM), "run", "--spec", str(file))
    assert process.stderr is not None
    seen = ""
    end = time.monotonic() + 120
    while not re.search(r"\| (parent|lock|layer)", seen):
        assert time.monotonic() < end, seen
        line = process.stderr.readline()
        assert line, seen
        seen += line
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 1, seen + rest
    assert "interrupted" in rest, seen + rest
    assert "panicked" not in rest


def test_the_options_and_the_fields_are_the_same(machine: Machine) -> None:
    fields = json.loads(machine.longshore("settings", "json").done().stdout)
    said = machine.longshore("build", "--help").done().stdout
    for field in fields:
        assert f"--{field['name'].replace('_', '-')}" in said, field
