"""Bills of materials: what others make of them, and where they are kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any, Iterator

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from lib4sbom.parser import SBOMParser
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from .docker_registry import DockerRegistry

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine

# lib4sbom leaves its own data files open.
reads_with_lib4sbom = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

CYCLONEDX, SPDX = "application/vnd.cyclonedx+json", "application/spdx+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry without a password, and without an API for referrers."""
    registry = DockerRegistry(tmp_path / "registry", password=None)
    yield registry
    registry.stop()


def sbom(machine: Machine, image: str, *more: str) -> str:
    return machine.longshore("image", "sbom", image, *more).done().stdout


def packages(document: str) -> dict[str, str]:
    """The version of each package, by type and name, from CycloneDX."""
    found = [PackageURL.from_string(component["purl"]) for component in json.loads(document)["components"]]
    return {f"{purl.type}/{purl.name}": purl.version or "" for purl in found}


def get(url: str) -> Any:
    request = urllib.request.Request(url, headers={"Accept": INDEX})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def fetched(host: str, repository: str, listed: dict[str, Any], folder: Path) -> bytes:
    """The document of a referrer, as skopeo copies it."""
    source = f"docker://{host}/{repository}@{listed['digest']}"
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", source, f"dir:{folder}"], check=True, capture_output=True
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    document = (folder / manifest["layers"][0]["digest"].removeprefix("sha256:")).read_bytes()
    assert "sha256:" + hashlib.sha256(document).hexdigest() == manifest["layers"][0]["digest"]
    return document


@reads_with_lib4sbom
def test_cyclonedx_is_valid_and_complete(machine: Machine, tmp_path: Path) -> None:
    document = sbom(machine, "first:1")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    bom = json.loads(document)
    for component in [*bom["components"], bom["metadata"]["component"]]:
        assert PackageURL.from_string(component["purl"]).to_string() == component["purl"]
    idna = next(component for component in bom["components"] if component["name"] == "idna")
    assert idna["purl"] == "pkg:pypi/idna@3.10"
    # The hash of the wheel, which the index publishes.
    assert idna["hashes"] == [
        {"alg": "SHA-256", "content": "946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3"}
    ]
    found = packages(document)
    assert found["generic/python"].startswith("3.")
    # dpkg itself says what is installed.
    asked = machine.longshore("image", "run", "first:1", "cat", "/var/lib/dpkg/status").done().stdout
    installed = {line.split(": ")[1] for line in asked.splitlines() if line.startswith("Package: ")}
    assert {name.removeprefix("deb/") for name in found if name.startswith("deb/")} == installed
    (tmp_path / "bom.json").write_text(document)
    reader = SBOMParser()
    reader.parse_file(str(tmp_path / "bom.json"))
    assert reader.get_type() == "cyclonedx"
    assert len(reader.get_packages()) == len(bom["components"])


