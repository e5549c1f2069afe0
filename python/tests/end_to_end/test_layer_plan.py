"""Which layers an image has, why each is made or not, and what would be moved."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Iterator

import pytest

from .docker_registry import DockerRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

SIX, IDNA = ("-r", "six==1.16.0"), ("-r", "idna==3.10")
GIFTS = ("-r", "markupsafe==3.0.2")


@pytest.fixture
def project(machine: Machine) -> Machine:
    machine.write("main.py", "print('hello')\n")
    return machine


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    registry = DockerRegistry(tmp_path / "docker-registry", password=None)
    yield registry
    registry.stop()


def build(machine: Machine, *options: str, tag: str) -> str:
    """Builds, and gives the digest."""
    built = json.loads(machine.longshore("build", ".", "--tag", tag, "-o", "json", *options).done().stdout)
    return str(built["digest"])


def plan(machine: Machine, *options: str, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        machine.longshore("build", ".", "--tag", tag, "-o", "json", *options).done().stdout
    )
    return found


def why(machine: Machine, *options: str, tag: str) -> dict[str, str]:
    """Why each layer of the one image would be made or not, by its title."""
    (image,) = plan(machine, "--explain", *options, tag=tag)["images"]
    return {layer["title"]: layer["why"] for layer in image["layers"]}


def kept(machine: Machine) -> dict[str, int]:
    """Every blob and every download of the machine, and every manifest."""
    files = [*machine.home.glob("data/registry/**/*"), *machine.home.glob("cache/downloads/**/*")]
    return {str(file): file.stat().st_size for file in files if file.is_file()}


def asked(registry: DockerRegistry, begin: int = 0) -> list[tuple[str, str]]:
    """The methods and paths of the requests that a registry got, from the given one on."""
    return re.findall(r'"(GET|HEAD|POST|PUT|PATCH|DELETE) (/v2/\S*) HTTP', registry.log())[begin:]


def only_looked(requests: list[tuple[str, str]]) -> bool:
    """Whether nothing was changed or moved: of what is there, only the shared table may be read."""
    table = re.compile("/v2/|/v2/.*/manifests/longshore-cache")
    return bool(requests) and all(
        method == "HEAD" or (method == "GET" and table.fullmatch(path)) for method, path in requests
    )


def test_each_layer_says_why(project: Machine) -> None:
    first = why(project, *SIX, *IDNA, tag="why:1")
    assert first["code: 1 file"] == "new: the repository's first build here"
    assert first["idna 3.10"] == "reused: made here before"
    build(project, *SIX, *IDNA, tag="why:1")
    assert set(why(project, *SIX, *IDNA, tag="why:2").values()) == {"reused: as in the last build"}

    project.write("main.py", "print('good morning')\n")
    project.write("more.py", "")
    second = why(project, "-r", "six==1.17.0", *GIFTS, *IDNA, tag="why:2")
    assert second["code: 2 files"] == "new: code: main.py changed, +more.py"
    assert second["idna 3.10"] == "reused: as in the last build"
    # These two share a bin, and nothing else is another than its layer and its bytecode.
    shared = "new: bin 8: +markupsafe 3.0.2, six 1.17.0 was 1.16.0 in the last build"
    assert second["markupsafe, six"] == second["bytecode of markupsafe, six"] == shared
    assert len([reason for reason in second.values() if reason.startswith("new: ")]) == 3

    shown = project.longshore("build", ".", "--tag", "why:2", "--explain", *SIX, *GIFTS).done().stdout
    assert "new: bin 8: +markupsafe 3.0.2" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    zstd = why(project, *SIX, *IDNA, "--compression", "zstd", tag="why:3")
    assert zstd["idna 3.10"] == "new: layers are in zstd now"


def test_who_only_asks_moves_nothing(project: Machine) -> None:
    options = ("-r", "typing-extensions==4.12.2", *GIFTS)
    before = kept(project)
    shown = project.longshore("build", ".", "--tag", "asked:1", "--dry-run", "--explain", *options).done().stdout
    assert "typing-extensions 4.12.2" in shown
    assert "to push: 0 B" in shown
    assert kept(project) == before
    found = plan(project, "--dry-run", *options, tag="asked:1")
    (typing,) = [it for it in found["movements"] if it["what"] == "typing-extensions 4.12.2"]
    assert (typing["way"], typing["to"], typing["estimated"]) == ("fetch", "this machine", False)
    assert found["fetch"] == sum(it["bytes"] for it in found["movements"]) == found["moved"] > 30_000

    said = project.longshore("build", ".", "--tag", "asked:1", "--fail-if-moved", "1kB", *options).refused(1)
    assert "--fail-if-moved allows 1.0 kB: fetch typing-extensions 4.12.2 (37.4 kB)" in said
    assert "first build here. Nothing was moved" in said
    assert kept(project) == before
    project.longshore("build", ".", "--tag", "asked:1", "--fail-if-moved", "10MiB", *options).done()
    assert plan(project, "--dry-run", *options, tag="asked:1")["moved"] == 0
    assert "is not a number of bytes" in project.longshore(
        "build", ".", "--tag", "asked:1", "--fail-if-moved", "a lot"
    ).refused(2)


def test_a_registry_is_asked_with_heads_alone(project: Machine, registry: DockerRegistry) -> None:
    name = f"{registry.host}/team/app"
    first = plan(project, "--dry-run", *IDNA, tag=f"{name}:1")
    assert first["fetch"] == 0
    pushed = [it for it in first["movements"] if it["way"] == "push"]
    assert {it["to"] for it in pushed} == {name}
    assert only_looked(asked(registry))
    build(project, *IDNA, tag=f"{name}:1")
    number = len(asked(registry))

    # The code alone is another: a few kilobytes are to be moved, and that holds.
    project.write("main.py", "print('good morning')\n")
    second = plan(project, "--dry-run", *IDNA, tag=f"{name}:2")
    assert {it["what"] for it in second["movements"]} == {"code: 1 file", "configuration and manifest"}
    assert 1_000 < second["moved"] < 20_000
    assert only_looked(asked(registry, number))
    project.longshore("build", ".", "--tag", f"{name}:2", "--fail-if-moved", "20kB", *IDNA).done()
    said = project.longshore("build", ".", "--tag", f"{name}:3", "--fail-if-moved", "20kB", *SIX).refused(1)
    assert "push" in said
    assert "six 1.16.0" in said

    # Another repository of the registry gets the layers from this one.
    third = plan(project, "--dry-run", *IDNA, tag=f"{registry.host}/team/other:1")
    mounted = [it for it in third["movements"] if it["way"] == "mount"]
    assert third["moved"] < 20_000
    assert third["mount"] == sum(it["bytes"] for it in mounted) > 10_000_000
    assert {it["from"] for it in mounted} == {name}


def test_an_image_has_no_more_layers_than_it_may(project: Machine) -> None:
    packages = [*SIX, *IDNA, *GIFTS, "-r", "typing-extensions==4.12.2"]
    build(project, *packages, "--layers", "13", tag="few:1")
    manifest = json.loads(project.longshore("image", "inspect", "few:1", "-o", "json").done().stdout)["manifest"]
    assert len(manifest["layers"]) <= 13
    command = ["python", "-c", "import six, idna, markupsafe, typing_extensions; print('all there')"]
    assert "all there" in project.longshore("image", "run", "few:1", "--", *command).done().stdout
    said = project.longshore("build", ".", "--tag", "few:2", "--layers", "7", *packages).refused(1)
    assert "at most 7 layers has no room" in said
    assert "set `layers` to at least 12" in said
    assert "at most 127 layers" in project.longshore("build", ".", "--tag", "few:3", "--layers", "128").refused(1)
