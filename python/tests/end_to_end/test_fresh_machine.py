"""Machines that have never seen a project, and a registry that has its images."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

from .docker_registry import DockerRegistry
from .machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ["-r", "six==1.16.0", "-r", "markupsafe==3.0.2"]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CACHE = "longshore-cache"


class Watched:
    """A registry, whose log says what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = DockerRegistry(folder, None)
        self.host = self.server.host
        self._seen = 0

    def asked(self) -> list[tuple[str, str]]:
        """Methods and paths since the last time."""
        log = (self.folder / "log").read_text()
        new, self._seen = log[self._seen :], len(log)
        return re.findall(r'"(GET|HEAD|PUT|POST|PATCH|DELETE) (/v2/\S*) HTTP', new)

    def blobs_sent(self) -> set[str]:
        """The digests of the blobs that it has sent since the last time."""
        found = (re.fullmatch(r"/v2/.*/blobs/(sha256:\w+)", path) for method, path in self.asked() if method == "GET")
        return {match[1] for match in found if match}

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(f"http://{self.host}/v2/{path}", headers={"Accept": MANIFEST})
        with urllib.request.urlopen(request, timeout=30) as response:
            content: bytes = response.read()
        return content

    def manifest(self, repository: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get(f"{repository}/manifests/{name}"))
        return found

    def layers(self, repository: str, name: str) -> list[str]:
        return [layer["digest"] for layer in self.manifest(repository, name)["layers"]]

    def put_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        start = urllib.request.Request(f"http://{self.host}/v2/{repository}/blobs/uploads/", b"", method="POST")
        with urllib.request.urlopen(start, timeout=30) as response:
            place = response.headers["Location"]
        url = f"{place}&digest={digest}"
        kind = {"Content-Type": "application/octet-stream"}
        urllib.request.urlopen(urllib.request.Request(url, content, kind, method="PUT"), timeout=30).close()
        return {"digest": digest, "size": len(content)}

    def lose(self, digest: str) -> None:
        """Deletes the bytes of a blob, as a clean-up that goes too far does."""
        hexadecimal = digest.split(":")[1]
        folder = self.folder / "storage/docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal
        (folder / "data").unlink()

    def rows(self, repository: str) -> dict[str, Any]:
        [blob] = self.manifest(repository, CACHE)["layers"]
        content: dict[str, Any] = json.loads(gzip.decompress(self.get(f"{repository}/blobs/{blob['digest']}")))
        return content

    def change_rows(self, repository: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Writes rows of anybody's making in place of those that are there."""
        manifest, content = self.manifest(repository, CACHE), self.rows(repository)
        change(content)
        manifest["layers"][0].update(self.put_blob(repository, gzip.compress(json.dumps(content).encode())))
        url = f"http://{self.host}/v2/{repository}/manifests/{CACHE}"
        put = urllib.request.Request(url, json.dumps(manifest).encode(), {"Content-Type": MANIFEST}, method="PUT")
        urllib.request.urlopen(put, timeout=30).close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "registry")
    yield watched
    watched.server.stop()


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Machine]:
    """A new machine each time, with a copy of the same project."""
    count = iter(range(100))

    def make() -> Machine:
        number = next(count)
        machine = Machine(tmp_path / f"home-{number}", tmp_path / f"project-{number}")
        machine.write("app/main.py", "import six, markupsafe\nprint('one')\n")
        return machine

    return make


@pytest.fixture
def first(fresh: Callable[[], Machine], shared_home: Path) -> Machine:
    """A machine that has a parent image, and the code of another."""
    machine = fresh()
    machine.write("base/base.py", "BASE = 1\n")
    (machine.home / "data").mkdir(parents=True)
    for folder in ("cache", "data/registry"):
        subprocess.run(["cp", "-al", shared_home / folder, machine.home / folder], check=True)
    return machine


def build(
    machine: Machine, image: str, *options: str, packages: list[str] = PACKAGES, code: str = "app"
) -> tuple[str, str]:
    """The digest of the image, and what was shown."""
    arguments = ("build", code, "--tag", image, "-o", "json", *packages, *options)
    outcome = machine.longshore(*arguments, LONGSHORE_LOG="debug").done()
    return json.loads(outcome.stdout)["digest"], outcome.stderr


def has_downloaded(machine: Machine) -> bool:
    return any(path.is_file() for path in (machine.home / "cache/downloads").rglob("*"))


def layers_here(machine: Machine, registry: Watched, repository: str, name: str) -> list[str]:
    """The layers of an image that the machine has on its disk."""
    folder = machine.home / "data/registry"
    names = {path.name for path in folder.rglob("*")}
    return [digest for digest in registry.layers(repository, name) if digest.split(":")[1] in names]