@reads_with_lib4sbom
def test_spdx_is_valid_and_names_the_same_packages(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "bom.spdx.json"
    assert sbom(machine, "first:1", "--format", "spdx", "--output", str(file)) == ""
    document = parse_file(str(file))
    assert validate_full_spdx_document(document) == []
    purls = {reference.locator for package in document.packages for reference in package.external_references}
    bom = json.loads(sbom(machine, "first:1"))
    assert purls == {component["purl"] for component in [*bom["components"], bom["metadata"]["component"]]}
    reader = SBOMParser()
    reader.parse_file(str(file))
    assert len(reader.get_packages()) == len(document.packages)


def test_a_served_image_lists_its_documents(machine: Machine, server: str, tmp_path: Path) -> None:
    digest = next(image["digest"] for image in machine.images() if image["repository"].endswith("/first"))
    listed = get(f"http://{server}/v2/first/referrers/{digest}")["manifests"]
    assert sorted(manifest["artifactType"] for manifest in listed) == [SPDX, CYCLONEDX]
    cyclonedx = next(manifest for manifest in listed if manifest["artifactType"] == CYCLONEDX)
    assert fetched(server, "first", cyclonedx, tmp_path / "copy").decode() == sbom(machine, "first:1")
    # The same image, built again, has the same documents.
    machine.write("hello.py", "print('hello')\n")
    machine.longshore("build", ".", "--tag", "first:2", "-r", "idna==3.10").done()
    again = get(f"http://{server}/v2/first/referrers/{digest}")["manifests"]
    assert sorted(manifest["digest"] for manifest in again) == sorted(manifest["digest"] for manifest in listed)


def test_other_registries_get_documents_when_that_is_asked(
    machine: Machine, registry: DockerRegistry, tmp_path: Path
) -> None:
    machine.write("hello.py", "print('elsewhere')\n")
    image = f"{registry.host}/team/app:1"

    def build(*more: str) -> None:
        machine.longshore("build", ".", "--tag", image, "-r", "idna==3.10", *more).done()

    build()
    tags = f"http://{registry.host}/v2/team/app/tags/list"
    # The image, and what longshore remembers beside it.
    names = ["1", "longshore-cache"]
    assert sorted(get(tags)["tags"]) == names
    # What is not attached is found in the layers, the same packages by the same names.
    from_layers = sbom(machine, image)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(from_layers) is None
    assert sorted(get(tags)["tags"]) == names
    build("--sbom", "always")
    attached = sbom(machine, image)
    built, read = packages(attached), packages(from_layers)
    assert {name for name in built if name not in read} == {"generic/python", "pypi/longshore"}
    assert read == {name: version for name, version in built.items() if name in read}
    # This registry has no API for referrers: a tag stands in for it.
    digest = json.loads(attached)["metadata"]["component"]["version"]
    listed = get(f"http://{registry.host}/v2/team/app/manifests/{digest.replace(':', '-')}")["manifests"]
    assert sorted(manifest["artifactType"] for manifest in listed) == [SPDX, CYCLONEDX]
    cyclonedx = next(manifest for manifest in listed if manifest["artifactType"] == CYCLONEDX)
    assert fetched(registry.host, "team/app", cyclonedx, tmp_path / "copy").decode() == attached


def test_an_image_has_no_document_when_none_is_wanted(machine: Machine, server: str) -> None:
    machine.write("hello.py", "print('nothing beside it')\n")
    machine.longshore("build", ".", "--tag", "plain:1", LONGSHORE_SBOM="never").done()
    digest = next(image["digest"] for image in machine.images() if image["repository"].endswith("/plain"))
    assert get(f"http://{server}/v2/plain/referrers/{digest}")["manifests"] == []
    assert packages(sbom(machine, "plain:1"))["deb/libc6"]


def test_an_image_that_is_not_there_is_said_to_be(machine: Machine) -> None:
    assert "nowhere" in machine.longshore("image", "sbom", "nowhere:1").refused(1)
    assert "cyclonedx" in machine.longshore("image", "sbom", "first:1", "--format", "xml").refused(2)


def test_what_cannot_be_described_is_built_all_the_same(shared_home: Path, machine: Machine, tmp_path: Path) -> None:
    home = tmp_path / "damaged"
    (home / "data").mkdir(parents=True)
    for folder in ("cache", "data/registry"):
        subprocess.run(["cp", "-al", shared_home / folder, home / folder], check=True)
    inspected = machine.longshore("image", "inspect", "first:1", "--output", "json").done().stdout
    layer = json.loads(inspected)["manifest"]["layers"][0]["digest"].removeprefix("sha256:")
    damaged = next(file for file in home.rglob(f"*{layer}") if file.is_file() and file.stat().st_size)
    size = damaged.stat().st_size
    # Another file in its place: the shared one stays as it is.
    damaged.unlink()
    damaged.write_bytes(bytes(size))
    for known in list(home.rglob("image-packages")):
        shutil.rmtree(known)
    machine.write("hello.py", "print('not described')\n")
    built = machine.longshore("build", ".", "--tag", "damaged:1", "-r", "idna==3.10", LONGSHORE_HOME=str(home)).done()
    assert "not attached: layer sha256:" in built.stderr
    assert "image    sha256:" in built.stderr
    said = machine.longshore("image", "sbom", "damaged:1", LONGSHORE_HOME=str(home)).refused(1)
    assert f"layer sha256:{layer}" in said
