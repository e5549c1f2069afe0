"""Pipelines whose images go to, and whose parents come from, real registries."""

from __future__ import annotations

import hashlib
import http.server
import json
import platform
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from .amazon_front import only_created
from .docker_registry import PASSWORD, USERNAME, DockerRegistry
from .test_registration import ACCOUNT, ECR, User, amazon
from .web import serving

__all__ = ["amazon"]

PIPELINE = """
from longshore import pipeline, step
from longshore.config import DockerSettings

@step
def greet() -> str:
    import idna
    print("idna", idna.__version__)
    return "hello"

@pipeline(settings={{"docker": DockerSettings(requirements=["idna==3.10"]{more})}})
def greeting():
    greet()

greeting()
"""


@pytest.fixture
def user(shared_home: Path, tmp_path: Path) -> User:
    """A user who has a parent image and small packages, and has registered nothing."""
    user = User(tmp_path)
    (user.home / "data").mkdir(parents=True)
    for folder in ("cache", "data/registry"):
        subprocess.run(["cp", "-al", shared_home / folder, user.home / folder], check=True)
    return user


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[Callable[..., DockerRegistry]]:
    started: list[DockerRegistry] = []

    def start(password: str | None = PASSWORD, username: str = USERNAME, tls: bool = False) -> DockerRegistry:
        started.append(DockerRegistry(tmp_path / f"registry-{len(started)}", password, username, tls))
        return started[-1]

    yield start
    for registry in started:
        registry.stop()