def test_nothing_that_the_registry_has_is_fetched_or_made(
    registry: Watched, first: Machine, fresh: Callable[[], Machine]
) -> None:
    image = f"{registry.host}/team/app:1"
    digest, _ = build(first, image)
    registry.asked()

    # The same inputs: nothing moves but a few documents.
    second = fresh()
    again, shown = build(second, image)
    assert again == digest
    assert not registry.blobs_sent() & set(registry.layers("team/app", "1"))
    assert not has_downloaded(second)
    assert "fetched" not in shown
    assert "Debian" in shown

    # Another line of code: one layer is made.
    third = fresh()
    third.write("app/main.py", "import six, markupsafe\nprint('two')\n")
    other, shown = build(third, f"{registry.host}/team/app:2")
    assert other != digest
    assert not registry.blobs_sent() & set(registry.layers("team/app", "2"))
    assert not has_downloaded(third)
    assert " in 1 new layer;" in shown
    here = layers_here(third, registry, "team/app", "2")
    assert here == registry.layers("team/app", "2")[-1:], "only the code"

    # The image is what a machine makes that has everything.
    first.write("app/main.py", "import six, markupsafe\nprint('two')\n")
    assert build(first, f"{registry.host}/team/app:3")[0] == other


def test_one_package_changes_and_only_its_layers_are_made(
    registry: Watched, first: Machine, fresh: Callable[[], Machine]
) -> None:
    others = ["-r", "markupsafe==3.0.2", "-r", "idna==3.10", "-r", "click==8.1.8", "-r", "certifi==2024.12.14"]
    build(first, f"{registry.host}/app:1", packages=[*others, "-r", "six==1.16.0"])
    before = registry.layers("app", "1")
    changed = [*others, "-r", "six==1.17.0"]
    machine = fresh()
    digest, _ = build(machine, f"{registry.host}/app:2", packages=changed)
    new = [layer for layer in registry.layers("app", "2") if layer not in before]
    assert len(new) == 2, "a layer of wheels, and its bytecode"
    wheels = [path for path in (machine.home / "cache/downloads").rglob("*") if path.is_file()]
    assert 1 <= len(wheels) < 5, "the wheels of that layer"
    assert build(first, f"{registry.host}/app:3", packages=changed)[0] == digest


def test_a_parent_in_a_registry_stays_there(registry: Watched, first: Machine, fresh: Callable[[], Machine]) -> None:
    build(first, f"{registry.host}/base/python:1", packages=[], code="base")
    options = ("--parent", f"{registry.host}/base/python:1")
    image = f"{registry.host}/app:1"
    digest, _ = build(first, image, *options)
    registry.asked()
    second = fresh()
    again, shown = build(second, image, *options)
    assert again == digest
    assert not registry.blobs_sent() & set(registry.layers("app", "1"))
    assert not has_downloaded(second)
    assert not layers_here(second, registry, "app", "1")[:-1]

    # Its tag moves: that is said, and the new one is built on.
    first.write("base/base.py", "BASE = 2\n")
    moved, _ = build(first, f"{registry.host}/base/python:1", packages=[], code="base")
    third = fresh()
    other, shown = build(third, image, *options)
    assert other != digest
    assert re.search(rf"base/python:1 moved from sha256:\w+ to {moved}", " ".join(shown.split())), shown


def test_an_unknown_parent_is_read_and_not_run(registry: Watched, first: Machine, fresh: Callable[[], Machine]) -> None:
    build(first, f"{registry.host}/base/python:1", packages=[], code="base")
    machine = fresh()
    image, parent = f"{registry.host}/app:1", f"{registry.host}/base/python:1"
    registry.asked()
    refused = machine.longshore("build", "app", "--tag", image, "--parent", parent, "--dry-run").refused(1)
    assert "--dry-run" in refused
    assert not registry.blobs_sent() & set(registry.layers("base/python", "1"))
    build(machine, image, "--parent", parent, "--no-bytecode", packages=[])
    assert not list((machine.home / "cache").rglob("*/usr/bin/python3*")), "nothing was unpacked"
    described = machine.longshore("build", "app", "--tag", image, "--parent", parent, "--dry-run", "-o", "json").done()
    assert "Python 3." in described.stdout


def test_layers_of_a_parent_go_from_registry_to_registry(
    registry: Watched, first: Machine, fresh: Callable[[], Machine], tmp_path: Path
) -> None:
    build(first, f"{registry.host}/base/python:1", packages=[], code="base")
    parent = ("--parent", f"{registry.host}/base/python:1")
    other = Watched(tmp_path / "other")
    try:
        digest, _ = build(first, f"{other.host}/app:1", *parent)
        # It forgets the parent's layers; the table beside the image knows all that is said of them.
        lost = registry.layers("base/python", "1")[0]
        other.lose(lost)
        machine = fresh()
        assert build(machine, f"{other.host}/app:1", *parent)[0] == digest
        assert "sha256:" + hashlib.sha256(other.get(f"app/blobs/{lost}")).hexdigest() == lost
        assert not layers_here(machine, registry, "base/python", "1"), "it passed through memory"
    finally:
        other.server.stop()


