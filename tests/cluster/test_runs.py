"""Runs on a control plane: those that go well, those that don't, and what is left of them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from conftest import PIPELINES, Outcome, Project
from control_plane import ROOT, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from control_plane import ControlPlane


def states(outcome: Outcome) -> dict[str, str]:
    """How each step ended, as the terminal has it."""
    found = re.findall(r"^(\S+) +(succeeded|failed|cancelled|skipped)", outcome.stderr, re.MULTILINE)
    return {step: state for step, state in found if step != "run"}


def test_the_quickstart(cluster: tuple[ControlPlane, dict[str, str]]) -> None:
    _, environment = cluster
    environment = {key: value for key, value in environment.items() if key != "LONGSHORE_HOME"}
    done = subprocess.run([ROOT / "tests/cluster/run"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "score: 0.9" in done.stdout + done.stderr


def test_a_fan_runs_side_by_side(project: Project) -> None:
    project.register()
    outcome = project.pipeline("fan").done()
    assert "total: 42" in outcome.stdout + outcome.stderr, outcome
    # What Kubernetes would put a variable's value for stays as it is.
    run = project.last()
    shown = project.longshore("run", "logs", run, "begin").done().stdout
    assert "costs $5, $(HOME) and $$(HOME) stay as they are" in shown
    pods = project.objects("pods")
    assert {pod["status"]["phase"] for pod in pods} == {"Succeeded"}
    owned = [one for one in project.objects("jobs") if one["metadata"]["name"] != project.in_cluster(run)]
    assert all(one["metadata"]["ownerReferences"][0]["name"] == project.in_cluster(run) for one in owned)
    project.is_gone(run)


def test_a_step_that_fails(project: Project) -> None:
    project.register()
    outcome = project.pipeline("failing")
    assert outcome.code == 1, outcome
    assert "ValueError: no rows in table 7" in outcome.stderr, outcome
    run = project.last()
    assert project.reason(run, "broken").startswith("it ended with exit code 1: ")
    assert "ValueError: no rows in table 7" in project.reason(run, "broken")
    assert project.reason(run, "report") == "step broken failed"
    assert "report" not in states(outcome), outcome
    project.is_gone(run)


def test_a_step_that_is_tried_again(project: Project) -> None:
    project.register()
    outcome = project.pipeline("retried").done()
    assert outcome.stdout.count("trying") + outcome.stderr.count("| trying") == 2, outcome
    assert len(project.objects("pods", "longshore.dev/step=flaky")) == 2


def test_a_step_that_takes_too_long(project: Project) -> None:
    project.register()
    outcome = project.pipeline("overdue")
    assert outcome.code == 1, outcome
    assert "it took longer than its timeout of 5 s" in outcome.stderr, outcome


def test_a_step_out_of_memory(project: Project) -> None:
    project.register()
    outcome = project.pipeline("out_of_memory")
    assert outcome.code == 1, outcome
    assert "it used more than its 96Mi of memory" in outcome.stderr, outcome


def test_a_step_that_no_node_takes(project: Project) -> None:
    project.register()
    process, run = project.begin("too_large")
    project.until("it is told", lambda: "no node has a free accelerator" in project.reason(run, "train"))
    project.longshore("run", "cancel", run).done()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    project.is_gone(run)


def test_an_image_that_the_cluster_may_not_pull(project: Project, registry: str, tmp_path: Path) -> None:
    login = {"auths": {registry: {"username": "me", "password": "hunter2"}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    project.environment["DOCKER_CONFIG"] = str(tmp_path)
    project.longshore("container-registry", "register", "private", "--flavor=default", f"--uri={registry}/tests")
    project.register("--image-pull-secrets=none", registry="private")
    process, run = project.begin("plain")
    project.until(
        "it is told", lambda: "cannot be pulled" in project.reason(run, None), show=lambda: project.described(run)
    )
    reason = project.reason(run, None)
    assert "the cluster's credentials for the registry are missing" in reason
    project.longshore("run", "cancel", run).done()
    process.communicate(timeout=120)
    project.is_gone(run)


def test_an_image_that_is_pulled_with_a_secret_of_the_run(project: Project, registry: str, tmp_path: Path) -> None:
    login = {"auths": {registry: {"username": "me", "password": "hunter2"}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    project.environment["DOCKER_CONFIG"] = str(tmp_path)
    project.longshore("container-registry", "register", "private", "--flavor=default", f"--uri={registry}/tests")
    project.register(registry="private")
    project.pipeline("plain").done()
    assert not [name for name in project.names("secrets") if name.endswith("-pull")]
    project.is_gone(project.last())


def test_a_client_that_is_killed(project: Project) -> None:
    project.register()
    process, run = project.begin("counting")
    # The script, and the program that it has started.
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    waited = project.longshore("run", "wait", run).done()
    lines = re.findall(r"number (\d+)", waited.stdout + waited.stderr)
    assert lines == [str(number) for number in range(20)], waited
    logs = project.longshore("run", "logs", run, "count").done().stdout
    assert logs.splitlines() == [f"number {number}" for number in range(20)]
    project.is_gone(run)


def test_a_run_that_is_cancelled_by_another_process(project: Project) -> None:
    project.register()
    process, run = project.begin("counting", "--to", "1000")
    step = "longshore.dev/step=count"
    project.until("it runs", lambda: any(pod["status"]["phase"] == "Running" for pod in project.objects("pods", step)))
    project.longshore("run", "cancel", run).done()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert project.described(run)["status"] == "interrupted"
    project.until("its pods are gone", lambda: not project.objects("pods", step))
    assert not project.objects("jobs", step)
    project.is_gone(run)


@pytest.mark.parametrize(("answer", "status"), [("c", "interrupted"), ("d", "running")])
def test_ctrl_c_asks(project: Project, answer: str, status: str) -> None:
    project.register()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(PIPELINES)
        command = [sys.executable, "scenarios.py", "counting", "--to", "40"]
        os.execve(sys.executable, command, project.environment)
    shown = b""

    def read(until: bytes, seconds: float = 200) -> None:
        nonlocal shown
        end = time.monotonic() + seconds
        while until not in shown:
            assert time.monotonic() < end, shown.decode()
            if select.select([terminal], [], [], 1)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:
                    break
        assert until in shown, shown.decode()

    read(b"number 1")
    os.write(terminal, b"\x03")
    read(b"go on watching?")
    os.write(terminal, answer.encode() + b"\n")
    read(b"cancelled" if answer == "c" else b"detached")
    _, code = os.waitpid(child, 0)
    os.close(terminal)
    assert code != 0, shown.decode()
    run = project.last()
    assert project.described(run)["status"] == status, shown.decode()
    if answer == "d":
        project.longshore("run", "wait", run).done()


def test_an_api_server_that_is_away_for_a_while(project: Project) -> None:
    project.register()
    process, run = project.begin("counting", "--to", "60")
    step = "longshore.dev/step=count"
    project.until("it runs", lambda: any(pod["status"]["phase"] == "Running" for pod in project.objects("pods", step)))
    project.plane.stop("kube-apiserver")
    # Long enough for whoever gives up after a few tries.
    time.sleep(20)
    project.plane.start_again("kube-apiserver")
    project.plane.until("kube-apiserver", project.plane.is_ready)
    stdout, stderr = process.communicate(timeout=300)
    logs = re.findall(r"number (\d+)", stdout + stderr)
    assert process.returncode == 0, stderr
    assert logs == [str(number) for number in range(60)], stderr
    # What looks after the run has waited too.
    assert len(project.objects("pods", f"job-name={project.in_cluster(run)}")) == 1
    project.is_gone(run)


def test_a_controller_whose_pod_is_lost(project: Project) -> None:
    project.register()
    process, run = project.begin("counting", "--to", "30")
    step = "longshore.dev/step=count"
    project.until("it runs", lambda: any(pod["status"]["phase"] == "Running" for pod in project.objects("pods", step)))
    project.kubectl("delete", "pod", "--selector", f"job-name={project.in_cluster(run)}")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert len(project.objects("pods", step)) == 1
    project.is_gone(run)


def test_a_quota_that_is_used_up(project: Project) -> None:
    project.register()
    project.kubectl("create", "quota", "jobs", "--hard=count/jobs.batch=1")
    process, run = project.begin("plain")
    project.until("it is told", lambda: "a quota of namespace" in project.reason(run, "begin"))
    project.kubectl("delete", "quota", "jobs")
    process.communicate(timeout=300)
    assert process.returncode == 0
    project.is_gone(run)


def test_a_schedule(project: Project) -> None:
    project.register()
    project.pipeline("scheduled").done()
    run = project.last()
    name = project.in_cluster(run)
    [job] = project.objects("cronjobs")
    assert (job["metadata"]["name"], job["spec"]["timeZone"]) == (name, "Europe/Berlin")
    assert "it runs at * * * * * (Europe/Berlin)" in project.reason(run, None)
    ended = "longshore.dev/step=report"

    def has_run() -> bool:
        return any(pod["status"]["phase"] == "Succeeded" for pod in project.objects("pods", ended))

    project.until("it has run", has_run, 180, show=lambda: project.kubectl("get", "jobs,pods"))
    project.longshore("run", "cancel", run).done()
    project.until("nothing is left", lambda: not project.names(), show=project.names)


def test_a_user_without_rights(project: Project) -> None:
    project.register()
    eve = project.plane.kubeconfig("eve", namespace=project.namespace)
    outcome = project.pipeline("plain", KUBECONFIG=str(eve))
    assert outcome.code == 1, outcome
    assert "create jobs.batch" in outcome.stderr, outcome
    assert not project.names()
    # The commands that it names are enough.
    said = re.sub(r"\s+", " ", outcome.stderr)
    commands = re.findall(r"kubectl (create role\S* [^;&]*?)(?= &&|;|$)", said)
    assert commands, outcome
    for command in commands:
        project.kubectl(*command.strip().replace("USER", "eve").split())
    project.pipeline("plain", KUBECONFIG=str(eve)).done()
    project.is_gone(project.last())


def test_a_service_account_that_an_administrator_made(project: Project) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    commands = re.findall(r"^kubectl (create .*)$", page, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        project.kubectl(*command.replace(" --namespace=ml", "").split())
        if found := re.match(r"create role (\S+)", command):
            account = f"--serviceaccount={project.namespace}:longshore"
            project.kubectl("create", "rolebinding", found.group(1), f"--role={found.group(1)}", account)
    project.register("--service-account=longshore")
    project.pipeline("plain").done()


def test_a_namespace_with_restricted_pods(project: Project) -> None:
    project.kubectl("label", "namespace", project.namespace, "pod-security.kubernetes.io/enforce=restricted")
    project.register()
    process, run = project.begin("plain")
    project.until("it is told", lambda: "Pod Security Standard" in project.reason(run, "begin"))
    assert 'DockerSettings(user="1000")' in project.reason(run, "begin")
    project.longshore("run", "cancel", run).done()
    process.communicate(timeout=120)
    project.pipeline("plain", LONGSHORE_SET="docker.user=1000").done()


@pytest.mark.parametrize("name", ["fan", "too_large", "overdue", "scheduled"])
def test_manifests_are_valid(project: Project, name: str, tmp_path: Path) -> None:
    project.register()
    shown = project.pipeline(name, LONGSHORE_DRY_RUN="1", LONGSHORE_OUTPUT="yaml").done()
    file = tmp_path / "manifests.yaml"
    file.write_text(shown.stdout)
    project.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(file))


@pytest.fixture(scope="session")
def registry(cluster: tuple[ControlPlane, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian's docker-registry, that wants a password."""
    plane, _ = cluster
    folder = tmp_path_factory.mktemp("registry")
    entry = subprocess.run(["htpasswd", "-Bbn", "me", "hunter2"], capture_output=True, text=True, check=True).stdout
    (folder / "htpasswd").write_text(entry)
    host = f"127.0.0.1:{free_port()}"
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": host, "secret": "of no use to anybody"},
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    plane.start("docker-registry", "docker-registry", "serve", str(folder / "config.yml"))
    return host
