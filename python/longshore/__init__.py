"""longshore: a Python pipeline becomes a container image and runs in it.

>>> from longshore import pipeline, step
>>> from longshore.config import DockerSettings

`step` marks the functions that run in containers, `pipeline` the function that connects them. Calling the
pipeline builds the image, pushes it, runs every step in it on the active stack, and returns a `Run`.

This package is imported in every step's container, so importing it stays cheap: what only one task needs
(`json`, `pickle`, `subprocess`, …) is imported by that task.
"""

from __future__ import annotations

from longshore._report import install as _install_report
from longshore.errors import (
    ArtifactError,
    BinaryNotFound,
    LongshoreError,
    RunFailed,
    RunInterrupted,
    RunKilled,
    UsageError,
)
from longshore.pipelines import Pipeline, Schedule, pipeline
from longshore.runs import Artifact, Build, Run
from longshore.steps import Step, step
from longshore.version import __version__

__all__ = [
    "Artifact",
    "ArtifactError",
    "BinaryNotFound",
    "Build",
    "LongshoreError",
    "Pipeline",
    "Run",
    "RunFailed",
    "RunInterrupted",
    "RunKilled",
    "Schedule",
    "Step",
    "UsageError",
    "__version__",
    "pipeline",
    "step",
]

_install_report()
