"""Container registries, service connectors and stacks: registered, connected and used, against real registries."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Iterator

import pytest

from .docker_registry import PASSWORD, USERNAME, DockerRegistry
from .machine import PROGRAM, Machine, Outcome

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "123456789012"
ECR = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
FLAVORS = [
    ("default", "registry.example.com:5000/team"),
    ("dockerhub", "docker.io/myusername"),
    ("gcp", "gcr.io/my-project"),
    ("gcp", "us-central1-docker.pkg.dev/my-project/my-repo"),
    ("azure", "myregistry.azurecr.io"),
    ("azure", "myregistry.azurecr.cn"),
    ("azure", "myregistry.azurecr.us"),
    ("aws", ECR),
    ("aws", f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com"),
    ("aws", f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn"),
    ("aws", "public.ecr.aws/alias"),
    ("github", "ghcr.io/myusername"),
]


class User(Machine):
    """A user whose home folder is empty, and who remembers all that was said."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "longshore", folder / "project")
        self.folder = folder / "home"
        self.folder.mkdir()
        for name in [name for name in self.environment if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "XDG_"))]:
            del self.environment[name]
        for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
            self.environment.pop(name, None)
        self.environment["HOME"] = str(self.folder)
        self.said: list[Outcome] = []

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> Outcome:
        outcome = super().run(*command, cwd=cwd, **environment)
        self.said.append(outcome)
        return outcome

    def served_at(self, **hosts: str) -> None:
        """Has registries served on loopback: their names, with `_` for `.`, and where."""
        entries = [f'["{name.replace("_", ".")}"]\nserver = "http://{host}"\n' for name, host in hosts.items()]
        folder = self.home / "config"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text("\n".join(entries))

    def listed(self, noun: str) -> list[str]:
        names = json.loads(self.longshore(noun, "list", "-o", "json").done().stdout)
        return [entry["name"] for entry in names]

    def connector(self, name: str = "connector", password: str = PASSWORD, *more: str) -> Outcome:
        credentials = (f"--username={USERNAME}", f"--password={password}")
        return self.longshore("service-connector", "register", name, "--type", "docker", *credentials, *more)

    def bytes_kept(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    registry = DockerRegistry(tmp_path / "registry")
    yield registry
    registry.stop()


@pytest.fixture
def amazon() -> Iterator[str]:
    """Where moto serves what AWS serves."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What it has is the process's, not the server's.
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.parametrize(("flavor", "uri"), FLAVORS)
def test_every_flavor_is_registered_connected_and_deleted(user: User, flavor: str, uri: str) -> None:
    user.longshore("container-registry", "register", "it", f"--flavor={flavor}", f"--uri={uri}").done()
    assert user.listed("container-registry") == ["embedded", "it"]
    described = json.loads(user.longshore("container-registry", "describe", "it", "-o", "json").done().stdout)
    assert (described["flavor"], described["uri"]) == (flavor, uri)
    # A connector takes the host of the component; nobody is asked.
    user.connector().done()
    user.longshore("container-registry", "connect", "it", "-c", "connector", "--no-verify").done()
    assert "connector" in user.longshore("container-registry", "describe", "it").done().stdout
    assert "disconnect it with" in user.longshore("service-connector", "delete", "connector").refused(1)
    user.longshore("container-registry", "disconnect", "it").done()
    user.longshore("service-connector", "delete", "connector").done()
    user.longshore("container-registry", "delete", "it").done()
    assert user.listed("container-registry") == ["embedded"]


@pytest.mark.parametrize(
    ("flavor", "uri", "remedy"),
    [
        ("gcp", "docker.io/foo", "use --flavor=dockerhub"),
        ("default", "not a uri at all !!", "it has a space"),
        ("default", "https://gcr.io/my-project", "leave out `https://`"),
        ("aws", "foo", "does not begin with a host"),
        ("aws", "12.dkr.ecr.us-east-1.amazonaws.com", "is not 12 digits"),
        ("azure", "evilazurecr.io", "<registry>.azurecr.io"),
        ("quay", "quay.io/me", "there are: default, dockerhub, gcp, azure, aws, github"),
    ],
)
def test_a_wrong_uri_is_refused_with_the_reason(user: User, flavor: str, uri: str, remedy: str) -> None:
    said = user.longshore("container-registry", "register", "it", f"--flavor={flavor}", f"--uri={uri}").refused(2)
    assert remedy in said
    assert user.listed("container-registry") == ["embedded"]


def test_credentials_in_a_uri_are_refused_and_not_repeated(user: User) -> None:
    uri = f"--uri=me:{PASSWORD}@gcr.io/p"
    said = user.longshore("container-registry", "register", "it", "--flavor=default", uri).refused(2)
    assert "service connector" in said
    assert PASSWORD not in said


def test_a_wrong_password_leaves_nothing(user: User, registry: DockerRegistry) -> None:
    said = user.connector("connector", "wrong-password", f"--registry={registry.host}").refused(1)
    assert f"cannot log in to {registry.host} as me" in said
    assert user.listed("service-connector") == []
    assert not (user.home / "data/secrets.key").exists()


def test_a_connection_that_fails_leaves_nothing(user: User, registry: DockerRegistry) -> None:
    user.connector("connector", "wrong-password").done()
    register = ("container-registry", "register", "it", "--flavor=default", f"--uri={registry.host}/team")
    said = user.longshore(*register, "--connector", "connector").refused(1)
    assert f"cannot log in to {registry.host}" in said
    assert user.listed("container-registry") == ["embedded"]
    # The password is corrected, and the same command works.
    user.longshore("service-connector", "update", "connector", f"--password={PASSWORD}").done()
    done = user.longshore(*register, "--connector", "connector").done()
    assert f"verified at {registry.host} as me" in done.stdout
    # An update that breaks the connection is refused as a whole.
    user.longshore("service-connector", "update", "connector", "--password=wrong-again").refused(1)
    user.longshore("service-connector", "verify", "connector").done()


def test_a_registry_that_is_not_there_leaves_nothing(user: User, registry: DockerRegistry) -> None:
    registry.stop()
    said = user.connector("connector", PASSWORD, f"--registry={registry.host}").refused(1)
    assert registry.host in said
    assert user.listed("service-connector") == []


def test_unknown_options_and_connectors_are_answered_with_those_there_are(user: User) -> None:
    register = ("container-registry", "register", "it", "--flavor=default", "--uri=registry.example.com")
    assert "there are: " in user.longshore("container-registry", "describe", "it").refused(2)
    assert "service-connector register nope" in user.longshore(*register, "--connector", "nope").refused(2)
    assert "did you mean `--uri`?" in user.longshore(*register[:-1], "--urii=x").refused(2)
    said = user.longshore(*register, "--kms_key=k").refused(2)
    assert "has no option `kms_key`; it takes: uri, default_repository" in said
    said = user.connector("connector", PASSWORD, "--tenant_id=t").refused(2)
    assert "username, password, registry" in said
    assert user.listed("service-connector") == []


def image(folder: Path) -> str:
    """An image without layers, in a form that skopeo reads."""
    layout = folder / "layout"
    subprocess.run(["umoci", "init", "--layout", str(layout)], check=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:1"], check=True)
    return f"oci:{layout}:1"


def test_skopeo_uses_what_login_writes(user: User, registry: DockerRegistry, tmp_path: Path) -> None:
    copy = ("skopeo", "copy", "--dest-tls-verify=false", image(tmp_path), f"docker://{registry.host}/team/app:1")
    assert user.run(*copy).code != 0
    user.connector("connector").done()
    said = user.longshore("service-connector", "login", "connector").refused(2)
    assert "name one with --registry=HOST" in said
    register = ("container-registry", "register", "it", "--flavor=default", f"--uri={registry.host}/team")
    user.longshore(*register, "--connector", "connector").done()
    done = user.longshore("service-connector", "login", "connector").done()
    config = user.folder / ".docker/config.json"
    assert f"credentials for {registry.host} are written to {config}" in done.stdout
    assert config.stat().st_mode & 0o777 == 0o600
    user.run(*copy).done()
    inspect = user.run("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/team/app:1").done()
    assert json.loads(inspect.stdout)["RepoTags"] == ["1"]


def test_secrets_are_nowhere_in_the_clear(user: User, registry: DockerRegistry, tmp_path: Path) -> None:
    register = ("container-registry", "register", "it", "--flavor=default", f"--uri={registry.host}")
    user.connector("connector", PASSWORD, f"--registry={registry.host}", "--verbose").done()
    user.longshore(*register, "--connector", "connector", LONGSHORE_LOG="trace").done()
    for output in ("table", "json", "yaml"):
        for command in ("list", "describe", "verify"):
            name = [] if command == "list" else ["connector"]
            user.longshore("service-connector", command, *name, "--output", output, "--verbose").done()
    assert "***" in user.longshore("service-connector", "describe", "connector").done().stdout
    user.longshore("service-connector", "update", "connector", "--password=wrong-password").refused(1)
    user.longshore("service-connector", "list-resources", LONGSHORE_LOG="trace").done()
    said = "".join(outcome.stdout + outcome.stderr for outcome in user.said)
    kept = user.bytes_kept()
    for secret in (PASSWORD, "wrong-password"):
        assert secret not in said
        assert secret.encode() not in kept
    assert (user.home / "data/secrets.key").stat().st_mode & 0o777 == 0o600


def test_values_come_from_files_and_standard_input(user: User, registry: DockerRegistry) -> None:
    secret = user.write("password", PASSWORD + "\n")
    user.connector("from_file", f"@{secret}", f"--registry={registry.host}").done()
    line = (
        f"printf %s '{PASSWORD}' | $LONGSHORE_BIN service-connector register from_stdin --type docker "
        f"--auth_method password --username {USERNAME} --password - --registry {registry.host}"
    )
    user.run("sh", "-c", line).done()
    assert "cannot read the file /no/file" in user.connector("c", "@/no/file").refused(2)
    user.connector("dashes", "--a_b-c", "--no-verify").done()


def test_a_docker_connector_takes_the_host_it_is_connected_to(user: User, registry: DockerRegistry) -> None:
    nobody = "127.0.0.1:1"
    user.served_at(ghcr_io=registry.host, docker_io=nobody)
    done = user.connector("github_connector").done()
    assert "not verified yet" in done.stdout
    # With Docker Hub there, it is the registry of credentials that name none, unless they are plainly for another.
    user.served_at(ghcr_io=registry.host, docker_io=registry.host)
    assert "verified at docker.io as me" in user.connector("dockerhub_connector").done().stdout
    refused = user.connector("wrong", "not-the-password").refused(1)
    assert "name it: --registry=HOST" in refused
    assert "wrong" not in user.listed("service-connector")
    assert "not verified yet" in user.connector("of_github", "ghp_0123456789").done().stdout
    ghcr = ("container-registry", "register", "ghcr", "--flavor=github", "--uri=ghcr.io/myusername")
    assert "verified at ghcr.io as me" in user.longshore(*ghcr, "--connector", "github_connector").done().stdout
    # One that names a registry is for that one.
    user.connector("hub_connector", PASSWORD, "--registry=docker.io").done()
    said = user.longshore("container-registry", "connect", "ghcr", "--connector", "hub_connector").refused(1)
    assert "ghcr.io" in said
    described = json.loads(user.longshore("container-registry", "describe", "ghcr", "-o", "json").done().stdout)
    assert described["connector"] == "github_connector"


def test_amazon(user: User, amazon: str) -> None:
    keys = ("--aws_access_key_id=AKIAIOSFODNN7EXAMPLE", "--aws_secret_access_key=wJalrXUtnFEMI-K7MDENG-EXAMPLEKEY")
    connector = ("service-connector", "register", "aws_connector", "--type", "aws", "--auth-method=secret-key")
    done = user.longshore(*connector, *keys, f"--endpoint_url={amazon}").done()
    assert "verified as arn:aws:" in done.stdout
    register = ("container-registry", "register", "ecr", "--flavor=aws", f"--uri={ECR}")
    settings = ("--immutable_tags=true", "--scan_on_push=yes", "--tags=team=ml")
    assert f"verified at {ECR}" in user.longshore(*register, *settings, "--connector", "aws_connector").done().stdout
    described = json.loads(user.longshore("container-registry", "describe", "ecr", "-o", "json").done().stdout)
    assert described["configuration"] == {
        "uri": ECR, "immutable_tags": "true", "scan_on_push": "true", "tags": "team=ml",
    }  # fmt: skip
    import boto3  # type: ignore[import-untyped]

    ecr = boto3.client(
        "ecr", "us-east-1", endpoint_url=amazon, aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x"
    )
    ecr.create_repository(repositoryName="training_pipeline")
    found = json.loads(user.longshore("service-connector", "list-resources", "-o", "json").done().stdout)
    assert found[0]["registries"] == {ECR: ["training_pipeline"]}
    table = user.longshore("service-connector", "list-resources", "aws_connector").done().stdout.splitlines()
    assert [line.split() for line in table] == [
        ["CONNECTOR", "REGISTRY", "REPOSITORY"],
        ["aws_connector", ECR, "training_pipeline"],
    ]
    written = user.longshore("service-connector", "login", "aws_connector").done().stdout
    assert f"credentials for {ECR} are written to" in written
    assert "good until 20" in written
    hub = ("container-registry", "register", "hub", "--flavor=dockerhub", "--uri=docker.io/me")
    said = user.longshore(*hub, "--connector", "aws_connector").refused(2)
    assert "takes one of: docker" in said


def test_stacks(user: User) -> None:
    user.longshore("container-registry", "register", "hub", "--flavor=dockerhub", "--uri=docker.io/me").done()
    register = ("stack", "register", "prod", "-o", "local_container")
    assert "needs a container registry" in user.longshore(*register).refused(2)
    user.longshore(*register, "-c", "hub", "--set").done()
    assert user.longshore("stack", "get").done().stdout == "prod\n"
    assert "used by stack `prod`" in user.longshore("container-registry", "delete", "hub").refused(1)
    assert "it is the active one" in user.longshore("stack", "delete", "prod").refused(1)
    assert "is built in" in user.longshore("stack", "delete", "default").refused(1)
    user.longshore("stack", "rename", "prod", "production").done()
    user.longshore("stack", "copy", "production", "staging").done()
    user.longshore("stack", "update", "staging", "-c", "embedded").done()
    assert "hub (dockerhub, docker.io/me)" in user.longshore("stack", "describe").done().stdout
    user.longshore("stack", "set", "default").done()
    for name in ("production", "staging"):
        user.longshore("stack", "delete", name).done()
    user.longshore("container-registry", "rename", "hub", "docker-hub").done()
    user.longshore("container-registry", "delete", "docker-hub").done()
    assert "there is no stack named `prod`" in user.longshore("stack", "set", "prod").refused(2)


def test_nothing_is_half_registered_by_many_at_once(user: User, registry: DockerRegistry) -> None:
    processes = [
        user.start(
            *(str(PROGRAM), "service-connector", "register", f"c{number % 4}", "--type=docker"),
            *(f"--username={USERNAME}", f"--password={PASSWORD}", f"--registry={registry.host}"),
        )
        for number in range(8)
    ]
    codes = sorted(process.wait(timeout=60) for process in processes)
    for process in processes:
        process.communicate()
    assert codes == [0] * 4 + [1] * 4
    assert user.listed("service-connector") == ["c0", "c1", "c2", "c3"]
    for name in user.listed("service-connector"):
        user.longshore("service-connector", "verify", name).done()


def test_completion_knows_the_options_of_the_tables(user: User) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = user.longshore("completion", shell).done().stdout
        for option in ("service-account-json", "immutable-tags", "auth-method"):
            assert option in script, (shell, option)


def test_an_interrupted_registration_leaves_nothing(user: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        registry = f"--registry=127.0.0.1:{silent.getsockname()[1]}"
        command = ("service-connector", "register", "connector", "--type=docker", "--username=me")
        for end in (signal.SIGINT, signal.SIGKILL):
            process = user.start(str(PROGRAM), *command, "--password=x", registry)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(end)
                _, stderr = process.communicate(timeout=60)
            assert process.returncode != 0
            assert "Traceback" not in stderr
            assert "panicked" not in stderr
            assert user.listed("service-connector") == []


WHERE = """
from longshore import pipeline, step

@step
def here() -> None:
    print("in", __name__)

@pipeline
def p():
    here()

p()
"""


def test_runs_use_the_active_stack(user: User) -> None:
    user.write("where.py", WHERE)
    user.longshore("stack", "register", "here", "-o", "local", "--set").done()
    assert "in " in user.python("where.py").done().stdout
    user.longshore("stack", "set", "default").done()
    user.longshore("stack", "delete", "here").done()
    said = user.python("where.py", LONGSHORE_STACK="here").refused(1, 2)
    assert "there is no stack named `here`; there are: default, local" in said
