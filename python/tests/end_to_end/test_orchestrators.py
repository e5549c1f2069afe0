"""Orchestrators elsewhere: what they would be given, and each step's container run as they would run it."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from .docker_registry import DockerRegistry
from .machine import Machine

PIPELINE = """
from longshore import pipeline, step
from longshore.config import DockerSettings, ResourceSettings

@step(settings={"resources": ResourceSettings(cpu=0.5, memory="256MiB")})
def load(rows: int) -> list:
    return list(range(rows))

@step(timeout=600)
def total(data) -> int:
    print("adding", len(data), "rows")
    return sum(data)

@pipeline
def adding(rows: int = 4):
    total(load(rows))

if __name__ == "__main__":
    run = adding.main()
"""

ORCHESTRATORS = {
    "kubernetes": ["--namespace", "ml", "--local=true"],
    "kubeflow": ["--host", "http://127.0.0.1:9", "--local=true"],
}


@pytest.fixture(scope="module")
def bucket():
    """An S3 of others, on loopback, with a bucket."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("moto_server")
    assert program is not None, "moto_server is missing: run scripts/test"
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)
    endpoint = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="team")
    yield endpoint
    server.terminate()
    server.wait()


@pytest.fixture
def registry(tmp_path: Path):
    server = DockerRegistry(tmp_path / "registry", password=None)
    yield server
    server.stop()


def containers(flavor: str, documents: list) -> dict:
    """Image, program and arguments of each step's container, and its environment."""
    found = {}
    if flavor == "kubernetes":
        for document in documents:
            step = document["metadata"].get("labels", {}).get("longshore.dev/step")
            if document["kind"] != "Job" or step is None:
                continue
            [container] = document["spec"]["template"]["spec"]["containers"]
            environment = {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}
            arguments = ["r1" if "{{" in argument or "$(" in argument else argument for argument in container["args"]]
            found[step] = (container["image"], container["command"] + arguments, environment)
    else:
        executors = documents[0]["deploymentSpec"]["executors"]
        for name, executor in executors.items():
            container = executor["container"]
            environment = {item["name"]: item["value"] for item in container.get("env", [])}
            # What the service puts in the place of the run's name.
            arguments = ["r1" if "{{$" in argument else argument for argument in container.get("args", [])]
            found[name.removeprefix("exec-")] = (container["image"], container["command"] + arguments, environment)
    return found


@pytest.mark.parametrize("flavor", list(ORCHESTRATORS))
def test_each_step_runs_as_its_service_would_run_it(machine: Machine, registry, bucket, flavor) -> None:
    longshore = machine.longshore
    machine.write("adding.py", PIPELINE)
    longshore(
        "container-registry", "register", f"hub-{flavor}", "--flavor", "default", "--uri", f"{registry.host}/ml"
    ).done()
    store = ["--flavor", "s3", "--uri", f"s3://team/{flavor}", "--endpoint-url", bucket, "--region", "us-east-1"]
    longshore("artifact-store", "register", f"store-{flavor}", *store).done()
    longshore("orchestrator", "register", f"it-{flavor}", "--flavor", flavor, *ORCHESTRATORS[flavor]).done()
    parts = ["-o", f"it-{flavor}", "-c", f"hub-{flavor}", "-a", f"store-{flavor}"]
    longshore("stack", "register", f"stack-{flavor}", *parts).done()
    stack = {"LONGSHORE_STACK": f"stack-{flavor}"}

    machine.write("build.py", "import json\nfrom adding import adding\nprint(json.dumps(adding.build().images))\n")
    images = json.loads(machine.python("build.py", **stack).done().stdout)
    shown = machine.python("adding.py", LONGSHORE_DRY_RUN="1", LONGSHORE_OUTPUT="json", **stack).done().stdout
    documents = json.loads(shown)
    documents = documents if isinstance(documents, list) else [documents]
    found = containers(flavor, documents)
    assert list(found) == ["load", "total"] or set(found) == {"load", "total"}, shown
    for name in ("load", "total"):
        image, command, environment = found[name]
        assert image.partition("@")[0].rpartition(":")[0] == images[name].partition("@")[0]
        secrets = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
        variables = [f"--env={key}={value}" for key, value in {**environment, **secrets}.items()]
        # The stack's images are in its registry: brought here, as a node would.
        longshore("image", "copy", images[name], f"{name}-{flavor}:1").done()
        done = longshore("image", "run", *variables, f"localhost:5000/{name}-{flavor}:1", "--", *command).done()
    assert "adding 4 rows" in done.stdout

    # Outputs are read where the run has put them.
    import boto3

    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    listed = boto3.client("s3", endpoint_url=bucket, **keys).list_objects_v2(Bucket="team", Prefix=f"{flavor}/")
    names = [item["Key"] for item in listed["Contents"]]
    [data] = [name for name in names if name.endswith("/total/output/data.json")]
    body = boto3.client("s3", endpoint_url=bucket, **keys).get_object(Bucket="team", Key=data)["Body"].read()
    assert json.loads(body) == 6


def test_a_schedule_in_a_bucket_is_listed_and_deleted(machine: Machine, registry, bucket) -> None:
    import boto3

    longshore = machine.longshore
    machine.write("adding.py", PIPELINE)
    machine.write("nightly.py", "from adding import adding\nadding.scheduled('0 3 * * *')()\n")
    values = ["--aws_access_key_id", "id", "--aws_secret_access_key", "secret", "--endpoint_url", bucket]
    connector = ["--type", "aws", "--auth-method", "secret-key", "--region", "us-east-1"]
    longshore("service-connector", "register", "cloud", *connector, *values).done()
    longshore("container-registry", "register", "hub", "--flavor", "default", "--uri", f"{registry.host}/ml").done()
    store = ["--flavor", "s3", "--uri", "s3://team/nightly", "--endpoint-url", bucket, "--region", "us-east-1"]
    longshore("artifact-store", "register", "store", *store).done()
    airflow = ["--flavor", "airflow", "--dags", "s3://team/dags", "--local=true", "--connector", "cloud"]
    longshore("orchestrator", "register", "mwaa", *airflow).done()
    longshore("stack", "register", "nightly", "-o", "mwaa", "-c", "hub", "-a", "store").done()

    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=bucket, **keys)
    # Submitted again, the file is replaced, and so is the schedule that is remembered.
    for _ in range(2):
        machine.python("nightly.py", LONGSHORE_STACK="nightly").done()
    file = s3.get_object(Bucket="team", Key="dags/adding.py")["Body"].read().decode()
    assert 'schedule="0 3 * * *"' in file
    [listed] = json.loads(longshore("schedule", "list", "-o", "json").done().stdout)
    assert (listed["pipeline"], listed["orchestrator"], listed["phase"]) == ("adding", "mwaa", "running")
    assert "s3://team/dags/adding.py by its own rules" in listed["says"]
    assert listed["says"] in longshore("schedule", "list").done().stdout
    assert "is a schedule, which has no end" in longshore("run", "wait", listed["run"]).refused(2)
    longshore("schedule", "delete", "adding").done()
    assert "Contents" not in s3.list_objects_v2(Bucket="team", Prefix="dags/")
    assert json.loads(longshore("schedule", "list", "-o", "json").done().stdout) == []
    assert "is no schedule" in longshore("schedule", "delete", listed["run"]).refused(2)


def test_a_cluster_that_does_not_answer_is_a_sentence(machine: Machine, registry, tmp_path) -> None:
    longshore = machine.longshore
    machine.write("adding.py", PIPELINE)
    longshore("container-registry", "register", "hub", "--flavor", "default", "--uri", f"{registry.host}/ml").done()
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
