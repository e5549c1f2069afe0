"""Images that are looked into, put onto another parent, patched and made again, and what others make of the results."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zipfile
from typing import TYPE_CHECKING, Any, Iterator

import pytest

from .docker_registry import DockerRegistry
from .machine import Machine
from .test_images import call

if TYPE_CHECKING:
    from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    registry = DockerRegistry(tmp_path / "registry", password=None)
    yield registry
    registry.stop()


def inspected(machine: Machine, image: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.longshore("image", "inspect", image, "-o", "json", *more).done().stdout)
    return found


def build(machine: Machine, tag: str, *more: str) -> str:
    built = json.loads(machine.longshore("build", ".", "--tag", tag, "-o", "json", *more).done().stdout)
    return str(built["digest"])


def output(machine: Machine, image: str, program: str) -> str:
    return machine.longshore("image", "run", image, "--", "python", "-c", program).done().stdout.strip()


def parent_of(machine: Machine, image: str) -> str:
    annotations = inspected(machine, image, "--by", "layer")["manifest"]["annotations"]
    return str(annotations["org.opencontainers.image.base.name"])


def add_layer(layout: str, name: str, files: dict[str, str]) -> None:
    """One more layer, with these files; `.wh.` before a name removes it (image specification, "Whiteouts")."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with tarfile.open(file.name, "w") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        call("umoci", "raw", "add-layer", "--image", f"{layout}:{name}", file.name)


class Parents:
    """Other parents, made of the usual one by a program that is not ours."""

    def __init__(self, machine: Machine, server: str, folder: Path) -> None:
        self._server = server
        self.layout = f"{folder}/layout"
        self.usual = parent_of(machine, "first:1")
        source = "docker://" + self.usual.replace("localhost:5000", server)
        call("skopeo", "copy", "--src-tls-verify=false", source, f"oci:{self.layout}:usual")

    def make(self, name: str, *config: str) -> str:
        """A parent with one more file, and its configuration changed so."""
        call("umoci", "tag", "--image", f"{self.layout}:usual", name)
        add_layer(self.layout, name, {"/etc/newer-release": "newer\n"})
        if config:
            call("umoci", "config", "--image", f"{self.layout}:{name}", *config)
        return self.put(name)

    def put(self, name: str) -> str:
        to = f"docker://{self._server}/parents/{name}:1"
        call("skopeo", "copy", "--dest-tls-verify=false", f"oci:{self.layout}:{name}", to)
        return f"localhost:5000/parents/{name}:1"


@pytest.fixture
def parents(machine: Machine, server: str, tmp_path: Path) -> Parents:
    return Parents(machine, server, tmp_path)


def test_every_byte_of_an_image_is_told_apart(machine: Machine) -> None:
    found = inspected(machine, "first:1")
    manifest = found["manifest"]
    assert found["size"] == sum(layer["size"] for layer in [*manifest["layers"], manifest["config"]])
    assert sum(package["size"] for package in found["packages"]) == found["unpacked"]
    packages = {package["name"]: package for package in found["packages"]}
    assert (packages["idna"]["kind"], packages["idna"]["version"]) == ("python", "3.10")
    assert packages["idna"]["bytecode"] > 0
    assert packages["libc6"]["kind"] == "debian"
    asked = machine.longshore("image", "run", "first:1", "dpkg-query", "-W", "-f", "${Version}", "libc6").done()
    assert packages["libc6"]["version"] == asked.stdout
    assert packages["code"]["files"] == 1
    # What a container sees: the same bytes.
    program = (
        "import os;print(sum(os.lstat(os.path.join(d,f)).st_size for d,_,fs in os.walk('/opt/venv') "
        "for f in fs if not os.path.islink(os.path.join(d,f))))"
    )
    venv = next(directory for directory in found["directories"] if directory["path"].startswith("/opt/venv"))
    assert venv["size"] == int(output(machine, "first:1", program))
    of_parent = [layer for layer in found["layers"] if layer["of_parent"]]
    assert found["parent"]["layers"] == len(of_parent)
    assert found["parent"]["size"] == sum(layer["size"] for layer in of_parent)


