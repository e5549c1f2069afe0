"""The operators of an Airflow DAG file, as Airflow makes and renders them, without Airflow.

`scripts/services airflow` runs such files with Airflow itself, which must start the same containers.
"""

from __future__ import annotations

import sys
import types
from typing import Any
from unittest import mock


class Made:
    """Something of Airflow's or its providers' that was made with these arguments."""

    def __init__(self, *_: Any, **arguments: Any) -> None:
        self.arguments = arguments

    def __enter__(self) -> Made:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __rrshift__(self, before: list[Made]) -> None:
        self.arguments["after"] = before


MODULES = [
    "airflow",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.cncf.kubernetes.secret",
    "airflow.providers.docker.operators.docker",
    "docker.types",
    "kubernetes.client",
    "pendulum",
]


def tasks(file: str, run: str) -> dict[str, dict[str, Any]]:
    """The arguments of each task's operator, with the templates rendered for a run of that ID."""
    stand_ins = {}
    for name in MODULES:
        module = types.ModuleType(name)
        module.__getattr__ = lambda _: Made  # type: ignore[method-assign]
        stand_ins[name] = module
    stand_ins["kubernetes.client"].models = types.SimpleNamespace(  # type: ignore[attr-defined]
        V1ResourceRequirements=Made, V1Toleration=Made, V1LocalObjectReference=Made
    )
    stand_ins["pendulum"].datetime = Made  # type: ignore[attr-defined]
    found: dict[str, Any] = {"__name__": "dag"}
    with mock.patch.dict(sys.modules, stand_ins):
        exec(compile(file, "dag.py", "exec"), found)
    names = {"run_folder": found["run_folder"]}
    names["dag_run"] = types.SimpleNamespace(dag_id=found["dag"].arguments["dag_id"], run_id=run)
    return {name: rendered(task.arguments, names) for name, task in found["tasks"].items()}


def rendered(value: Any, names: dict[str, Any]) -> Any:
    """What Airflow makes of the fields that are templates."""
    from jinja2 import Environment

    if isinstance(value, str):
        return Environment(keep_trailing_newline=True).from_string(value).render(names)
    if isinstance(value, list):
        return [rendered(item, names) for item in value]
    if isinstance(value, dict):
        return {name: rendered(item, names) for name, item in value.items()}
    return value