def layer_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for build in content["builds"] for row in build["rows"] if row["kind"] == "layer"]


def wheel_row(content: dict[str, Any]) -> dict[str, Any]:
    """The row of a layer of wheels."""
    return next(row for row in layer_rows(content) if "wheels" in row["key"])


@pytest.mark.parametrize("what", ["digest", "size", "diff_id", "form"])
def test_a_poisoned_row_is_not_used(what: str, registry: Watched, first: Machine, fresh: Callable[[], Machine]) -> None:
    image = f"{registry.host}/app:1"
    digest, _ = build(first, image, "--no-bytecode")
    other = registry.put_blob("app", b"something else")["digest"]
    wrong = {"digest": other, "size": 14, "diff_id": other, "form": "no record"}[what]

    def poison(content: dict[str, Any]) -> None:
        row = wheel_row(content)
        if what == "form":
            row["value"] = wrong
        else:
            row["value"][what] = wrong

    registry.change_rows("app", poison)
    machine = fresh()
    again, shown = build(machine, image, "--no-bytecode")
    assert again == digest
    assert "fetched" in shown
    assert has_downloaded(machine), "its wheels were needed"
    # What is written in its place is right.
    registry.asked()
    third = fresh()
    assert build(third, image, "--no-bytecode")[0] == digest
    assert not has_downloaded(third)


def test_an_artifact_that_is_none_is_passed_over(
    registry: Watched, first: Machine, fresh: Callable[[], Machine]
) -> None:
    image = f"{registry.host}/app:1"
    digest, _ = build(first, image, "--no-bytecode")

    def spoil(content: dict[str, Any]) -> None:
        for entry in content["builds"]:
            entry["image"] = "sha256:" + "0" * 64

    registry.change_rows("app", spoil)
    machine = fresh()
    machine.environment["LONGSHORE_LOG"] = "debug"
    rows = registry.rows("app")
    assert layer_rows(rows)
    # Nobody vouches for the layers: they are made again.
    assert build(first, image, "--no-bytecode")[0] == digest


def test_what_the_registry_has_lost_is_made_or_sent_again(
    registry: Watched, first: Machine, fresh: Callable[[], Machine]
) -> None:
    image = f"{registry.host}/app:1"
    digest, _ = build(first, image, "--no-bytecode")
    wheels = wheel_row(registry.rows("app"))["value"]["digest"]
    # By a machine that has it,
    registry.lose(wheels)
    assert build(first, image, "--no-bytecode")[0] == digest
    assert registry.get(f"app/blobs/{wheels}")
    # and by one that has not.
    registry.lose(wheels)
    machine = fresh()
    assert build(machine, image, "--no-bytecode")[0] == digest
    assert has_downloaded(machine)
    assert "sha256:" + hashlib.sha256(registry.get(f"app/blobs/{wheels}")).hexdigest() == wheels


PIPELINE = """
import os

from longshore import pipeline, step
from longshore.config import DockerSettings

@step
def greet() -> str:
    return "hello"

anew = "ANEW" in os.environ
docker = DockerSettings(requirements=["six==1.16.0"], compile_bytecode=False, prevent_build_reuse=anew)

@pipeline(settings={"docker": docker})
def greeting():
    greet()

greeting()
"""


def test_a_build_that_reuses_nothing_gives_the_same(first: Machine) -> None:
    script = str(first.write("pipeline/train.py", PIPELINE))

    def run(**environment: str) -> tuple[str, str]:
        outcome = first.python(script, **environment).done()
        found = re.search(r"image +(sha256:\w+)", outcome.stderr)
        assert found, outcome
        return found[1], outcome.stderr

    run()
    digest, shown = run()
    assert "already there" in shown
    again, shown = run(ANEW="1")
    assert "already there" not in shown
    assert again == digest


def test_no_folder_of_a_machine_is_in_what_is_shared(registry: Watched, first: Machine) -> None:
    build(first, f"{registry.host}/app:1")
    text = json.dumps(registry.rows("app"))
    for private in (str(first.home), str(first.project), "file:"):
        assert private not in text
    kinds = {row["kind"] for entry in registry.rows("app")["builds"] for row in entry["rows"]}
    assert "scan" not in kinds
    assert {"layer", "lock", "parent-plan", "parent-image", "document"} <= kinds
    try:
        registry.get(f"app/manifests/{CACHE}")
    except urllib.error.HTTPError as error:
        pytest.fail(str(error))