def test_what_is_shown_fits_a_terminal(machine: Machine) -> None:
    for more in ([], ["--by", "layer"], ["--by", "package"], ["--by", "directory"], ["--by", "saving"]):
        text = machine.longshore("image", "inspect", "first:1", *more).done().stdout
        # Variables are shown whole: somebody may want to copy one.
        lines = [line for line in text.splitlines() if not line.startswith("env ")]
        assert max(map(len, lines)) <= 80, text
        assert lines
    text = machine.longshore("image", "inspect", "first:1").done().stdout
    assert "and " in text
    assert "What the image could do without" in text
    by_package = machine.longshore("image", "inspect", "first:1", "--by", "package").done().stdout
    assert "idna" in by_package


def test_savings_are_what_the_files_show(machine: Machine, server: str, tmp_path: Path) -> None:
    machine.write("a.py", "")
    build(machine, "fat:1")
    layout = f"{tmp_path}/layout"
    call("skopeo", "copy", "--src-tls-verify=false", f"docker://{server}/fat:1", f"oci:{layout}:fat")
    lists = "x" * 70_000
    library = "!<arch>\n" + "y" * 50_000
    files = {
        "/var/lib/apt/lists/x_Packages": lists,
        "/usr/lib/libx.a": library,
        "/srv/copy": lists,
        "/srv/other": "z" * 9000,
    }
    add_layer(layout, "fat", files)
    add_layer(layout, "fat", {"/srv/.wh.other": "", "/app/a.py": "# changed"})
    to = f"docker://{server}/fat:2"
    call("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:fat", to)
    savings = {saving["kind"]: saving for saving in inspected(machine, "fat:2")["savings"]}
    assert savings["apt_cache"]["size"] == 70_000
    assert savings["static_libraries"]["size"] == 50_008
    assert savings["copies"]["size"] >= 70_000
    assert savings["hidden"]["size"] == 9000
    assert savings["hidden"]["largest"][0] == ["/srv/other", 9000]


def test_layers_elsewhere_are_downloaded_when_that_is_asked_and_once(
    machine: Machine, registry: DockerRegistry, new_machine: Machine
) -> None:
    image = f"{registry.host}/team/first:1"
    machine.longshore("image", "copy", "first:1", image).done()
    other = Machine(new_machine.home, new_machine.project)
    brief = other.longshore("image", "inspect", image).done()
    assert "with --by, which downloads" in brief.stdout
    assert "fetched" not in brief.stderr
    assert "bytecode of idna" in brief.stdout
    full = other.longshore("image", "inspect", image, "--by", "package").done()
    assert "fetched  layer" in full.stderr
    again = other.longshore("image", "inspect", image, "--by", "package").done()
    assert "fetched" not in again.stderr
    assert again.stdout == full.stdout == machine.longshore("image", "inspect", "first:1", "--by", "package").stdout


def test_a_rebased_image_is_what_a_build_on_the_new_parent_gives(
    machine: Machine, parents: Parents, server: str
) -> None:
    machine.write("hello.py", "import idna; print('idna', idna.__version__, open('/etc/newer-release').read())\n")
    build(machine, "app:1", "-r", "idna==3.10")
    newer = parents.make("newer", "--config.env", "GREETING=hello", "--config.label", "team=a")
    full = build(machine, "app:full", "-r", "idna==3.10", "--parent", newer)
    before = len(inspected(machine, "app:1", "--by", "layer")["layers"])
    done = machine.longshore("image", "rebase", "app:1", "--onto", newer, "--tag", "app:rebased", "-o", "json").done()
    rebased = json.loads(done.stdout)
    assert rebased["digest"] == full
    assert machine.longshore("image", "run", "app:rebased", "python", "hello.py").done().stdout == "idna 3.10 newer\n\n"
    assert output(machine, "app:rebased", "import os; print(os.environ['GREETING'])") == "hello"
    # Others agree about what it is.
    seen = json.loads(call("skopeo", "inspect", "--tls-verify=false", f"docker://{server}/app:rebased"))
    assert seen["Digest"] == full
    assert seen["Labels"]["team"] == "a"
    assert len(seen["Layers"]) == before + 1
    # Back onto the old parent: the image that it was.
    machine.longshore("image", "rebase", "app:rebased", "--onto", parents.usual, "--tag", "app:back").done()
    digests = {image["tag"]: image["digest"] for image in machine.images() if image["repository"].endswith("/app")}
    assert digests["back"] == digests["1"]
    # It has a bill of materials of its own, and is known well enough to be patched.
    assert digests["rebased"] in machine.longshore("image", "sbom", "app:rebased").done().stdout
    machine.longshore("image", "patch", "app:rebased", "--wheel", "idna==3.9", "--tag", "app:both").done()
    assert output(machine, "app:both", "import idna; print(idna.__version__)") == "3.9"


