"""Images whose layers can be fetched file by file: eStargz, read here by its specification and by ordinary programs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from .docker_registry import DockerRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"
ADDED = {".no.prefetch.landmark", "stargz.index.json"}


def call(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def build(machine: Machine, *options: str, tag: str = "app:1") -> dict[str, Any]:
    packages = ["-r", "six==1.16.0", "-r", "markupsafe==3.0.2"]
    built: dict[str, Any] = json.loads(
        machine.longshore("build", ".", "--tag", tag, "-o", "json", *packages, *options).done().stdout
    )
    return built


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layout(machine: Machine, image: str, folder: Path) -> dict[str, Any]:
    """Exports an image as a layout, and gives its manifest."""
    machine.longshore("image", "export", image, "-f", f"{folder}.tar").done()
    call("skopeo", "copy", "--preserve-digests", f"oci-archive:{folder}.tar", f"oci:{folder}:it")
    manifest: dict[str, Any] = json.loads(call("skopeo", "inspect", "--raw", f"oci:{folder}:it"))
    return manifest


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that umoci unpacks of a layout."""
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    call("umoci", "unpack", *rootless, "--image", f"{folder}:it", f"{folder}.bundle")
    root = f"{folder}.bundle/rootfs"
    found: dict[str, tuple[object, ...]] = {}
    for parent, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(parent, name)
            state = os.lstat(path)
            content: object = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    content = sha256(file.read())
            found[os.path.relpath(path, root)] = (state.st_mode, int(state.st_mtime), content)
    return found


@pytest.fixture
def project(machine: Machine) -> Machine:
    machine.write("main.py", "import markupsafe, six\nprint(markupsafe.escape('<'), six.__version__)\n")
    machine.write("empty", "")
    return machine


def test_a_lazy_image_is_an_image_like_any_other(project: Machine, tmp_path: Path) -> None:
    plain = build(project)
    lazy = build(project, "--lazy", "estargz", tag="lazy:1")
    assert lazy["digest"] != plain["digest"]
    # Each is found again, and neither takes the other's layers.
    assert build(project)["digest"] == plain["digest"]
    assert build(project, "--lazy", "estargz", tag="lazy:1")["digest"] == lazy["digest"]
    project.longshore("image", "run", "lazy:1", "--", "python", "main.py").done()
    ran = project.longshore("image", "run", "lazy:1", "--", "python", "main.py").done()
    assert ran.stdout == "&lt; 1.16.0\n"

    ordinary = layout(project, "app:1", tmp_path / "plain")
    assert not any("annotations" in layer for layer in ordinary["layers"])
    manifest = layout(project, "lazy:1", tmp_path / "lazy")
    assert len(manifest["layers"]) == len(ordinary["layers"])
    assert not {layer["digest"] for layer in manifest["layers"]} & {layer["digest"] for layer in ordinary["layers"]}
    for layer in manifest["layers"]:
        examine(tmp_path / "lazy", layer)
    trees = tree(tmp_path / "plain"), tree(tmp_path / "lazy")
    assert set(trees[1]) - set(trees[0]) == ADDED
    assert {path: entry for path, entry in trees[1].items() if path not in ADDED} == trees[0]


def examine(folder: Path, layer: dict[str, Any]) -> None:
    """Reads a layer by its table of contents: each file from its own bytes alone."""
    data = (folder / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
    footer = data[-51:]
    assert footer[:16] == bytes([0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 0xFF, 26, 0]) + b"SG" + bytes([22, 0])
    assert footer[32:38] == b"STARGZ"
    assert gzip.decompress(footer) == b""
    offset = int(footer[16:32], 16)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data[offset:-51]))) as archive:
        (member,) = archive.getmembers()
        assert member.name == "stargz.index.json"
        table = archive.extractfile(member).read()  # type: ignore[union-attr]
    plain = gzip.decompress(data)
    assert layer["annotations"] == {TOC_DIGEST: sha256(table), UNCOMPRESSED_SIZE: str(len(plain))}

    rows = json.loads(table)["entries"]
    offsets = sorted(row["offset"] for row in rows if "offset" in row)
    ends = dict(zip(offsets, [*offsets[1:], offset]))
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = archive.getmembers()
        assert [row["name"].rstrip("/") for row in rows] == [member.name for member in members[:-1]]
        for row, member in zip(rows, members):
            assert (row["mode"], row["uid"], row["gid"]) == (member.mode, member.uid, member.gid)
            if member.isreg() and member.size:
                # What follows the file in its range are members of headers.
                content = gzip.decompress(data[row["offset"] : ends[row["offset"]]])[: row["size"]]
                assert content == archive.extractfile(member).read()  # type: ignore[union-attr]
                assert row["digest"] == row["chunkDigest"] == sha256(content)


def test_a_registry_keeps_a_lazy_image_as_it_is(project: Machine, tmp_path: Path) -> None:
    here = build(project, "--lazy", "estargz", tag="lazy:1")
    registry = DockerRegistry(tmp_path / "registry", password=None)
    try:
        image = f"{registry.host}/team/lazy:1"
        there = build(project, "--lazy", "estargz", tag=image)
        assert there["digest"] == here["digest"]
        manifest = call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{image}")
        assert sha256(manifest.encode()) == here["digest"]
        for layer in json.loads(manifest)["layers"]:
            assert set(layer["annotations"]) == {TOC_DIGEST, UNCOMPRESSED_SIZE}
        call(
            "skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", f"docker://{image}", f"dir:{tmp_path}/out"
        )
        assert sha256((tmp_path / "out/manifest.json").read_bytes()) == here["digest"]
    finally:
        registry.stop()


def test_a_setting_that_does_not_exist_is_refused(project: Machine) -> None:
    said = project.longshore("build", ".", "--tag", "app:1", "--lazy", "stargz").refused(2)
    assert "estargz" in said
