"""What the tests share: a project folder of a user, whose scripts run in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import longshore

# Where the tests run in the background, SIGINT is ignored, and would be in every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

PACKAGE_PARENT = str(Path(longshore.__file__).parent.parent)
STAND_IN = Path(__file__).with_name("stand_in.py")


class Project:
    """A user's folder. Runs Python in it, with the package on the path and no inherited longshore variables."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("LONGSHORE_")}
        self.environment["PYTHONPATH"] = PACKAGE_PARENT

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def python(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def spec(self, module: str, pipeline: str) -> dict:
        code = f"import json, {module}; print(json.dumps({module}.{pipeline}.spec()))"
        done = self.python("-c", code)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def step(self, *steps: dict, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Runs the entrypoint on the steps, as a container does."""
        document = self.write("step.json", json.dumps({"version": 2, "run_id": "r", "steps": steps}))
        return self.python("-m", "longshore.entrypoint", LONGSHORE_STEP=str(document), **environment)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def program(project: Project) -> Path:
    """A program in the place of `longshore`, which runs the steps one by one and keeps what it was given."""
    path = project.write("bin/longshore", f"#!{sys.executable}\n{STAND_IN.read_text()}")
    path.chmod(0o755)
    project.environment["LONGSHORE_BIN"] = str(path)
    return path