def test_parents_on_which_the_packages_cannot_work_are_refused(machine: Machine, parents: Parents) -> None:
    machine.write("a.py", "")
    build(machine, "fixed:1", "-r", "idna==3.10")
    before = machine.images()

    def refused(parent: str, *more: str) -> str:
        said = machine.longshore("image", "rebase", "fixed:1", "--onto", parent, *more).refused(1, 2)
        assert machine.images() == before or machine.images()[: len(before)]
        return said

    other = "arm64" if parents.usual.find("amd64") >= 0 else "amd64"
    assert "has no image for linux/" in refused(parents.make("other-machine", "--architecture", other))
    newer = parents.make("newer-too")
    assert "do not begin with those of" in refused(newer, "--from", newer)
    call("umoci", "new", "--image", f"{parents.layout}:bare")
    add_layer(parents.layout, "bare", {"/etc/release": "bare"})
    said = refused(parents.put("bare"))
    assert "has no Python; build the image anew" in said
    assert "nowhere" in refused("nowhere:1")
    digest = next(image["digest"] for image in before if image["repository"].endswith("/fixed"))
    assert "--tag" in machine.longshore("image", "rebase", f"fixed@{digest}", "--onto", newer).refused(2)


def test_an_image_elsewhere_is_rebased_there(
    machine: Machine, parents: Parents, registry: DockerRegistry, new_machine: Machine
) -> None:
    machine.write("hello.py", "print(open('/etc/newer-release').read())\n")
    build(machine, "moved:1", "-r", "idna==3.10")
    newer = parents.make("newer-there")
    app, parent = f"{registry.host}/team/app:1", f"{registry.host}/team/parent:2"
    for source, to in (("moved:1", app), (newer, parent)):
        machine.longshore("image", "copy", source, to).done()
    # From a machine that has nothing; the old parent is only there under another name.
    old = f"{registry.host}/team/parent:1"
    machine.longshore("image", "copy", parents.usual, old).done()
    done = new_machine.longshore("image", "rebase", app, "--onto", parent, "--from", old, "-o", "json").done()
    rebased = json.loads(done.stdout)
    assert rebased["mounted"] == 1
    assert rebased["moved"] < 20_000
    machine.longshore("image", "copy", app, "came:back").done()
    assert machine.longshore("image", "run", "came:back", "python", "hello.py").done().stdout == "newer\n\n"
    inspected_there = call("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{app}")
    annotations = json.loads(inspected_there)["annotations"]
    assert annotations["org.opencontainers.image.base.name"] == parent


def put_index(server: str, repository: str, tag: str, manifests: list[dict[str, Any]]) -> None:
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    url = f"http://{server}/v2/{repository}/manifests/{tag}"
    request = urllib.request.Request(
        url, data=json.dumps(index).encode(), method="PUT", headers={"Content-Type": INDEX}
    )
    urllib.request.urlopen(request, timeout=60).close()


def listed(server: str, repository: str, tag: str, architecture: str) -> dict[str, Any]:
    raw = call("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{server}/{repository}:{tag}")
    seen = json.loads(call("skopeo", "inspect", "--tls-verify=false", f"docker://{server}/{repository}:{tag}"))
    return {
        "mediaType": json.loads(raw)["mediaType"],
        "digest": seen["Digest"],
        "size": len(raw.encode()),
        "platform": {"os": "linux", "architecture": architecture},
    }


