"""Layers of large wheels, whose bytes are on the disk once: to everybody else they are layers like any other."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import tarfile
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from .docker_registry import DockerRegistry
from .package_index import wheel

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

WHEEL = "bulky-1.0-py3-none-any.whl"
TEXT = base64.b64encode(random.Random(7).randbytes(14_000_000)).decode()
CODE = "import hashlib, pathlib, bulky\nprint(hashlib.sha256(pathlib.Path(bulky.DATA).read_bytes()).hexdigest())\n"
RUNS = hashlib.sha256(TEXT.encode()).hexdigest() + "\n"


def call(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def project(machine: Machine) -> Machine:
    """A project that needs a wheel of more than 8 MiB."""
    machine.write("main.py", CODE)
    files = {
        "bulky/__init__.py": "DATA = __file__.replace('__init__.py', 'data.txt')\n",
        "bulky/data.txt": TEXT,
        **{f"bulky/small_{number}.py": f"N = {number}\n" for number in range(50)},
    }
    (machine.project / WHEEL).write_bytes(wheel("bulky", "1.0", files))
    (machine.project / ".dockerignore").write_text("*.whl\n")
    return machine


def build(machine: Machine, tag: str, *options: str) -> dict[str, Any]:
    requirement = f"bulky @ file://{machine.project / WHEEL}"
    done = machine.longshore("build", ".", "--tag", tag, "-r", requirement, "-o", "json", *options).done()
    built: dict[str, Any] = json.loads(done.stdout)
    return built


def layers(machine: Machine, image: str) -> list[dict[str, Any]]:
    found = json.loads(machine.longshore("image", "inspect", image, "-o", "json").done().stdout)
    listed: list[dict[str, Any]] = found["manifest"]["layers"]
    return listed


def composed(machine: Machine, image: str) -> Path:
    """The folder of the one layer of an image that is composed."""
    blobs = machine.home / "data/registry/blobs/sha256"
    names = [layer["digest"].removeprefix("sha256:") for layer in layers(machine, image)]
    folders = [folder for name in names if (folder := blobs / name[:2] / f"{name}.composed").exists()]
    assert len(folders) == 1, folders
    return folders[0]


def download(machine: Machine) -> Path:
    name = hashlib.sha256((machine.project / WHEEL).read_bytes()).hexdigest()
    return machine.home / "cache/downloads/sha256" / name[:2] / name


@pytest.mark.parametrize("lazy", [[], ["--lazy", "estargz"]], ids=["gzip", "estargz"])
def test_others_read_it_as_any_other(project: Machine, server: str, tmp_path: Path, lazy: list[str]) -> None:
    name = "bulky-lazy" if lazy else "bulky-plain"
    built = build(project, f"{name}:1", *lazy)
    folder = composed(project, f"{name}:1")
    assert (folder / "source").samefile(download(project))
    assert (folder / "recipe").stat().st_size < 20_000
    for _ in range(2):
        ran = project.longshore("image", "run", f"{name}:1", "--", "python", "main.py").done()
        assert ran.stdout == RUNS

    # Exported and unpacked: umoci checks every digest and every diff_id.
    project.longshore("image", "export", f"{name}:1", "-f", f"{tmp_path}/it.tar").done()
    call("skopeo", "copy", "--preserve-digests", f"oci-archive:{tmp_path}/it.tar", f"oci:{tmp_path}/layout:it")
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    call("umoci", "unpack", *rootless, "--image", f"{tmp_path}/layout:it", f"{tmp_path}/bundle")
    found = list((tmp_path / "bundle/rootfs/opt/venv/lib").glob("python3.*/site-packages/bulky/data.txt"))
    assert [file.read_text() == TEXT for file in found] == [True]
    project.longshore("image", "export", f"{name}:1", "--format", "docker", "-f", f"{tmp_path}/docker.tar").done()
    blob = folder.name.removesuffix(".composed")
    with tarfile.open(tmp_path / "docker.tar") as archive:
        content = archive.extractfile(f"{blob}.tar.gz")
        assert content is not None
        whole = content.read()
    assert hashlib.sha256(whole).hexdigest() == blob

    # Pulled from the server, whole and in parts.
    source = ["--src-tls-verify=false", f"docker://{server}/{name}:1"]
    call("skopeo", "copy", "--preserve-digests", *source, f"dir:{tmp_path}/pulled")
    assert (tmp_path / "pulled" / blob).read_bytes() == whole
    manifest = (tmp_path / "pulled/manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == built["digest"]
    for first, last in [(0, 9), (1_000_000, 3_000_000), (len(whole) - 5, len(whole) - 1)]:
        asked = urllib.request.Request(
            f"http://{server}/v2/{name}/blobs/sha256:{blob}", headers={"Range": f"bytes={first}-{last}"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.status == 206
            assert answer.read() == whole[first : last + 1]

    # Pushed to a registry that checks what it gets, and brought back from there to an empty disk.
    registry = DockerRegistry(tmp_path / "registry", password=None)
    try:
        there = f"{registry.host}/team/{name}:1"
        project.longshore("image", "copy", f"{name}:1", there).done()
        assert build(project, there, *lazy)["digest"] == built["digest"]
        call(
            "skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", f"docker://{there}", f"dir:{tmp_path}/out"
        )
        assert (tmp_path / "out" / blob).read_bytes() == whole
    finally:
        registry.stop()


def test_the_downloads_may_go_and_damage_is_found(new_machine: Machine, shared_home: Path) -> None:
    own = new_machine
    (own.home / "data").mkdir(parents=True)
    for name in ("cache", "data/registry"):
        subprocess.run(["cp", "-al", shared_home / name, own.home / name], check=True)
    for lock in own.home.rglob("in-use"):
        lock.unlink()
    own.write("main.py", CODE)
    files = {"bulky/__init__.py": "DATA = __file__.replace('__init__.py', 'data.txt')\n", "bulky/data.txt": TEXT}
    (own.project / WHEEL).write_bytes(wheel("bulky", "1.0", files))
    (own.project / ".dockerignore").write_text("*.whl\n")
    built = build(own, "app:1")
    folder = composed(own, "app:1")

    own.longshore("cache", "prune", "--max-size", "0").done()
    kept = download(own)
    assert kept.exists(), "an image has its bytes: to remove it would free nothing"
    kept.unlink()
    assert own.longshore("image", "run", "app:1", "--", "python", "main.py").done().stdout == RUNS
    assert "no download and no layer is damaged" in own.longshore("cache", "check").done().stdout

    size = (folder / "source").stat().st_size
    (folder / "source").unlink()
    (folder / "source").write_bytes(bytes(size))
    said = own.longshore("cache", "check").done().stdout
    assert f"layer of an image removed: {folder / 'recipe'} had the digest " in said
    assert not folder.exists()
    assert build(own, "app:2")["digest"] == built["digest"]
    # A layer that was cut short counts as absent, and is made again where it was.
    (folder / "source").unlink()
    (folder / "source").write_bytes(b"cut")
    assert build(own, "app:3")["digest"] == built["digest"]
    assert "no download and no layer is damaged" in own.longshore("cache", "check").done().stdout
    assert own.longshore("image", "run", "app:3", "--", "python", "main.py").done().stdout == RUNS
