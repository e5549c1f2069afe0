"""Measures the way from a pipeline to an orchestrator: one of which nothing is to be built, and a large one."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine
from pipelines import SMALL, large
from process import run, seconds
from registry import Registry
from samples import print_table

if TYPE_CHECKING:
    from collections.abc import Callable

_STORES = {
    "s3": ["--uri", "s3://team/runs", "--region", "us-east-1"],
    "gcs": ["--uri", "gs://team/runs"],
    "azure": ["--uri", "az://team/runs", "--account", "team"],
}
_REGISTRIES = {
    "gcp": "us-central1-docker.pkg.dev/project/images",
    "aws": "123456789012.dkr.ecr.us-east-1.amazonaws.com",
    "azure": "team.azurecr.io",
}
# Each orchestrator with its registry, its store, and its options. Those with the registry `here` are on loopback.
_ORCHESTRATORS = {
    "kubernetes": ("here", "s3", ["--local=true"]),
    "kubeflow": ("here", "s3", ["--local=true"]),
    "airflow": ("here", "s3", ["--local=true"]),
    "vertex": ("gcp", "gcs", ["--project", "project", "--location", "us-central1"]),
    "sagemaker": ("aws", "s3", ["--role", "arn:aws:iam::123456789012:role/runs", "--region", "us-east-1"]),
    "azureml": ("azure", "azure", ["--subscription_id", "s", "--resource_group", "g", "--workspace", "w"]),
}


@dataclass(frozen=True)
class Cost:
    """What a command took, in seconds."""

    wall: float
    cpu: float


def _cost(argv: list[str], env: dict[str, str], cwd: Path) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = seconds(argv, env, cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class Standin:
    """A service of the tests, on loopback, until `stop`."""

    def __init__(self, testkit: str, name: str) -> None:
        self._process = subprocess.Popen([testkit, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.says = json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        """Ends it."""
        self._process.communicate()


class Programs:
    """Programs of this machine."""

    def command(self, *argv: str) -> list[str]:
        """The command that runs `argv`."""
        return list(argv)


class World:
    """A home of longshore's in `folder`, with a stack for each orchestrator."""

    def __init__(self, program: str, package: str, folder: Path, places: dict[str, list[str]], registry: str) -> None:
        self.program = program
        self.env = {"LONGSHORE_HOME": str(folder / "home"), "LONGSHORE_BIN": program, "PYTHONPATH": package}
        for flavor, options in _STORES.items():
            self._longshore("artifact-store", "register", flavor, "--flavor", flavor, *options)
        self._longshore("container-registry", "register", "here", "--flavor", "default", "--uri", f"{registry}/bench")
        for flavor, uri in _REGISTRIES.items():
            self._longshore("container-registry", "register", flavor, "--flavor", flavor, "--uri", uri)
        for name, (images, store, options) in _ORCHESTRATORS.items():
            self._longshore("orchestrator", "register", name, "--flavor", name, *options, *places.get(name, []))
            self._longshore("stack", "register", name, "-o", name, "-c", images, "-a", store)

    def _longshore(self, *arguments: str) -> None:
        run([self.program, *arguments], self.env)

    def submit(self, script: Path, stack: str) -> Cost:
        """`python train.py`, which returns when the orchestrator has the run."""
        env = {**self.env, "LONGSHORE_STACK": stack}
        return _cost([sys.executable, str(script)], env, script.parent)

    def plan(self, spec: Path, stack: str) -> Cost:
        """A dry run, which prints what would be submitted."""
        argv = [self.program, "run", "--spec", str(spec), "--stack", stack, "--dry-run", "--output", "json"]
        return _cost(argv, self.env, spec.parent)

    def size(self, spec: Path, stack: str) -> int:
        """How many bytes a dry run prints."""
        argv = [self.program, "run", "--spec", str(spec), "--stack", stack, "--dry-run", "--output", "json"]
        return len(run(argv, self.env).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="longshore")
    parser.add_argument("--testkit", required=True, help="longshore-testkit")
    parser.add_argument("--package", required=True, help="the folder with longshore's Python package")
    parser.add_argument("--runs", type=int, default=15, help="how often each is measured [15]")
    parser.add_argument("--steps", type=int, default=500, help="how many steps the large pipeline has [500]")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="where files are put [/var/tmp]")
    arguments = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("LONGSHORE_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="longshore-bench-") as name:
        folder = Path(name)
        print("\n".join(machine.describe(folder)), end="\n\n", flush=True)
        stops: list[Callable[[], None]] = []
        try:
            _measure(arguments, folder, stops)
        finally:
            for stop in reversed(stops):
                stop()


def _measure(arguments: argparse.Namespace, folder: Path, stops: list[Callable[[], None]]) -> None:
    registry = Registry(Programs(), folder / "registry")
    stops.append(registry.stop)
    cluster, pipelines = (Standin(arguments.testkit, name) for name in ("kubernetes", "kubeflow"))
    stops += [cluster.stop, pipelines.stop]
    config, dags = folder / "kubeconfig", folder / "dags"
    config.write_text(json.dumps(cluster.says["kubeconfig"]))
    dags.mkdir()
    places = {
        "kubernetes": ["--kubeconfig", str(config)],
        "kubeflow": ["--host", pipelines.says["url"]],
        "airflow": ["--dags", str(dags)],
    }
    world = World(arguments.program, arguments.package, folder, places, registry.host)

    small = folder / "small"
    small.mkdir()
    script = small / "train.py"
    script.write_text(SMALL)
    rows = [["`python train.py`, to submitted, seconds", "median", "min-max", "CPU"]]
    for stack in places:
        # The first builds.
        world.submit(script, stack)
        rows.append(_row(stack, [world.submit(script, stack) for _ in range(arguments.runs)]))
    print_table(rows)

    work = folder / "large"
    work.mkdir()
    (work / "work.py").write_text("")
    spec = folder / "large.json"
    spec.write_text(json.dumps(large(arguments.steps, work)))
    rows = [[f"{arguments.steps} steps planned and printed, seconds", "median", "min-max", "CPU", "MB of JSON"]]
    for stack in _ORCHESTRATORS:
        size = world.size(spec, stack)
        row = _row(stack, [world.plan(spec, stack) for _ in range(arguments.runs)])
        rows.append([*row, f"{size / 1e6:.2f}"])
    print_table(rows)


def _row(name: str, costs: list[Cost]) -> list[str]:
    walls = [cost.wall for cost in costs]
    cpu = statistics.median(cost.cpu for cost in costs)
    return [name, f"{statistics.median(walls):.3f}", f"{min(walls):.3f}-{max(walls):.3f}", f"{cpu:.3f}"]


if __name__ == "__main__":
    main()
