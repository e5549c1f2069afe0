"""Images for several platforms, made on one machine without emulation."""

from __future__ import annotations

import io
import json
import platform
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any, Iterator

import pytest

from .docker_registry import DockerRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

PACKAGES = ("-r", "markupsafe==3.0.2", "-r", "six==1.16.0")
BOTH = ("--platform", "linux/amd64", "--platform", "linux/arm64")
# e_machine of an ELF file (System V ABI, "ELF Header"), by architecture.
MACHINES = {"amd64": 62, "arm64": 183}
HERE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
THERE = "arm64" if HERE == "amd64" else "amd64"

# What says that this machine's Python compiles what the other's would: the functions of the modules that are frozen
# into the interpreter were compiled when Debian built it for its own processor; their instructions stand in its data.
PROOF = """
import importlib.util, pathlib, sys, types

interpreter = pathlib.Path("/other/python").read_bytes()

def instructions(code):
    yield code.co_code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from instructions(constant)

library = pathlib.Path(importlib.util.__file__).parent.parent
found = []
for name in "importlib/_bootstrap.py", "importlib/_bootstrap_external.py", "os.py", "site.py", "codecs.py":
    code = compile((library / name).read_bytes(), name, "exec", dont_inherit=True, optimize=0)
    found += [code in interpreter for code in instructions(code)]
other = compile("def f(a, b): return [a + b * i ** b for i in range(a) if i % 7 != b // 3]", "x", "exec")
print(sys.version.split()[0], all(found), len(found), all(code in interpreter for code in instructions(other)))
"""


@pytest.fixture
def project(machine: Machine) -> Machine:
    machine.write("main.py", "import markupsafe, six\nprint(markupsafe.escape('<'), six.__version__)\n")
    return machine


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    registry = DockerRegistry(tmp_path / "docker-registry", password=None)
    yield registry
    registry.stop()


def call(*command: str) -> bytes:
    done = subprocess.run(command, check=False, capture_output=True, timeout=300)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def files(folder: Path) -> dict[str, bytes]:
    """The files of an image that skopeo wrote to a folder, whatever layer they are in."""
    found: dict[str, bytes] = {}
    for layer in json.loads((folder / "manifest.json").read_bytes())["layers"]:
        with tarfile.open(fileobj=io.BytesIO((folder / layer["digest"][7:]).read_bytes()), mode="r:gz") as archive:
            for member in archive:
                if member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None
                    found[member.name] = content.read()
    return found


def machine_of(file: bytes) -> int:
    assert file[:4] == b"\x7fELF"
    return int.from_bytes(file[18:20], "little")


def pull(image: str, arch: str, folder: Path) -> dict[str, bytes]:
    source = ("--src-tls-verify=false", f"--override-arch={arch}", "--override-os=linux")
    call("skopeo", "copy", "--quiet", *source, f"docker://{image}", f"dir:{folder}")
    return files(folder)


