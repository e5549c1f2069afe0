"""Orchestrators elsewhere: what they would be given, and each step's container run as they would run it."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, Iterator

import pytest

from .cloud_stores import Amazon, Google, Microsoft, Store
from .docker_registry import DockerRegistry
from .service_containers import ACR, ECR, GAR, SERVICES, Service
from .test_registration import User

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

PIPELINE = """
from pathlib import Path

from longshore import pipeline, step
from longshore.config import DockerSettings, ResourceSettings
from longshore.sagemaker import SagemakerSettings

@step(settings={{"resources": ResourceSettings(cpu=0.5, memory="256MiB")}})
def load(rows: int, note: str) -> list:
    # Beside the code, whatever folder the service begins in.
    factor = int(Path("data/factor.txt").read_text())
    print("note", note)
    return [factor * row for row in range(rows)]

# A user that the image does not know, without a home folder that could be written to.
@step({timeout}settings={{"docker": DockerSettings(user="1234:1234")}})
def total(data) -> int:
    print("adding", len(data), "rows")
    return sum(data)

@pipeline(settings={{{settings}}})
def adding(rows: int = 4, note: str = {note!r}):
    total(load(rows, note))

if __name__ == "__main__":
    adding.main()
"""
# What shells, templates and services would like to replace.
NOTE = 'it\'s "$HOME" `id` {{ run_id }} ${{inputs.x}} {{$.pipeline_job_name}} $(RUN) %s \\ \U0001f6a2'


class Fleet:
    """A user with a stack for each service, whose registries and stores are on this machine."""

    def __init__(self, user: User, registry: DockerRegistry, until: ExitStack) -> None:
        self.user = user
        self.registry = registry
        self.until = until
        self.stores: dict[str, Store] = {}
        user.served_at(**{name.replace(".", "_"): registry.host for name in (ECR, GAR, ACR)})
        user.write("data/factor.txt", "2\n")

    def store(self, flavor: str) -> Store:
        if flavor not in self.stores:
            kind = {"s3": Amazon, "gcs": Google, "azure": Microsoft}[flavor]
            self.stores[flavor] = kind(self.until)
        return self.stores[flavor]

    def stack(self, service: Service) -> dict[str, str]:
        """Registers what a service needs; the environment in which its stack is the active one."""
        name, store, longshore = service.name, self.store(service.store), self.user.longshore
        flavor, uri = service.registry
        registry = ("--flavor", flavor, "--uri", uri.format(here=self.registry.host))
        longshore("container-registry", "register", name, *registry).done()
        bucket = ("--flavor", store.flavor, "--uri", store.uri(name), *store.options)
        longshore("artifact-store", "register", name, *bucket).done()
        longshore("orchestrator", "register", name, "--flavor", service.flavor, *service.options).done()
        longshore("stack", "register", name, "-o", name, "-c", name, "-a", name).done()
        return {"LONGSHORE_STACK": name}

    def write(self, service: Service | None, note: str = NOTE) -> None:
        # Vertex AI has no limits of time for containers.
        timeout = "" if service is None or service.flavor == "vertex" else "timeout=600, "
        settings = "" if service is None else service.settings
        self.user.write("adding.py", PIPELINE.format(timeout=timeout, settings=settings, note=note))


@pytest.fixture(scope="module")
def fleet(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    user = User(folder)
    (user.home / "data").mkdir(parents=True)
    for part in ("cache", "data/registry"):
        subprocess.run(["cp", "-al", shared_home / part, user.home / part], check=True)
    with ExitStack() as until:
        registry = DockerRegistry(folder / "registry", password=None)
        until.callback(registry.stop)
        yield Fleet(user, registry, until)


@pytest.fixture(scope="module")
def here(fleet: Fleet) -> int:
    """What the pipeline gives on this machine."""
    fleet.write(None)
    fleet.user.write("here.py", "import json\nfrom adding import adding\nprint(json.dumps(adding().load('total')))\n")
    fleet.user.longshore("stack", "register", "here", "-o", "local").done()
    done = fleet.user.python("here.py", LONGSHORE_STACK="here").done()
    assert f"note {NOTE}" in done.stdout
    result: int = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_each_step_runs_as_its_service_runs_it(fleet: Fleet, here: int, service: Service, tmp_path: Path) -> None:
    user, store = fleet.user, fleet.store(service.store)
    fleet.write(service)
    stack = fleet.stack(service)
    user.write("build.py", "import json\nfrom adding import adding\nprint(json.dumps(adding.build().images))\n")
    images = json.loads(user.python("build.py", **stack).done().stdout)
    shown = user.python("adding.py", LONGSHORE_DRY_RUN="1", LONGSHORE_OUTPUT="json", **stack).done()
    assert "images are named by tag" not in shown.stderr
    containers = service.containers(shown.stdout, tmp_path)
    assert set(containers) == {"load", "total"}, shown.stdout
    said = ""
    for name in ("load", "total"):
        container = containers[name]
        assert container.image == images[name]
        given = {**container.environment, **store.identity}
        variables = [f"--env={key}={value}" for key, value in given.items()]
        folders = [f"--volume={folder}:{place}:rw" for place, folder in container.folders.items()]
        # Brought here, as a machine of the service would.
        user.longshore("image", "copy", container.image, f"{service.name}-{name}:1").done()
        image = f"localhost:5000/{service.name}-{name}:1"
        said += user.longshore("image", "run", *variables, *folders, image, "--", *container.command).done().stdout
    assert f"note {NOTE}" in said
    assert "adding 4 rows" in said
    if service.flavor == "azureml":
        # What the next step waits for.
        assert [path.name for path in tmp_path.rglob("done/*")] == ["done"]

    # Outputs are where the run has put them, all of one run.
    names = store.names(service.name)
    [result] = [name for name in names if name.endswith("/total/output/data.json")]
    assert len({name.split("/")[1] for name in names}) == 1, names
    assert json.loads(store.read(result)) == here == 12


def test_what_was_not_built_is_named_by_tag(fleet: Fleet) -> None:
    service = next(service for service in SERVICES if service.flavor == "kubeflow")
    stack = fleet.stack(Service(**{**vars(service), "name": "unbuilt"}))
    fleet.write(service)
    fleet.user.write("adding.py", PIPELINE.format(timeout="", settings="", note="nothing of this was built"))
    dry = {"LONGSHORE_DRY_RUN": "1", "LONGSHORE_OUTPUT": "json", **stack}
    shown = fleet.user.python("adding.py", **dry).done()
    assert "images are named by tag: not built yet" in shown.stderr
    assert f"{fleet.registry.host}/ml/adding:20" in shown.stdout
    assert "sha256:" not in json.loads(shown.stdout)["deploymentSpec"]["executors"]["exec-load"]["container"]["image"]
    # What cannot be built is printed all the same.
    wrong = PIPELINE.format(timeout="", settings='"docker": DockerSettings(requirements=["idna==0.0"])', note="")
    fleet.user.write("adding.py", wrong)
    shown = fleet.user.python("adding.py", **dry).done()
    assert "images are named by tag: what is in them cannot be found out: " in shown.stderr
    assert f"{fleet.registry.host}/ml/adding:20" in shown.stdout


def test_a_cluster_that_does_not_answer_is_a_sentence(machine: Machine, fleet: Fleet, tmp_path: Path) -> None:
    longshore = machine.longshore
    machine.write("adding.py", PIPELINE.format(timeout="", settings="", note=""))
    host = fleet.registry.host
    longshore("container-registry", "register", "hub", "--flavor", "default", "--uri", f"{host}/ml").done()
    longshore("artifact-store", "register", "store", "--flavor", "s3", "--uri", "s3://team/x").done()
    config = tmp_path / "kubeconfig"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [{"name": "it", "cluster": {"server": "http://127.0.0.1:9"}}],
                "users": [{"name": "it", "user": {"token": "t"}}],
            }
        )
    )
    longshore(
        "orchestrator", "register", "gone", "--flavor", "kubernetes", "--kubeconfig", str(config), "--local=true"
    ).done()
    longshore("stack", "register", "gone", "-o", "gone", "-c", "hub", "-a", "store").done()
    text = machine.python("adding.py", LONGSHORE_STACK="gone").refused(1)
    assert "127.0.0.1:9" in text
    assert os.linesep.join(text.splitlines()[-1:]).startswith("error: "), text