def inspect(image: str, password: str, username: str = USERNAME) -> dict[str, Any]:
    """What skopeo finds."""
    command = ["skopeo", "inspect", "--tls-verify=false", "--creds", f"{username}:{password}", f"docker://{image}"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def use(user: User, registry: DockerRegistry, name: str = "theirs", namespace: str = "/team") -> None:
    """Registers a connector, a registry and a stack of that name, and makes the stack the active one."""
    user.connector(name, registry.password or "", f"--registry={registry.host}").done()
    uri = f"--uri={registry.host}{namespace}"
    user.longshore("container-registry", "register", name, "--flavor=default", uri, "--connector", name).done()
    user.longshore("stack", "register", name, "-o", "local_container", "-c", name, "--set").done()


def last_image(user: User) -> tuple[str, str]:
    """The name and the digest of the image of the last run, as the terminal showed them."""
    shown = next(outcome.stderr for outcome in reversed(user.said) if " → " in outcome.stderr)
    name = next(line.split(" → ")[1] for line in shown.splitlines() if " → " in line)
    digest = next(word for word in shown.split() if word.startswith("sha256:"))
    return name, digest


def test_an_image_goes_to_the_registry_of_the_stack(user: User, start_registry: Callable[..., DockerRegistry]) -> None:
    registry = start_registry()
    use(user, registry)
    script = str(user.write("train.py", PIPELINE.format(more="")))
    first = user.python(script, LONGSHORE_LOG="trace").done()
    assert "greet    | idna 3.10" in first.stdout
    assert f"push {registry.host}/team/greeting" in first.stderr
    name, digest = last_image(user)
    assert name.startswith(f"{registry.host}/team/greeting:20")
    assert inspect(name, PASSWORD)["Digest"] == digest

    # Nothing to build: the old digest gets the new tag, and no byte moves.
    again = user.python(script).done()
    assert "pushed 0 B in 0 new layers" in again.stderr
    assert last_image(user)[1] == digest
    Path(script).write_text(PIPELINE.format(more="").replace("hello", "good morning"))
    changed = user.python(script).done()
    assert " in 1 new layer;" in changed.stderr

    # The secret is in no output, no file and no image.
    said = "".join(outcome.stdout + outcome.stderr for outcome in user.said)
    assert PASSWORD not in said
    assert PASSWORD.encode() not in user.bytes_kept()
    pulled = user.folder / "pulled"
    source = ["--src-tls-verify=false", f"--src-creds={USERNAME}:{PASSWORD}", f"docker://{last_image(user)[0]}"]
    subprocess.run(["skopeo", "copy", "--quiet", *source, f"dir:{pulled}"], check=True)
    contents = [unpacked(file) for file in pulled.iterdir()]
    assert any(b"good morning" in content for content in contents)
    assert not any(PASSWORD.encode() in content for content in contents)


def unpacked(file: Path) -> bytes:
    if file.read_bytes()[:2] != b"\x1f\x8b":
        return file.read_bytes()
    return subprocess.run(["gzip", "-dc", file], capture_output=True, check=True).stdout


def test_a_private_parent_here_and_a_push_there(user: User, start_registry: Callable[..., DockerRegistry]) -> None:
    theirs, ours = start_registry("password-of-theirs"), start_registry("password-of-ours")
    use(user, theirs, "theirs", "/base")
    user.write("base/base.py", "BASE = 1\n")
    user.longshore("build", "base", "--tag", f"{theirs.host}/base/python:1").done()
    use(user, ours, "ours")
    # Nothing of the parent is here any more: it must come from its registry.
    shutil.rmtree(user.home / "data/registry")
    more = f', parent_image="{theirs.host}/base/python:1"'
    script = str(user.write("train.py", PIPELINE.format(more=more)))
    shown = user.python(script).done().stderr
    assert f"fetched  {theirs.host}/base/python" in shown
    name, digest = last_image(user)
    assert name.startswith(ours.host)
    found = inspect(name, "password-of-ours")
    parent = inspect(f"{theirs.host}/base/python:1", "password-of-theirs")
    assert found["Layers"][: len(parent["Layers"])] == parent["Layers"]
    assert "fetched  " not in user.python(script).done().stderr
    assert last_image(user)[1] == digest

    # The credentials of one are not sent to the other.
    user.longshore("container-registry", "disconnect", "theirs").done()
    refused = user.python(script).refused(1)
    assert f"{theirs.host} does not accept a request without credentials" in " ".join(refused.split())
    assert "docker login" in refused


def test_a_parent_of_docker_s_own_kind(user: User, start_registry: Callable[..., DockerRegistry]) -> None:
    registry = start_registry(None)
    user.write("base/base.py", "BASE = 1\n")
    user.longshore("build", "base", "--tag", "base:1").done()
    archive = user.folder / "base.tar"
    user.longshore("image", "export", "base:1", "--format", "docker", "-f", str(archive)).done()
    copy = ["skopeo", "copy", "--quiet", "--format", "v2s2", "--dest-tls-verify=false"]
    subprocess.run([*copy, f"docker-archive:{archive}", f"docker://{registry.host}/python:1"], check=True)
    more = f', parent_image="{registry.host}/python:1"'
    user.python(str(user.write("train.py", PIPELINE.format(more=more)))).done()
    manifest = json.loads(user.longshore("image", "inspect", last_image(user)[0], "-o", "json").done().stdout)[
        "manifest"
    ]
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_a_repository_of_amazon_is_made_on_the_first_push(
    user: User, amazon: str, start_registry: Callable[..., DockerRegistry]
) -> None:
    import boto3  # type: ignore[import-untyped]

    # moto serves ECR's API, whose token has this password; the registry itself is docker-registry.
    registry = start_registry(f"{ACCOUNT}-auth-token", "AWS")
    secret = "wJalrXUtnFEMI-K7MDENG-EXAMPLEKEY"
    keys = ("--aws_access_key_id=AKIAIOSFODNN7EXAMPLE", f"--aws_secret_access_key={secret}")
    connector = ("service-connector", "register", "aws_connector", "--type", "aws", "--auth-method=secret-key")
    user.longshore(*connector, *keys, f"--endpoint_url={amazon}").done()
    ecr = boto3.client(
        "ecr", "us-east-1", endpoint_url=amazon, aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x"
    )
    register = ("container-registry", "register", "ecr", "--flavor=aws", f"--uri={ECR}")
    settings = ("--immutable_tags=true", "--scan_on_push=yes", "--tags=team=ml")
    user.longshore(*register, *settings, "--connector", "aws_connector").done()
    user.longshore("stack", "register", "cloud", "-o", "local_container", "-c", "ecr", "--set").done()
    script = str(user.write("train.py", PIPELINE.format(more="")))

    def names() -> list[str]:
        return [repository["repositoryName"] for repository in ecr.describe_repositories()["repositories"]]

    with only_created(registry.host, lambda name: name in names()) as front:
        user.served_at(**{ECR.replace(".", "_"): front})
        user.longshore("container-registry", "update", "ecr", "--create_repositories=false").done()
        refused = " ".join(user.python(script).refused(1).split())
        assert "the repository does not exist" in refused
        assert "aws ecr create-repository --repository-name greeting --region us-east-1" in refused
        assert names() == []
        user.longshore("container-registry", "update", "ecr", "--create_repositories=true").done()
        assert f"created  the repository {ECR}/greeting" in user.python(script, LONGSHORE_LOG="debug").done().stderr
        name, digest = last_image(user)
        assert "created" not in user.python(script).done().stderr
    [made] = ecr.describe_repositories()["repositories"]
    assert made["repositoryName"] == "greeting"
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    assert ecr.list_tags_for_resource(resourceArn=made["repositoryArn"])["tags"] == [{"Key": "team", "Value": "ml"}]
    assert inspect(name.replace(ECR, registry.host), f"{ACCOUNT}-auth-token", "AWS")["Digest"] == digest
    said = "".join(outcome.stdout + outcome.stderr for outcome in user.said)
    for hidden in (secret, f"{ACCOUNT}-auth-token"):
        assert hidden not in said
        assert hidden.encode() not in user.bytes_kept()


def test_what_cannot_work_is_found_before_anything_is_built(
    user: User, start_registry: Callable[..., DockerRegistry]
) -> None:
    registry = start_registry()
    uri = f"--uri={registry.host}"
    user.longshore("container-registry", "register", "it", "--flavor=default", uri).done()
    user.longshore("stack", "register", "it", "-o", "local_container", "-c", "it", "--set").done()
    script = str(user.write("train.py", PIPELINE.format(more="")))
    refused = user.python(script).refused(1)
    assert "error   authenticate" in refused
    assert f"docker login {registry.host}" in refused
    assert "layer" not in refused, "nothing was made"
    assert max(map(len, refused.splitlines())) <= 80, refused
    # The remedy, by another program: its login is used.
    login = ["skopeo", "login", "--tls-verify=false", "-u", USERNAME, "-p", PASSWORD, registry.host]
    authfile = {**user.environment, "REGISTRY_AUTH_FILE": str(user.folder / "auth.json")}
    subprocess.run(login, env=authfile, check=True, capture_output=True)
    user.environment.update(authfile)
    user.python(script).done()
    registry.stop()
    refused = user.python(script).refused(1)
    assert "error   reach" in refused
    assert "Connection refused" in " ".join(refused.split())


@contextmanager
def web_server(answer: bytes) -> Iterator[str]:
    """A web site that is no registry."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as host:
        yield host


def diagnosis(user: User, host: str) -> str:
    """What the doctor says of a host with which something is wrong, in one line."""
    outcome = user.longshore("doctor", host)
    outcome.refused(1)
    return " ".join(outcome.stdout.split())


def hosts_file(user: User, text: str) -> None:
    folder = user.home / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(text)


def test_the_doctor_names_what_is_wrong_with_a_registry(
    user: User, start_registry: Callable[..., DockerRegistry]
) -> None:
    assert "cannot be resolved" in diagnosis(user, "registry.invalid")
    with web_server(b"<html>Welcome</html>") as host:
        assert "answered with a web page, so it is not a registry" in diagnosis(user, host)
    plain, secure = start_registry(None), start_registry(None, tls=True)
    hosts_file(user, f'["registry.internal"]\nserver = "https://{plain.host}"\n')
    assert "does not speak HTTPS" in diagnosis(user, "registry.internal")
    assert "speaks HTTPS and was asked over plain HTTP" in diagnosis(user, secure.host)
    hosts_file(user, f'["registry.internal"]\nserver = "https://{secure.host}"\n')
    assert "an authority that this machine does not trust" in diagnosis(user, "registry.internal")
    hosts_file(user, f'["registry.internal"]\nserver = "https://{secure.host}"\nca = "{secure.authority}"\n')
    assert "all is well" in user.longshore("doctor", "registry.internal").done().stdout


def test_the_doctor_looks_at_everything_that_is_registered(
    user: User, start_registry: Callable[..., DockerRegistry]
) -> None:
    registry = start_registry()
    use(user, registry)
    well = user.longshore("doctor").done().stdout
    assert "all is well" in well
    user.longshore("service-connector", "update", "theirs", "--password=not-it", "--no-verify").done()
    outcome = user.longshore("doctor", "-o", "json")
    outcome.refused(1)
    ill = json.loads(outcome.stdout)
    errors = {finding["check"]: finding for finding in ill if finding["level"] == "error"}
    assert set(errors) == {"authenticate", "connector"}
    assert "longshore service-connector update theirs" in errors["authenticate"]["remedy"]
    assert not any("not-it" in json.dumps(finding) for finding in ill)


def test_images_are_copied_between_registries(user: User, start_registry: Callable[..., DockerRegistry]) -> None:
    theirs, ours = start_registry(), start_registry(None)
    use(user, theirs)
    user.write("app/main.py", "print('hello')\n")
    built = json.loads(user.longshore("build", "app", "--tag", "app:1", "-r", "idna==3.10", "-o", "json").done().stdout)
    there = f"{theirs.host}/team/app:1"
    user.longshore("image", "copy", "app:1", there).done()
    assert inspect(there, PASSWORD)["Digest"] == built["digest"]
    elsewhere = json.loads(user.longshore("image", "copy", there, f"{ours.host}/app:2", "-o", "json").done().stdout)
    assert elsewhere["digest"] == built["digest"]
    assert elsewhere["moved"] > 1_000_000
    again = json.loads(user.longshore("image", "copy", there, f"{ours.host}/app:3", "-o", "json").done().stdout)
    assert again["moved"] == 0
    user.longshore("image", "copy", f"{ours.host}/app:3", "back:1").done()
    assert "hello" in user.longshore("image", "run", "back:1", "--", "python", "main.py").done().stdout
    described = json.loads(user.longshore("image", "inspect", there, "-o", "json").done().stdout)
    assert described["digest"] == built["digest"]
    missing = user.longshore("image", "copy", f"{ours.host}/none:1", "none:1").refused(1)
    assert f"{ours.host} does not have it" in " ".join(missing.split())


def test_of_an_image_for_several_platforms_this_machine_s_is_taken(
    user: User, start_registry: Callable[..., DockerRegistry]
) -> None:
    registry = start_registry(None)
    user.write("app/main.py", "print('hello')\n")
    user.longshore("build", "app", "--tag", f"{registry.host}/app:1", "-r", "idna==3.10").done()
    manifest = read(registry, "app/manifests/1", "application/vnd.oci.image.manifest.v1+json")
    own = {"amd64": "amd64", "x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + hashlib.sha256(manifest).hexdigest(),
        "size": len(manifest),
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**entry, "platform": {"os": "linux", "architecture": arch}} for arch in ("s390x", own)],
    }
    url = f"http://{registry.host}/v2/app/manifests/several"
    put = urllib.request.Request(url, json.dumps(index).encode(), {"Content-Type": index["mediaType"]}, method="PUT")
    urllib.request.urlopen(put).close()
    user.longshore("image", "copy", f"{registry.host}/app:several", "several:1").done()
    assert "hello" in user.longshore("image", "run", "several:1", "--", "python", "main.py").done().stdout
    for image in ("several:1", f"{registry.host}/app:several"):
        described = json.loads(user.longshore("image", "inspect", image, "-o", "json").done().stdout)
        assert described["digest"] == entry["digest"]
    only = json.loads(
        user.longshore(
            "image", "copy", f"{registry.host}/app:several", "only:1", "--platform", f"linux/{own}", "-o", "json"
        )
        .done()
        .stdout
    )
    assert only["digest"] == entry["digest"]
    more = f', parent_image="{registry.host}/app:several"'
    user.python(str(user.write("train.py", PIPELINE.format(more=more)))).done()


def read(registry: DockerRegistry, path: str, media_type: str) -> bytes:
    request = urllib.request.Request(f"http://{registry.host}/v2/{path}", headers={"Accept": media_type})
    with urllib.request.urlopen(request) as response:
        content: bytes = response.read()
    return content
