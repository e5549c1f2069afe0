"""The pipeline spec: one golden document, and what cannot be put into an image."""

import json
import re
import sys
from pathlib import Path

import pytest

import longshore

TRAIN = """\
from __future__ import annotations
from typing import TYPE_CHECKING, Annotated
from longshore import pipeline, step
from longshore.config import DockerSettings, ResourceSettings
if TYPE_CHECKING:
    import pandas as pd

@step
def load() -> pd.DataFrame: ...

@step(
    settings={
        "docker": DockerSettings(environment={"OMP_NUM_THREADS": "4"}),
        "resources": ResourceSettings(cpu=4, memory="8GiB"),
    },
    retries=2,
    timeout=3600,
    cache=True,
)
def train(data: pd.DataFrame, depth: int = 3) -> Annotated[object, "model"]: ...

@step(name="check")
def evaluate(model: object, data: pd.DataFrame) -> None: ...

@pipeline(settings={"docker": DockerSettings(requirements=["pandas==2.2.3", "scikit-learn==1.5.2"])})
def my_pipeline(depth: int = 3) -> None:
    data = load()
    evaluate(train(data, depth=depth), data)
"""

PRINT = "import json; print(json.dumps(my_pipeline.spec(depth=(4, 2))))\n"


def test_the_golden_spec(project):
    project.write("train.py", TRAIN + PRINT)
    done = project.python("train.py")
    assert json.loads(done.stdout) == {
        "version": 2,
        "pipeline": {"name": "my_pipeline"},
        "source_root": str(project.folder),
        "python": {"executable": sys.executable, "version": "{}.{}.{}".format(*sys.version_info)},
        "sdk_version": longshore.__version__,
        "settings": {"docker": {"requirements": ["pandas==2.2.3", "scikit-learn==1.5.2"]}},
        "steps": [
            {
                "name": "load",
                "source": {"module": "train", "attribute": "load"},
                "inputs": {},
                "parameters": {},
                "outputs": ["output"],
                "after": [],
                "retries": 0,
                "timeout": None,
                "cache": False,
                "settings": {},
            },
            {
                "name": "train",
                "source": {"module": "train", "attribute": "train"},
                "inputs": {"data": {"step": "load", "output": "output"}},
                "parameters": {"depth": {"$tuple": [4, 2]}},
                "outputs": ["model"],
                "after": [],
                "retries": 2,
                "timeout": 3600,
                "cache": True,
                "settings": {
                    "docker": {"environment": {"OMP_NUM_THREADS": "4"}},
                    "resources": {"cpu": 4, "memory": "8GiB"},
                },
            },
            {
                "name": "check",
                "source": {"module": "train", "attribute": "evaluate"},
                "inputs": {"model": {"step": "train", "output": "model"}, "data": {"step": "load", "output": "output"}},
                "parameters": {},
                "outputs": [],
                "after": [],
                "retries": 0,
                "timeout": None,
                "cache": False,
                "settings": {},
            },
        ],
    }


def test_the_documented_spec_has_the_fields_of_the_real_one(project):
    """The example of the docs is what the golden test's pipeline would give, field for field."""
    text = (Path(__file__).parents[2] / "docs" / "pipeline-spec.md").read_text()
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    documented = next(example for example in examples if "source_root" in example)
    project.write("train.py", TRAIN)
    spec = project.spec("train", "my_pipeline")
    assert list(documented) == list(spec)
    assert documented["settings"] == spec["settings"]
    assert documented["steps"] == spec["steps"][:2]


def test_a_module_of_a_package(project):
    project.write("app/__init__.py", "")
    project.write("app/steps/__init__.py", "from longshore import step\n@step\ndef one() -> int: ...\n")
    project.write(
        "app/pipes.py",
        "from longshore import pipeline\nfrom app.steps import one\n@pipeline\ndef p():\n    one()\n"
        "if __name__ == '__main__':\n    import json; print(json.dumps(p.spec()))\n",
    )
    project.write("run.py", "from app.pipes import p\nimport json; print(json.dumps(p.spec()))\n")
    for arguments in (["run.py"], ["-m", "app.pipes"]):
        done = project.python(*arguments)
        spec = json.loads(done.stdout)
        assert spec["source_root"] == str(project.folder)
        assert spec["steps"][0]["source"] == {"module": "app.steps", "attribute": "one"}


