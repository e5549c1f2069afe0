"""DAG files, as Airflow itself reads and runs them, with stand-ins of a cluster and of a Docker daemon."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
import zlib
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from longshore.airflow import AirflowSettings

BINARIES = Path(sys.executable).parent
SETTINGS = {
    "pool": "default_pool",
    "queue": "default",
    "priority_weight": 3,
    "retry_delay": 1,
    "namespace": "training",
    "service_account": "trainer",
    "node_selector": {"pool": "{{ gpu }}"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "labels": {"team": "ml"},
    "annotations": {"note": "{% raw"},
    "image_pull_secrets": ["registry"],
    "secret_environment": {"HF_TOKEN": "huggingface/token"},
    "startup_timeout": 60,
    "network_mode": "host",
}


class Api(BaseHTTPRequestHandler):
    """What a server of JSON has in common. The server remembers what was made."""

    protocol_version = "HTTP/1.1"

    def answer(self, body, status=200):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, bytes) else "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def given(self):
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length) or b"{}")

    def log_message(self, *_):
        pass


class Cluster(Api):
    """Pods that have ended well as soon as they are made."""

    def do_POST(self):
        pod = self.given()
        pod["metadata"].setdefault("namespace", self.path.split("/")[4])
        pod["metadata"]["uid"] = pod["metadata"]["name"]
        now = "2026-01-02T03:04:05Z"
        pod["metadata"]["creationTimestamp"] = now
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        statuses = [
            {"name": container["name"], "state": ended, "ready": False, "restartCount": 0, "image": "", "imageID": ""}
            for container in pod["spec"]["containers"]
        ]
        pod["status"] = {"phase": "Succeeded", "containerStatuses": statuses, "startTime": now}
        self.server.made.append(pod)
        self.answer(pod, 201)

    def named(self):
        return [pod for pod in self.server.made if f"/pods/{pod['metadata']['name']}" in self.path]

    def do_GET(self):
        path = self.path.split("?")[0]
        if path.endswith("/log"):
            self.answer(b"2026-01-02T03:04:05.000000000Z hello from the step\n")
        elif path.endswith("/events"):
            self.answer({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
        elif path.endswith("/pods"):
            self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})
        elif self.named():
            self.answer(self.named()[-1])
        else:
            self.answer({"kind": "Status", "status": "Failure", "code": 404}, 404)

    def do_PATCH(self):
        self.given()
        self.answer(self.named()[-1])

    def do_DELETE(self):
        self.given()
        self.answer(self.named()[-1])


class Daemon(Api):
    """Containers that have ended well as soon as they are made."""

    def do_POST(self):
        if "/containers/create" in self.path:
            self.server.made.append(self.given())
            self.answer({"Id": f"c{len(self.server.made)}", "Warnings": []}, 201)
        elif "/attach" in self.path:
            self.given()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.docker.raw-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            text = b"hello from the step\n"
            self.wfile.write(b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text)
            self.close_connection = True
        elif "/wait" in self.path:
            self.given()
            self.answer({"StatusCode": 0})
        elif "/images/create" in self.path:
            self.given()
            self.answer({"status": "pulled"})
        else:
            self.given()
            self.answer({}, 200 if "/stop" in self.path else 204)

    def do_GET(self):
        if self.path.endswith("/version"):
            self.answer({"ApiVersion": "1.43", "Version": "24.0"})
        elif self.path.endswith("/_ping"):
            self.answer(b"OK")
        elif "/images/json" in self.path:
            self.answer([])
        elif "/logs" in self.path:
            text = b"hello from the step\n"
            self.answer(b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text)
        else:
            self.answer({"Config": {"Tty": False}, "State": {"Running": False}})

    def do_DELETE(self):
        self.answer({}, 204)


@pytest.fixture
def served():
    servers = []

    def serve(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.made = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Airflow's home, with its database."""
    folder = tmp_path_factory.mktemp("airflow")
    airflow(folder, "db", "migrate")
    return folder


