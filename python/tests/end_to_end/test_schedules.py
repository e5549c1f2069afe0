"""Pipelines that run by a schedule: listed and deleted."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from .cloud_stores import Amazon
from .docker_registry import DockerRegistry

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Iterator

    from .machine import Machine

PIPELINE = """
from longshore import pipeline, step

@step
def total(rows: int) -> int:
    return sum(range(rows))

@pipeline
def adding(rows: int = 4):
    total(rows)

if __name__ == "__main__":
    adding.main()
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    server = DockerRegistry(tmp_path / "registry", password=None)
    yield server
    server.stop()


def test_a_schedule_in_a_bucket_is_listed_and_deleted(machine: Machine, registry: DockerRegistry) -> None:
    with ExitStack() as until:
        scheduled_and_deleted(machine, registry, Amazon(until))


def scheduled_and_deleted(machine: Machine, registry: DockerRegistry, amazon: Amazon) -> None:
    longshore = machine.longshore
    machine.write("adding.py", PIPELINE)
    machine.write("nightly.py", "from adding import adding\nadding.scheduled('0 3 * * *')()\n")
    values = ["--aws_access_key_id", "id", "--aws_secret_access_key", "secret", "--endpoint_url", amazon.endpoint]
    connector = ["--type", "aws", "--auth-method", "secret-key", "--region", "us-east-1"]
    longshore("service-connector", "register", "nightly", *connector, *values).done()
    longshore("container-registry", "register", "nightly", "--flavor", "default", "--uri", f"{registry.host}/ml").done()
    store = ["--flavor", "s3", "--uri", amazon.uri("nightly"), *amazon.options]
    longshore("artifact-store", "register", "nightly", *store).done()
    airflow = ["--flavor", "airflow", "--dags", "s3://team/dags", "--local=true", "--connector", "nightly"]
    longshore("orchestrator", "register", "mwaa", *airflow).done()
    longshore("stack", "register", "nightly", "-o", "mwaa", "-c", "nightly", "-a", "nightly").done()

    # Submitted again, the file is replaced, and so is the schedule that is remembered.
    for _ in range(2):
        machine.python("nightly.py", LONGSHORE_STACK="nightly").done()
    file = amazon.read("dags/adding.py").decode()
    assert 'schedule="0 3 * * *"' in file
    [listed] = json.loads(longshore("schedule", "list", "-o", "json").done().stdout)
    assert (listed["pipeline"], listed["orchestrator"], listed["phase"]) == ("adding", "mwaa", "running")
    assert "s3://team/dags/adding.py by its own rules" in listed["says"]
    assert listed["says"] in longshore("schedule", "list").done().stdout
    assert "is a schedule, which has no end" in longshore("run", "wait", listed["run"]).refused(2)
    longshore("schedule", "delete", "adding").done()
    assert amazon.names("dags/") == []
    assert json.loads(longshore("schedule", "list", "-o", "json").done().stdout) == []
    assert "is no schedule" in longshore("schedule", "delete", listed["run"]).refused(2)
