"""A connector's credentials in the steps' containers on Kubernetes: what they reach, and where they are never seen."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from .docker_registry import DockerRegistry
from .machine import PROGRAM, Machine

TESTKIT = PROGRAM.with_name("longshore-testkit")
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
SCHEDULED = PIPELINE.replace("adding.main()", "adding.scheduled('0 3 * * *').main()")


def allowed(actions: list) -> str:
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture(scope="module")
def amazon():
    """An S3 of others with the bucket `team`, which judges who asks; a user's key, and a role."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = shutil.which("moto_server")
    assert program is not None, "moto_server is missing: run scripts/test"
    # What is done below is not judged, what comes then is.
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "6"}
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)
    endpoint = f"http://127.0.0.1:{port}"
    anybody = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **anybody).create_bucket(Bucket="team")
    iam = boto3.client("iam", endpoint_url=endpoint, **anybody)
    iam.create_user(UserName="runner")
    policy = allowed(["s3:*", "sts:*"])
    iam.put_user_policy(UserName="runner", PolicyName="p", PolicyDocument=policy)
    key = iam.create_access_key(UserName="runner")["AccessKey"]
    role = iam.create_role(RoleName="steps", AssumeRolePolicyDocument=policy)["Role"]["Arn"]
    iam.put_role_policy(RoleName="steps", PolicyName="p", PolicyDocument=policy)
    yield {"endpoint": endpoint, "id": key["AccessKeyId"], "key": key["SecretAccessKey"], "role": role}
    server.terminate()
    server.wait()


@pytest.fixture
def cluster(tmp_path: Path):
    """An API server, and the kubeconfig for it."""
    assert TESTKIT.exists(), f"{TESTKIT} is missing: run scripts/test, or cargo build -p longshore-testkit"
    command = [TESTKIT, "kubernetes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        said = json.loads(server.stdout.readline())
        file = tmp_path / "kubeconfig"
        file.write_text(json.dumps(said["kubeconfig"]))
        yield {"file": file, "url": said["url"]}


@pytest.fixture
def registry(tmp_path: Path):
    server = DockerRegistry(tmp_path / "registry", password=None)
    yield server
    server.stop()


@pytest.fixture
def stack(machine: Machine, amazon, cluster, registry):
    """Makes a stack whose store is connected to a connector with that method."""

    def make(name: str, method: str, *more: str) -> dict:
        longshore = machine.longshore
        key = machine.write("key", amazon["key"])
        keys = ["--aws_access_key_id", amazon["id"], "--aws_secret_access_key", f"@{key}"]
        connector = ["--type", "aws", "--auth-method", method, "--endpoint_url", amazon["endpoint"], *keys, *more]
        longshore("service-connector", "register", name, *connector).done()
        key.unlink()
        uri = f"{registry.host}/{name}"
        longshore("container-registry", "register", name, "--flavor", "default", "--uri", uri).done()
        store = ["--flavor", "s3", "--uri", f"s3://team/{name}", "--endpoint-url", amazon["endpoint"]]
        longshore("artifact-store", "register", name, *store, "--region", "us-east-1").done()
        connected = longshore("artifact-store", "connect", name, "--connector", name).done().stdout
        assert "verified: it answers" in connected
        options = ["--kubeconfig", str(cluster["file"]), "--local=true"]
        longshore("orchestrator", "register", name, "--flavor", "kubernetes", *options).done()
        longshore("stack", "register", name, "-o", name, "-c", name, "-a", name).done()
        machine.write("adding.py", PIPELINE)
        return {"LONGSHORE_STACK": name}

    return make


def secrets_of(cluster: dict) -> dict:
    """What is in the cluster's Secrets, by name."""
    with urllib.request.urlopen(f"{cluster['url']}/api/v1/namespaces/ml/secrets") as answer:
        items = json.load(answer)["items"]
    decoded = lambda data: {key: base64.b64decode(value).decode() for key, value in data.items()}  # noqa: E731
    return {item["metadata"]["name"]: decoded(item.get("data", {})) for item in items}


def steps(documents: list) -> dict:
    """Image, command, variables and keys of the Secret of each step's container."""
    found = {}
    for document in documents:
        step = document["metadata"].get("labels", {}).get("longshore.dev/step")
        if document["kind"] != "Job" or step is None:
            continue
        [container] = document["spec"]["template"]["spec"]["containers"]
        run = document["metadata"]["labels"]["longshore.dev/run"]
        arguments = ["r1" if argument == run else argument for argument in container["args"]]
        plain = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        keys = {item["name"]: item["valueFrom"]["secretKeyRef"] for item in container["env"] if "valueFrom" in item}
        found[step] = (container["image"], container["command"] + arguments, plain, keys)
    return found


def seen_in(folder: Path, secrets: list) -> list:
    """The files that have one of these texts."""
    needles = [secret.encode() for secret in secrets]
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return [file for file in files if any(needle in file.read_bytes() for needle in needles)]


@pytest.mark.parametrize("method", ["secret-key", "iam-role"])
def test_steps_reach_their_bucket_with_what_the_runs_secret_has(machine, amazon, cluster, stack, method) -> None:
    longshore = machine.longshore
    environment = stack(method, method, *(["--role_arn", amazon["role"]] if method == "iam-role" else []))
    said = []
    shown = machine.python("adding.py", LONGSHORE_DRY_RUN="1", LONGSHORE_OUTPUT="json", **environment).done()
    submitted = machine.python("adding.py", LONGSHORE_DETACH="1", **environment).done()
    said += [shown, submitted]
    documents = json.loads(shown.stdout)
    [hidden] = [document for document in documents if document["metadata"]["name"].endswith("-env")]
    names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] + (["AWS_SESSION_TOKEN"] if method == "iam-role" else [])
    assert hidden["stringData"] == dict.fromkeys(names, "***")
    # What is good for long, and what is not, is told.
    if method == "secret-key":
        assert "steps get the key of service connector secret-key for s3://team/secret-key" in submitted.stderr
    else:
        assert "the credentials for s3://team/iam-role (service connector iam-role) are good until" in submitted.stderr

    in_cluster = secrets_of(cluster)
    [name] = [name for name in in_cluster if name.endswith("-env")]
    given = in_cluster[name]
    assert sorted(given) == names
    assert (given["AWS_SECRET_ACCESS_KEY"] == amazon["key"]) == (method == "secret-key")

    machine.write("build.py", "import json\nfrom adding import adding\nprint(json.dumps(adding.build().images))\n")
    images = json.loads(machine.python("build.py", **environment).done().stdout)
    for step, (_, command, plain, keys) in steps(documents).items():
        variables = {**plain, **{variable: given[key["key"]] for variable, key in keys.items()}}
        assert sorted(keys) == names
        longshore("image", "copy", images[step], f"{step}-{method}:1").done()
        image = f"localhost:5000/{step}-{method}:1"
        options = [f"--env={variable}={value}" for variable, value in variables.items()]
        done = longshore("image", "run", *options, image, "--", *command).done()
        # Nothing else lets it in.
        options = [f"--env={variable}={value}" for variable, value in plain.items()]
        refused = longshore("image", "run", *options, image, "--", *command)
        assert refused.code != 0, refused
        assert "credentials" in refused.stderr, refused
    assert "adding 4 rows" in done.stdout

    secret = [value for variable, value in given.items() if variable != "AWS_ACCESS_KEY_ID"] + [amazon["key"]]
    for outcome in said:
        assert not any(value in outcome.stdout + outcome.stderr for value in secret)
    assert seen_in(machine.home, secret) == []
    assert seen_in(machine.project, secret) == []