def test_every_platform_of_an_index_is_rebased(machine: Machine, parents: Parents, server: str, tmp_path: Path) -> None:
    machine.write("a.py", "print('both')\n")
    build(machine, "multi:here", "-r", "idna==3.10")
    here = json.loads(call("skopeo", "inspect", "--tls-verify=false", f"docker://{server}/multi:here"))["Architecture"]
    there = "arm64" if here == "amd64" else "amd64"
    parents.make("pair")
    # The same layers for another machine: enough for what is edited.
    layout = f"{tmp_path}/multi"
    for repository, source in (("multi", "here"), ("parents/pair", "1")):
        name = repository.replace("/", "-")
        call(
            "skopeo",
            "copy",
            "--src-tls-verify=false",
            f"docker://{server}/{repository}:{source}",
            f"oci:{layout}:{name}",
        )
        call("umoci", "config", "--image", f"{layout}:{name}", "--architecture", there)
        to = f"docker://{server}/{repository}:there"
        call("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:{name}", to)
        both = [listed(server, repository, source, here), listed(server, repository, "there", there)]
        put_index(server, repository, "both", both)
    old = parents.usual.replace("localhost:5000/", "")
    repository, tag = old.rsplit(":", 1)
    call("skopeo", "copy", "--src-tls-verify=false", f"docker://{server}/{old}", f"oci:{layout}:old")
    call("umoci", "config", "--image", f"{layout}:old", "--architecture", there)
    call("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:old", f"docker://{server}/{repository}:there")
    put_index(
        server, repository, "both", [listed(server, repository, tag, here), listed(server, repository, "there", there)]
    )
    onto, old = "localhost:5000/parents/pair:both", f"localhost:5000/{repository}:both"
    machine.longshore("image", "rebase", "multi:both", "--onto", onto, "--from", old, "--tag", "multi:rebased").done()
    raw = call("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{server}/multi:rebased")
    platforms = [manifest["platform"]["architecture"] for manifest in json.loads(raw)["manifests"]]
    assert platforms == [here, there]
    assert machine.longshore("image", "run", "multi:rebased", "python", "a.py").done().stdout == "both\n"
    assert output(machine, "multi:rebased", "print(open('/etc/newer-release').read())") == "newer"
    for architecture in platforms:
        override = ["--override-arch", architecture]
        target = f"dir:{tmp_path}/copy-{architecture}"
        call("skopeo", *override, "copy", "--src-tls-verify=false", f"docker://{server}/multi:rebased", target)


PACKAGES = ("idna==3.10", "six==1.16.0", "attrs==24.2.0", "certifi==2024.8.30", "packaging==24.1", "toml==0.10.2")


def requirements(*packages: str) -> list[str]:
    return [word for package in packages for word in ("-r", package)]


def layers(machine: Machine, image: str) -> list[str]:
    return [layer["digest"] for layer in inspected(machine, image, "--by", "layer")["layers"]]


def test_a_patched_image_is_what_a_build_with_that_pin_gives(machine: Machine, server: str) -> None:
    machine.write("hello.py", "import idna, six, attrs; print(idna.__version__)\n")
    build(machine, "patchable:1", *requirements(*PACKAGES))
    full = build(machine, "patchable:full", *requirements("idna==3.9", *PACKAGES[1:]))
    done = machine.longshore(
        "image", "patch", "patchable:1", "--wheel", "idna==3.9", "--tag", "patchable:2", "-o", "json"
    ).done()
    patched = json.loads(done.stdout)
    assert patched["digest"] == full
    assert (patched["package"], patched["before"], patched["replaced"]) == ("idna 3.9", "idna 3.10", 2)
    before, after = layers(machine, "patchable:1"), layers(machine, "patchable:2")
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after)) == 2
    assert machine.longshore("image", "run", "patchable:2", "python", "hello.py").done().stdout == "3.9\n"
    assert "pkg:pypi/idna@3.9" in machine.longshore("image", "sbom", "patchable:2").done().stdout
    assert (
        json.loads(call("skopeo", "inspect", "--tls-verify=false", f"docker://{server}/patchable:2"))["Digest"] == full
    )
    # Again, by its record; and back, onto the same name.
    assert "has idna 3.9 already" in machine.longshore("image", "patch", "patchable:2", "--wheel", "idna==3.9").refused(
        1
    )
    machine.longshore("image", "patch", "patchable:2", "--wheel", "idna==3.10").done()
    assert layers(machine, "patchable:2") == before


