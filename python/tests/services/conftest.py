"""Checks by the orchestrators' own Python packages. `scripts/services` runs them, each with its packages."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Where `scripts/services` has built the programs.
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"

# Without `scripts/services` the packages are not there.
collect_ignore_glob = [] if "LONGSHORE_SERVICES" in os.environ else ["test_*.py"]


class Documents:
    """What one of the example programs makes of a pipeline specification."""

    def __init__(self, program: str):
        self.program = BUILT / "examples" / program

    def __call__(self, spec: dict, config: dict[str, str]) -> dict:
        given = json.dumps({"spec": spec, "config": config, "image": "gcr.io/p/digits@sha256:" + "0" * 64})
        done = subprocess.run([self.program], input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def built() -> Path:
    """Where the programs are."""
    return BUILT


@pytest.fixture
def documents() -> type[Documents]:
    return Documents


@pytest.fixture
def digits() -> dict:
    """A pipeline with fan-out and fan-in, resources and retries."""
    data = {"data": {"step": "load_data", "output": "output"}}
    resources = {"cpu": 1.5, "memory": "1.5GiB", "gpu": 1, "gpu_type": "nvidia-tesla-t4"}
    steps = [
        {"name": "load_data", "outputs": ["output"], "parameters": {"rows": 100}},
        {"name": "train", "outputs": ["output"], "inputs": data, "retries": 2, "settings": {"resources": resources}},
        {
            "name": "evaluate",
            "outputs": [],
            "inputs": {**data, "model": {"step": "train", "output": "output"}},
        },
    ]
    for step in steps:
        step["source"] = {"module": "digits", "attribute": step["name"]}
    return {
        "version": 2,
        "pipeline": {"name": "digits_pipeline"},
        "source_root": "/src",
        "sdk_version": "0.1.0",
        "python": {"executable": "/usr/bin/python3", "version": "3.11.2"},
        "steps": steps,
    }
