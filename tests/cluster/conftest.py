"""One control plane for all tests, and a namespace with a stack for each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from control_plane import LONGSHORE, ROOT, ControlPlane, control_plane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIPELINES = Path(__file__).parent / "pipelines"


class Outcome:
    """How a process ended."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    def done(self) -> Outcome:
        """The same, if it succeeded."""
        assert self.code == 0, self
        return self


class Project:
    """A namespace, and a stack of the same name that runs pipelines there."""

    def __init__(self, plane: ControlPlane, environment: dict[str, str], namespace: str) -> None:
        self.plane, self.namespace = plane, namespace
        self.environment = {**environment, "LONGSHORE_STACK": namespace}
        if namespace not in self.kubectl("get", "namespaces", "-o", "name"):
            self.kubectl("create", "namespace", namespace)

    def register(self, *options: str, registry: str = "registry", store: str = "store") -> None:
        """Makes the stack, with these options of the orchestrator."""
        options = ("--flavor=kubernetes", "--local=true", f"--namespace={self.namespace}", *options)
        self.longshore("orchestrator", "register", self.namespace, *options).done()
        self.longshore("stack", "register", self.namespace, "-o", self.namespace, "-c", registry, "-a", store).done()

    def run(self, *command: str, **environment: str) -> Outcome:
        process = self.start(*command, **environment)
        stdout, stderr = process.communicate(timeout=400)
        return Outcome(process.returncode, stdout, stderr)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env={**self.environment, **environment},
            cwd=PIPELINES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def longshore(self, *arguments: str, **environment: str) -> Outcome:
        return self.run(str(LONGSHORE), *arguments, **environment)

    def pipeline(self, *arguments: str, **environment: str) -> Outcome:
        return self.run(sys.executable, "scenarios.py", *arguments, **environment)

    def begin(self, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        """Starts a pipeline and lets it run. The run, as longshore names it, is returned too."""
        process = self.start(sys.executable, "scenarios.py", *arguments)
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if found := re.match(r"run +([0-9a-f]{32})", line):
                return process, found.group(1)
        raise AssertionError(f"it was not submitted; exit code {process.wait()}\n{seen}")

    def kubectl(self, *arguments: str) -> str:
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def objects(self, kind: str, selector: str = "app.kubernetes.io/managed-by=longshore") -> list[dict[str, Any]]:
        """Objects of a kind in the namespace."""
        listed = json.loads(self.kubectl("get", kind, "--selector", selector, "-o", "json"))
        items: list[dict[str, Any]] = listed["items"]
        return items

    def names(
        self, kinds: str = "jobs,pods,configmaps,secrets,cronjobs,serviceaccounts,roles,rolebindings"
    ) -> list[str]:
        """The names of longshore's objects in the namespace."""
        objects = self.objects(kinds)
        return sorted(f"{one['kind']}/{one['metadata']['name']}" for one in objects)

    def described(self, run: str) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self.longshore("run", "describe", run, "-o", "json").done().stdout)
        return described

    def reason(self, run: str, step: str | None) -> str:
        """Why a step, or the run, is as far as it is."""
        reasons = [one["reason"] for one in self.described(run)["reasons"] if one["step"] == step]
        return reasons[0] if reasons else ""

    def in_cluster(self, run: str) -> str:
        """The name of a run in the cluster."""
        return str(self.described(run)["elsewhere"]["run"])

    def last(self) -> str:
        """The run of the namespace that began last."""
        runs = json.loads(self.longshore("run", "list", "-o", "json").done().stdout)
        return str(next(run["id"] for run in runs if run["stack"] == self.namespace))

    def is_gone(self, run: str) -> None:
        """Deletes a run's Job, and waits until nothing of longshore's is left in the namespace."""
        self.kubectl("delete", "job", self.in_cluster(run))
        self.until("nothing is left", lambda: not self.names(), show=self.names)

    def until(
        self, what: str, holds: Callable[[], object], seconds: float = 120, show: Callable[[], object] = lambda: ""
    ) -> None:
        """Waits until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"never: {what}; {show()}"
            time.sleep(0.3)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, dict[str, str]]]:
    """The control plane, and what is in the environment of whoever uses it."""
    with control_plane() as (plane, more):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LONGSHORE_")}
        home = tmp_path_factory.mktemp("home")
        environment.update(more, LONGSHORE_HOME=str(home), PYTHONPATH=str(ROOT / "python"))
        first = Project(plane, environment, "default")
        registry = ["--flavor=default", f"--uri={more['LONGSHORE_CLUSTER_REGISTRY']}"]
        first.longshore("container-registry", "register", "registry", *registry).done()
        store = ["--flavor=s3", "--uri=s3://runs/artifacts", f"--endpoint-url={more['LONGSHORE_CLUSTER_ENDPOINT']}"]
        first.longshore("artifact-store", "register", "store", *store).done()
        yield plane, environment


@pytest.fixture
def project(cluster: tuple[ControlPlane, dict[str, str]], request: pytest.FixtureRequest) -> Iterator[Project]:
    """A namespace with the name of the test, and a stack for it."""
    plane, environment = cluster
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    made = Project(plane, environment, name)
    yield made
    made.kubectl("delete", "namespace", name, "--wait=false")