def wheel(folder: Path, version: str, *needs: str) -> Path:
    """A wheel that calls itself idna."""
    folder.mkdir(exist_ok=True)
    file = folder / f"idna-{version}-py3-none-any.whl"
    info = f"idna-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        "idna/__init__.py": f"__version__ = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: idna\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return file


def test_a_wheel_of_ones_own_is_put_in_and_one_that_needs_more_is_not(machine: Machine, tmp_path: Path) -> None:
    machine.write("a.py", "")
    build(machine, "own:1", *requirements("idna==3.10", "six==1.16.0"))
    mine = wheel(tmp_path / "wheels", "99.1", "six>=1.16")
    machine.longshore("image", "patch", "own:1", "--wheel", str(mine), "--tag", "own:2").done()
    assert output(machine, "own:2", "import idna; print(idna.__version__)") == "99.1"
    full = build(machine, "own:full", *requirements(f"idna @ file://{mine}", "six==1.16.0"))
    assert full in {image["digest"] for image in machine.images() if image["tag"] == "2"}

    def refused(what: str) -> str:
        return machine.longshore("image", "patch", "own:1", "--wheel", what, "--tag", "own:3").refused(1, 2)

    said = refused(str(wheel(tmp_path / "wheels", "99.2", "attrs")))
    assert "idna 99.2 needs attrs" in said
    assert "localhost:5000/own:1 does not have" in said
    assert "six" in refused(str(wheel(tmp_path / "wheels", "99.3", "six>=2")))
    assert "has no package flask; it has idna 3.10, six 1.16.0" in refused("flask==3.0.0")
    assert "neither NAME==VERSION" in refused("idna>=3")
    assert "own" not in {image["repository"] for image in machine.images() if image["tag"] == "3"}
    # Nobody knows how that was built.
    machine.longshore("image", "rebase", "own:1", "--onto", parent_of(machine, "own:1"), "--tag", "own:same").done()
    shutil.copytree(machine.home / "data/registry", tmp_path / "stranger/data/registry")
    stranger = Machine(tmp_path / "stranger", tmp_path / "elsewhere")
    assert "is not recorded on this machine" in stranger.longshore(
        "image", "patch", "own:1", "--wheel", "idna==3.9"
    ).refused(1)


def test_an_image_is_made_again_and_is_the_same(machine: Machine) -> None:
    machine.write("hello.py", "print('again')\n")
    digest = build(machine, "again:1", *requirements("idna==3.10"))
    done = machine.longshore("image", "rebuild", digest).done()
    assert f"the same digest: {digest}" in done.stdout
    assert "the layer of code is the image's own" in done.stdout
    done = machine.longshore("image", "rebuild", "again:1", "--source", ".", "-o", "json").done()
    rebuilt = json.loads(done.stdout)
    assert (rebuilt["expected"], rebuilt["found"], rebuilt["code"]) == (digest, digest, "folder")
    assert rebuilt["made"] == len([it for it in inspected(machine, "again:1")["layers"] if not it["of_parent"]])
    # Other code: the file that differs is named, and nothing is changed.
    machine.write("hello.py", "print('other')\n")
    machine.write("more.py", "")
    before = machine.images()
    other = machine.longshore("image", "rebuild", digest, "--source", ".")
    assert other.code == 1
    assert "is not that of the build" in other.stdout
    assert "~ /app/hello.py" in other.stdout
    assert "+ /app/more.py" in other.stdout
    assert machine.images() == before
    unknown = "sha256:" + "0" * 64
    assert "no image with the digest" in machine.longshore("image", "rebuild", unknown).refused(2)


def test_a_damaged_layer_is_said_to_be(machine: Machine, shared_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "damaged"
    (home / "data").mkdir(parents=True)
    subprocess.run(["cp", "-al", shared_home / "data/registry", home / "data/registry"], check=True)
    layer = layers(machine, "first:1")[-1].removeprefix("sha256:")
    damaged = next(file for file in home.rglob(f"*{layer}") if file.is_file() and file.stat().st_size)
    size = damaged.stat().st_size
    damaged.unlink()
    damaged.write_bytes(bytes(size))
    said = machine.longshore("image", "inspect", "first:1", "--by", "package", LONGSHORE_HOME=str(home)).refused(1)
    assert f"layer sha256:{layer}" in said