def test_a_step_in_a_package_that_is_run_as_a_module(project):
    project.write("app/__init__.py", "")
    project.write("app/train.py", TRAIN + PRINT)
    spec = json.loads(project.python("-m", "app.train").stdout)
    assert spec["source_root"] == str(project.folder)
    assert spec["steps"][0]["source"] == {"module": "app.train", "attribute": "load"}


def test_a_script_in_another_folder_and_behind_a_link(project):
    project.write("code/train.py", TRAIN + PRINT)
    (project.folder / "start.py").symlink_to("code/train.py")
    for path in ("code/train.py", "start.py"):
        spec = json.loads(project.python(path).stdout)
        assert spec["source_root"] == str(project.folder / "code")
        assert spec["steps"][0]["source"]["module"] == "train"


def test_steps_under_another_name(project):
    project.write(
        "train.py",
        "from longshore import pipeline, step\ndef f() -> int: ...\ng = step(f)\n@pipeline\ndef p():\n    g()\n",
    )
    assert project.spec("train", "p")["steps"][0]["source"] == {"module": "train", "attribute": "g"}


def refused(project, *arguments: str) -> str:
    done = project.python(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[0]


def test_a_script_whose_name_is_no_module(project):
    project.write("my-train.py", TRAIN + PRINT)
    assert refused(project, "my-train.py") == (
        f"error: pipeline `my_pipeline` is defined in {project.folder}/my-train.py, which cannot be imported: "
        "`my-train` is not a Python name; rename the file, with letters, digits and `_` only"
    )


def test_an_interactive_session(project):
    code = "from longshore import pipeline, step\n@step\ndef s(): ...\n@pipeline\ndef p():\n    s()\np.spec()"
    assert refused(project, "-c", code) == (
        "error: pipeline `p` is defined in an interactive session or a notebook, which cannot be put into an image; "
        "define it in a file and import it"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def make():\n    @step\n    def s(): ...\n    return s\ns = make()\n",
            "is defined inside a function, where its container cannot find it; define it at the top level of a module",
        ),
        (
            "def f(): ...\nkept = [step(f)]\ns = lambda: kept[0]()\n",
            "is not found in the module `__main__`; give it a name at the top level of the module that defines it",
        ),
    ],
)
def test_steps_that_a_container_cannot_find(project, code, message):
    project.write(
        "train.py",
        f"from longshore import pipeline, step\n{code}@pipeline\ndef p():\n    s()\np.spec()\n",
    )
    assert refused(project, "train.py").endswith(message)


def test_a_step_from_outside_of_the_source_root(project):
    project.write("lib/elsewhere.py", "from longshore import step\n@step\ndef s(): ...\n")
    project.write(
        "app/train.py",
        "import sys; sys.path.append('lib')\nfrom longshore import pipeline\nfrom elsewhere import s\n"
        "@pipeline\ndef p():\n    s()\np.spec()\n",
    )
    assert refused(project, "app/train.py") == (
        f"error: step `s` is defined in the module `elsewhere` of the folder {project.folder}/lib, but the image gets "
        f"the code of {project.folder}/app, where the pipeline is defined; move one to the other"
    )


def test_a_step_from_an_installed_package(project):
    # A site-packages folder like that of `pip install --user`.
    version = "{}.{}".format(*sys.version_info)
    project.environment["PYTHONUSERBASE"] = str(project.folder / "user")
    site = f"user/lib/python{version}/site-packages"
    project.write(f"{site}/shared_steps.py", "from longshore import step\n@step\ndef s(): ...\n")
    project.environment["PYTHONPATH"] += f":{project.folder}/{site}"
    project.write(
        "train.py", "from longshore import pipeline\nfrom shared_steps import s\n@pipeline\ndef p():\n    s()\n"
    )
    assert project.spec("train", "p")["steps"][0]["source"]["module"] == "shared_steps"


def test_a_missing_requirements_file(project):
    project.write("train.py", TRAIN.replace('["pandas==2.2.3", "scikit-learn==1.5.2"]', '"requirements.txt"') + PRINT)
    assert refused(project, "train.py").startswith(
        f"error: DockerSettings: `requirements` names the file {project.folder}/requirements.txt, which does not exist"
    )
    project.write("requirements.txt", "pandas\n")
    spec = json.loads(project.python("train.py").stdout)
    assert spec["settings"]["docker"]["requirements"] == f"{project.folder}/requirements.txt"