def test_one_index_with_an_image_for_each(project: Machine, registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/team/app:1"
    command = ["build", ".", "--tag", name, "-o", "json", *BOTH, *PACKAGES]
    built = json.loads(project.longshore(*command).done().stdout)
    raw = call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    index = json.loads(raw)
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [it["platform"] for it in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    by_digest = f"docker://{registry.host}/team/app@{built['digest']}"
    assert call("skopeo", "inspect", "--raw", "--tls-verify=false", by_digest) == raw

    found = {arch: pull(name, arch, tmp_path / arch) for arch in MACHINES}
    for arch, machine in MACHINES.items():
        options = ("--config", "--tls-verify=false", f"--override-arch={arch}")
        config = json.loads(call("skopeo", "inspect", *options, f"docker://{name}"))
        assert config["architecture"] == arch
        native = {path: machine_of(file) for path, file in found[arch].items() if file[:4] == b"\x7fELF"}
        assert any(re.search(r"markupsafe/_speedups.*\.so$", path) for path in native)
        assert any(re.fullmatch(r"usr/bin/python3\.\d+", path) for path in native)
        assert set(native.values()) == {machine}, arch

    # What does not depend on the processor is the same, bytecode above all.
    pyc = {
        arch: {path: file for path, file in found[arch].items() if re.match(r"opt/venv/.*\.pyc$", path)}
        for arch in MACHINES
    }
    assert pyc["amd64"] == pyc["arm64"]
    assert any("markupsafe" in path for path in pyc["arm64"])
    standard = [path for path in found["arm64"] if path.startswith("usr/lib/python3") and path.endswith(".pyc")]
    assert len(standard) > 300

    # And it is what a compiler over there makes of the same source, as far as its own interpreter shows.
    (other,) = [file for path, file in found[THERE].items() if re.fullmatch(r"usr/bin/python3\.\d+", path)]
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "python").write_bytes(other)
    (folder / "proof.py").write_text(PROOF)
    project.longshore("build", ".", "--tag", "proof:1", *BOTH, *PACKAGES).done()
    proof = ("-v", f"{folder}:/other", "--", "python", "/other/proof.py")
    shown = project.longshore("image", "run", "proof:1", *proof).done().stdout
    version, equal, number, others = shown.split()
    assert version.startswith("3.")
    assert (equal, others) == ("True", "False")
    assert int(number) > 200
    assert project.longshore("image", "run", "proof:1", "--", "python", "main.py").done().stdout == "&lt; 1.16.0\n"

    # The second time nothing is made, and an edit is one layer for both.
    again = project.longshore("build", ".", "--tag", "proof:1", *BOTH, *PACKAGES).done()
    assert again.stderr.count("pushed 0 B in 0 new layers") == 2
    project.write("main.py", f"print('good morning, {name}')\n")
    changed = project.longshore("build", ".", "--tag", "proof:2", *BOTH, *PACKAGES).done()
    assert changed.layers("packed") == ["code: 1 file"]


def test_one_platform_that_is_not_this_machines(project: Machine, registry: DockerRegistry, tmp_path: Path) -> None:
    name = f"{registry.host}/team/other:1"
    project.longshore("build", ".", "--tag", name, "--platform", f"linux/{THERE}", *PACKAGES).done()
    manifest = json.loads(call("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    found = pull(name, THERE, tmp_path / "pulled")
    assert {machine_of(file) for file in found.values() if file[:4] == b"\x7fELF"} == {MACHINES[THERE]}


def test_a_pipeline_runs_the_image_for_this_machine(project: Machine) -> None:
    script = """
from longshore import pipeline, step
from longshore.config import DockerSettings

@step
def greet() -> str:
    import markupsafe, platform
    print("on", platform.machine(), markupsafe.escape("<"))
    return "hello"

@pipeline(settings={"docker": DockerSettings(requirements=["markupsafe==3.0.2"], platform=PLATFORM)})
def greeting():
    greet()

greeting()
"""
    both = project.write("both.py", script.replace("PLATFORM", '["linux/arm64", "linux/amd64"]'))
    shown = project.python(str(both)).done()
    assert f"on {platform.machine()} &lt;" in shown.stdout
    assert "index    sha256:" in shown.stderr
    other = project.write("other.py", script.replace("PLATFORM", f'"linux/{THERE}"'))
    said = project.python(str(other)).refused()
    assert f"add linux/{HERE} to `platform`" in said


def test_a_patched_index_is_what_a_build_with_that_pin_gives(project: Machine) -> None:
    def build(tag: str, version: str) -> str:
        packages = ("-r", f"markupsafe=={version}", "-r", "six==1.16.0")
        command = ("build", ".", "--tag", tag, "-o", "json", *BOTH, *packages)
        return str(json.loads(project.longshore(*command).done().stdout)["digest"])

    build("patched:1", "3.0.2")
    full = build("patched:full", "3.0.1")
    patch = ("image", "patch", "patched:1", "--wheel", "markupsafe==3.0.1", "--tag", "patched:2", "-o", "json")
    patched = json.loads(project.longshore(*patch).done().stdout)
    assert patched["digest"] == full
    assert (patched["package"], patched["replaced"]) == ("markupsafe 3.0.1", 4), "on each platform, and its bytecode"
    assert project.longshore("image", "run", "patched:2", "python", "main.py").done().stdout == "&lt; 1.16.0\n"
    # By its record it can be patched again.
    patch = ("image", "patch", "patched:2", "--wheel", "six==1.17.0", "--tag", "patched:3")
    project.longshore(*patch).done()
    assert project.longshore("image", "run", "patched:3", "python", "main.py").done().stdout == "&lt; 1.17.0\n"
    said = project.longshore("image", "rebuild", "patched:3").refused(1)
    assert "for several platforms" in said


def test_a_wheel_that_a_platform_lacks_is_named(project: Machine) -> None:
    before = {image["tag"] for image in project.images()}
    said = project.longshore("build", ".", "--tag", "lacks:1", *BOTH, "-r", "intel-openmp==2024.2.1").refused(1)
    assert "intel-openmp" in said
    assert "arm64" in said.splitlines()[-1]
    assert {image["tag"] for image in project.images()} == before


def test_every_platform_has_a_plan(project: Machine) -> None:
    command = ["build", ".", "--tag", "planned:1", "--dry-run", "--explain", *BOTH, *PACKAGES]
    planned: dict[str, Any] = json.loads(project.longshore(*command, "-o", "json").done().stdout)
    assert [image["platform"] for image in planned["images"]] == ["linux/amd64", "linux/arm64"]
    shown = project.longshore(*command).done().stdout
    assert "\nlinux/arm64\n" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    said = project.longshore("build", ".", "--tag", "planned:1", "--platform", "linux/riscv64").refused()
    assert "linux/riscv64" in said