def test_a_schedule_wants_what_does_not_expire(machine, amazon, cluster, stack) -> None:
    environment = stack("sessions", "iam-role", "--role_arn", amazon["role"])
    machine.write("nightly.py", SCHEDULED)
    text = machine.python("nightly.py", **environment).refused(1)
    assert "the credentials for s3://team/sessions (service connector sessions) expire at" in text
    assert "layer" not in text, "it is told before anything is built"
    assert secrets_of(cluster) == {}


def test_a_store_is_connected_to_what_fits_and_answers(machine, amazon, stack) -> None:
    longshore = machine.longshore
    stack("fits", "secret-key")
    text = longshore("artifact-store", "update", "fits", "--uri", "s3://nobodys/x").refused(1)
    assert "cannot list the bucket nobodys" in text
    assert "NoSuchBucket" in text
    text = longshore("artifact-store", "update", "fits", "--endpoint-url", "http://127.0.0.1:9").refused(1)
    assert "127.0.0.1:9" in text
    assert "if only the cluster reaches it, connect it with --no-verify" in text
    store = ["--flavor", "s3", "--uri", "s3://team/x", "--endpoint-url", "http://127.0.0.1:9"]
    longshore("artifact-store", "register", "inside", *store, "--connector", "fits", "--no-verify").done()
    key = ["--type", "docker", "--auth-method", "password", "--username", "u", "--password", "p", "--no-verify"]
    longshore("service-connector", "register", "of-docker", *key).done()
    text = longshore("artifact-store", "connect", "fits", "--connector", "of-docker").refused(2)
    assert "of-docker" in text
    assert "aws" in text


def test_kubeflow_takes_a_key_by_the_name_of_its_secret(machine, amazon, stack) -> None:
    longshore = machine.longshore
    stack("by-name", "secret-key")
    longshore("orchestrator", "register", "kfp", "--flavor", "kubeflow", "--host", "http://127.0.0.1:9", "--local=true")
    longshore("stack", "register", "kfp", "-o", "kfp", "-c", "by-name", "-a", "by-name").done()
    environment = {"LONGSHORE_STACK": "kfp", "LONGSHORE_DRY_RUN": "1", "LONGSHORE_OUTPUT": "json"}
    shown = machine.python("adding.py", **environment).done()
    assert "secretAsEnv" not in shown.stdout
    said = "steps do not get them: give them a Kubernetes Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert said in shown.stderr
    longshore("orchestrator", "update", "kfp", "--secret=bucket-key").done()
    shown = machine.python("adding.py", **environment).done()
    assert "steps do not get them" not in shown.stderr
    assert '"secretName": "bucket-key"' in shown.stdout
    assert '"secretKey": "AWS_SECRET_ACCESS_KEY"' in shown.stdout
    assert amazon["key"] not in shown.stdout + shown.stderr