def airflow(home, *arguments, **environment):
    variables = {
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "NO_PROXY": "127.0.0.1",
        **environment,
    }
    (home / "dags").mkdir(exist_ok=True)
    command = [BINARIES / "airflow", *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def put(home, made):
    for old in (home / "dags").glob("*.py"):
        old.unlink()
    (home / "dags" / made["name"]).write_text(made["file"])


def arguments_of(step):
    """The run, and the document of a step's arguments."""
    assert step[0] == "--run"
    assert step[2] == "--step"
    text = "".join(piece.lstrip(".") for piece in step[3:])
    return step[1], json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def ran(steps):
    """The names of steps in their order, all of one run."""
    documents = [arguments_of(step) for step in steps]
    runs = {run for run, _ in documents}
    assert len(runs) == 1
    assert re.fullmatch(r"digits_pipeline-manual-[0-9A-Za-z-]+-[0-9a-f]{8}", runs.pop())
    return [document["steps"][0]["name"] for _, document in documents]


ENVIRONMENT = {
    "AWS_REGION": "eu-central-1",
    "BRACES": "{{ run_id }} {% raw %} {# \U0001f6a2\n",
    "SCRIPT": "/etc/profile.sh",
}


def test_a_run_makes_a_pod_for_each_step(documents, digits, home, served):
    cluster = served(Cluster)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{cluster.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (home / "kubeconfig").write_text(json.dumps(config))
    pods_only = {name: value for name, value in SETTINGS.items() if name != "network_mode"}
    digits["steps"][1]["settings"]["airflow"] = AirflowSettings(**pods_only).document()
    put(home, documents("airflow_documents")(digits, {"dags": "/dags", "namespace": "ml"}))
    output = airflow(home, "dags", "test", "digits_pipeline", KUBECONFIG=str(home / "kubeconfig"))
    containers = [pod["spec"]["containers"][0] for pod in cluster.made]
    assert ran([container["args"] for container in containers]) == ["load_data", "train", "evaluate"], output
    for container in containers:
        assert container["image"] == "gcr.io/p/digits@sha256:" + "0" * 64
        assert container["command"] == ["/opt/venv/bin/python", "-m", "longshore.entrypoint"]
        seen = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert {name: seen[name] for name in ENVIRONMENT} == ENVIRONMENT
    load_data, train, _ = cluster.made
    assert load_data["metadata"]["namespace"] == "ml"
    assert train["metadata"]["namespace"] == "training"
    assert train["metadata"]["labels"]["team"] == "ml"
    assert train["metadata"]["annotations"]["note"] == "{% raw"
    spec = train["spec"]
    assert spec["nodeSelector"] == {"pool": "{{ gpu }}", "cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert spec["serviceAccountName"] == "trainer"
    assert spec["tolerations"] == SETTINGS["tolerations"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    amounts = {"cpu": "1500m", "memory": str(3 << 29), "nvidia.com/gpu": "1"}
    assert spec["containers"][0]["resources"] == {"limits": amounts, "requests": amounts}
    token = {"secretKeyRef": {"key": "token", "name": "huggingface"}}
    assert {"name": "HF_TOKEN", "valueFrom": token} in spec["containers"][0]["env"]


def test_a_run_makes_a_container_for_each_step(documents, digits, home, served):
    daemon = served(Daemon)
    digits["steps"][1]["settings"]["airflow"] = {"network_mode": "host"}
    put(home, documents("airflow_documents")(digits, {"dags": "/dags", "operator": "docker"}))
    host = f"tcp://127.0.0.1:{daemon.server_port}"
    output = airflow(home, "dags", "test", "digits_pipeline", DOCKER_HOST=host)
    assert ran([container["Cmd"] for container in daemon.made]) == ["load_data", "train", "evaluate"], output
    for container in daemon.made:
        assert container["Image"] == "gcr.io/p/digits@sha256:" + "0" * 64
        assert container["Entrypoint"] == ["/opt/venv/bin/python", "-m", "longshore.entrypoint"]
        seen = dict(entry.split("=", 1) for entry in container["Env"])
        assert {name: seen[name] for name in ENVIRONMENT} == ENVIRONMENT
    train = daemon.made[1]["HostConfig"]
    assert train["NetworkMode"] == "host"
    assert train["Memory"] == 3 << 29
    assert train["DeviceRequests"][0]["Count"] == 1


LOOK = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
tasks = {
    task.task_id: {
        "after": sorted(task.upstream_task_ids), "retries": task.retries, "pool": task.pool,
        "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
    }
    for task in dag.tasks
}
print("FOUND", json.dumps({
    "id": dag.dag_id, "schedule": str(dag.schedule), "zone": str(dag.timezone), "catchup": dag.catchup, "tasks": tasks,
}))
"""


@pytest.mark.parametrize("operator", ["kubernetes", "docker"])
def test_airflow_imports_it_with_no_error(documents, digits, home, operator):
    digits["pipeline"]["schedule"] = {"cron": "30 3 * * *", "timezone": "Europe/Zurich"}
    digits["steps"][1]["timeout"] = 90
    digits["steps"][1]["settings"]["airflow"] = {"pool": "training"}
    put(home, documents("airflow_documents")(digits, {"dags": "/dags", "operator": operator}))
    variables = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    command = [sys.executable, "-c", LOOK, home / "dags"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    plain = {"retries": 0, "timeout": None, "pool": "default_pool"}
    assert found == {
        "id": "digits_pipeline",
        "schedule": "30 3 * * *",
        "zone": "Europe/Zurich",
        "catchup": False,
        "tasks": {
            "load_data": {**plain, "after": []},
            "train": {"after": ["load_data"], "retries": 2, "timeout": 90.0, "pool": "training"},
            "evaluate": {**plain, "after": ["load_data", "train"]},
        },
    }


def test_the_settings_have_the_fields_that_the_program_reads(documents, digits):
    assert {field.name for field in fields(AirflowSettings)} == set(SETTINGS)
    for operator, left_out in [("kubernetes", ["network_mode"]), ("docker", [])]:
        names = [name for name in SETTINGS if name not in left_out]
        if operator == "docker":
            names = ["pool", "queue", "priority_weight", "retry_delay", "network_mode"]
        digits["settings"] = {"airflow": AirflowSettings(**{name: SETTINGS[name] for name in names}).document()}
        assert documents("airflow_documents")(digits, {"dags": "/dags", "operator": operator})
