"""Images whose layers are in Zstandard, read by zstd, tar, skopeo and podman."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PACKAGES = ("-r", "six==1.16.0", "-r", "markupsafe==3.0.2")


def call(*command: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(command, check=False, capture_output=True, input=stdin, timeout=300)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def build(machine: Machine, *options: str, tag: str) -> str:
    command = ["build", ".", "--tag", tag, "-o", "json", *PACKAGES, *options]
    return str(json.loads(machine.longshore(*command).done().stdout)["digest"])


def inspected(machine: Machine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.longshore("image", "inspect", image, "-o", "json").done().stdout)
    return found


@pytest.fixture
def project(machine: Machine) -> Machine:
    machine.write("main.py", "import markupsafe, six\nprint(markupsafe.escape('<'), six.__version__)\n")
    return machine


def test_every_layer_is_in_zstd_and_has_the_same_content(project: Machine, tmp_path: Path) -> None:
    digest = build(project, "--compression", "zstd", tag="zstd:1")
    build(project, tag="gzip:1")
    zstd, gzip = inspected(project, "zstd:1"), inspected(project, "gzip:1")
    layers = zstd["manifest"]["layers"]
    assert {layer["mediaType"] for layer in layers} == {ZSTD}
    diff_ids = zstd["config"]["rootfs"]["diff_ids"]
    assert diff_ids == gzip["config"]["rootfs"]["diff_ids"]
    assert sum(it["size"] for it in layers) < sum(it["size"] for it in gzip["manifest"]["layers"])

    # Made once, by everybody alike.
    again = project.longshore("build", ".", "--tag", "zstd:2", "--compression", "zstd", *PACKAGES).done()
    assert again.layers("spliced") == again.layers("packed") == []
    assert build(project, "--compression", "zstd", tag="zstd:2") == digest

    folder = tmp_path / "layout"
    project.longshore("image", "export", "zstd:1", "-f", f"{folder}.tar").done()
    call("skopeo", "copy", "--preserve-digests", f"oci-archive:{folder}.tar", f"oci:{folder}:it")
    manifest = call("skopeo", "inspect", "--raw", f"oci:{folder}:it")
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == digest
    for layer, diff_id in zip(layers, diff_ids):
        blob = (folder / "blobs/sha256" / layer["digest"][7:]).read_bytes()
        plain = call("zstd", "-dc", stdin=blob)
        assert "sha256:" + hashlib.sha256(plain).hexdigest() == diff_id
        call("tar", "-t", stdin=plain)


def test_it_runs_here_and_podman_takes_it(project: Machine, tmp_path: Path) -> None:
    build(project, "--compression", "zstd", tag="runs:1")
    command = ("image", "run", "runs:1", "--", "python", "main.py")
    assert project.longshore(*command).done().stdout == "&lt; 1.16.0\n"
    # Podman wants a short name for this one.
    runroot = tempfile.mkdtemp(prefix="podman-")
    podman = ("podman", "--root", str(tmp_path / "root"), "--runroot", runroot, "--storage-driver=vfs")
    diff_ids = inspected(project, "runs:1")["config"]["rootfs"]["diff_ids"]
    for form in ("oci", "docker"):
        archive = tmp_path / f"{form}.tar"
        project.longshore("image", "export", "runs:1", "--format", form, "-f", str(archive)).done()
        # It refuses a layer whose content is not what the configuration says.
        image = call(*podman, "load", "--quiet", "-i", str(archive)).decode().split()[-1]
        found = json.loads(call(*podman, "image", "inspect", image))
        assert found[0]["RootFS"]["Layers"] == diff_ids, form
    call(*podman, "system", "reset", "--force")


def test_it_is_a_parent_like_others_and_not_a_lazy_one(project: Machine) -> None:
    build(project, "--compression", "zstd", tag="localhost:5000/base:1")
    project.longshore("build", ".", "--tag", "on:1", "--parent", "localhost:5000/base:1", "-r", "idna==3.10").done()
    media_types = {layer["mediaType"] for layer in inspected(project, "on:1")["manifest"]["layers"]}
    assert media_types == {ZSTD, "application/vnd.oci.image.layer.v1.tar+gzip"}
    said = project.longshore("build", ".", "--tag", "no:1", "--compression", "zstd", "--lazy", "estargz").refused(1)
    assert "leave one of them out" in said
    assert "zstd:chunked is not made" in said
