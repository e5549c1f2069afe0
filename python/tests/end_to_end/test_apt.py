"""Debian packages on top of a parent, whoever made it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import pytest
from packageurl import PackageURL

from .docker_registry import DockerRegistry

if TYPE_CHECKING:
    from .machine import Machine, Outcome

PROGRAM = "print('hello')\n"
OS_RELEASE = dict(
    line.replace('"', "").split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
)


def build(machine: Machine, tag: str, *arguments: str) -> Outcome:
    machine.write("hello.py", PROGRAM)
    return machine.longshore("build", ".", "--tag", tag, "-r", "idna==3.10", *arguments)


def digest(outcome: Outcome) -> str:
    return next(line.split()[1] for line in outcome.done().stderr.splitlines() if line.startswith("image "))


def inside(machine: Machine, image: str, script: str) -> str:
    return machine.longshore("image", "run", image, "--", "sh", "-c", script).done().stdout


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    registry = DockerRegistry(tmp_path / "registry", password=None)
    yield registry
    registry.stop()


def test_what_needs_no_script_is_unpacked(machine: Machine, new_machine: Machine) -> None:
    first = build(machine, "gomp:1", "--apt", "libgomp1")
    assert "none needs a script to be run" in first.done().stderr, first
    assert "Debian packages: libgomp1" in first.layers("unpacked")
    assert digest(first) == digest(build(new_machine, "gomp:1", "--apt", "libgomp1")), "on another machine"
    again = build(machine, "gomp:2", "--apt", "libgomp1")
    assert digest(again) == digest(first), "again"
    assert "Debian packages: libgomp1" in again.layers("already there")
    assert "fetched" not in again.stderr, again

    load = "import ctypes, ctypes.util as u; print(u.find_library('gomp')); ctypes.CDLL('libgomp.so.1')"
    assert inside(machine, "gomp:1", f'python3 -c "{load}"') == "libgomp.so.1\n"
    assert inside(machine, "gomp:1", "dpkg-query -W -f '${db:Status-Abbrev}' libgomp1; dpkg --audit") == "ii "
    assert inside(machine, "gomp:1", "dpkg -V libgomp1") == ""
    bill = json.loads(machine.longshore("image", "sbom", "gomp:1").done().stdout)
    names = {PackageURL.from_string(component["purl"]).name for component in bill["components"]}
    assert {"libgomp1", "libc6", "idna"} <= names


def test_what_needs_its_script_is_installed_by_the_parents_dpkg(machine: Machine, new_machine: Machine) -> None:
    first = build(machine, "less:1", "--apt", "less")
    assert "by the parent's dpkg in a sandbox" in first.done().stderr, first
    assert "less: its preinst has work to do" in first.stderr, first
    assert digest(first) == digest(build(new_machine, "less:1", "--apt", "less")), "on another machine"
    assert inside(machine, "less:1", "less --version | head -n 1").startswith("less ")
    chosen = inside(machine, "less:1", "update-alternatives --query pager | grep ^Value")
    assert chosen == "Value: /usr/bin/less\n", "what its postinst did"
    # As in all slim images, what the image's dpkg leaves out is missing, and nothing else.
    left_out = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/locale/")
    verified = inside(machine, "less:1", "dpkg --audit; dpkg -V less; ls /var/log/dpkg.log 2>/dev/null || true")
    assert [line for line in verified.splitlines() if not line.split()[-1].startswith(left_out)] == []
    plan = machine.longshore("build", ".", "--tag", "less:2", "-r", "idna==3.10", "--apt", "less", "--dry-run")
    assert "by the parent's dpkg in a sandbox" in plan.done().stdout, plan
    data = machine.longshore(
        "build", ".", "--tag", "less:2", "-r", "idna==3.10", "--apt", "less", "--dry-run", "-o", "json"
    )
    [image] = json.loads(data.done().stdout)["images"]
    apt = image["apt"]
    assert apt["way"]["sandbox"]["tool"] == "dpkg"
    assert "less" in [reason["package"] for reason in apt["way"]["sandbox"]["reasons"]]
    # Scripts count on the essential packages, which longshore's own parent is without.
    assert {"less", "perl-base", "diffutils"} <= {name.split()[0] for name in apt["packages"]}


def test_an_image_with_debian_packages_is_patched_and_made_again(machine: Machine) -> None:
    first = digest(build(machine, "gomp:10", "--apt", "libgomp1"))
    again = json.loads(machine.longshore("image", "rebuild", "gomp:10", "-o", "json").done().stdout)
    assert (again["expected"], again["found"]) == (first, first)
    full = machine.longshore("build", ".", "--tag", "gomp:11", "-r", "idna==3.9", "--apt", "libgomp1")
    machine.longshore("image", "patch", "gomp:10", "--wheel", "idna==3.9", "--tag", "gomp:12").done()
    assert digest(full) in {image["digest"] for image in machine.images() if image["tag"] == "12"}
    bills = [machine.longshore("image", "sbom", f"gomp:{tag}").done().stdout for tag in (11, 12)]
    assert bills[0] == bills[1]
    assert "pkg:deb/debian/libgomp1" in bills[1]
    # What was chosen for one parent's packages does not go onto another parent.
    digest(build(machine, "gomp:13", "--no-bytecode"))
    said = machine.longshore("image", "rebase", "gomp:12", "--onto", "gomp:13", "--tag", "gomp:14").refused(1)
    assert "has a layer of apt_packages" in said


def test_on_an_ordinary_parent_of_a_registry(machine: Machine, registry: DockerRegistry, tmp_path: Path) -> None:
    """A parent with apt, whose sources name a host that cannot be reached; and one that says it is something else."""
    distribution, codename = OS_RELEASE["ID"], OS_RELEASE["VERSION_CODENAME"]
    digest(build(machine, "base:1", "--apt", "apt", "--no-bytecode"))
    machine.longshore("image", "copy", "base:1", f"{registry.host}/base:0").done()
    layout = str(tmp_path / "layout")
    call("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry.host}/base:0", f"oci:{layout}:0")
    sources = tmp_path / "own.sources"
    sources.write_text(
        f"Types: deb\nURIs: http://archive.invalid/{distribution}\nSuites: {codename}\nComponents: main\n"
        f"Signed-By: /usr/share/keyrings/{distribution}-archive-keyring.gpg\n"
    )
    other = tmp_path / "os-release"
    other.write_text('ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n')
    for tag, file, place in (("1", sources, "/etc/apt/sources.list.d/own.sources"), ("2", other, "/etc/os-release")):
        call("umoci", "insert", "--rootless", "--image", f"{layout}:0", "--tag", tag, str(file), place)
        image = f"docker://{registry.host}/base:{tag}"
        call("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:{tag}", image)

    parent = f"{registry.host}/base:1"
    built = build(machine, "on-base:1", "--parent", parent, "--apt", "less", "--no-bytecode")
    assert "by the parent's apt-get in a sandbox" in built.done().stderr, built
    assert inside(machine, "on-base:1", "less --version | head -n 1").startswith("less ")
    assert (
        inside(machine, "on-base:1", "dpkg --audit; apt-get check -qq; ls /usr/sbin/policy-rc.d 2>&1 | wc -l") == "1\n"
    )
    assert inside(machine, "on-base:1", "apt-mark showmanual | grep -x less") == "less\n"
    again = build(machine, "on-base:1", "--parent", parent, "--apt", "less", "--no-bytecode", "--upgrade")
    assert digest(again) == digest(built), "asked again"

    there = build(machine, "on-base:2", "--parent", parent, "--apt", "apt", "--no-bytecode")
    assert "Debian packages" not in there.done().stderr, "the parent has it"
    missing = build(machine, "on-base:3", "--parent", parent, "--apt", "no-such-package").refused()
    assert "needs `no-such-package`, which no configured suite has" in missing
    assert parent in missing
    alpine = build(machine, "on-base:4", "--parent", f"{registry.host}/base:2", "--apt", "less").refused()
    assert "is Alpine Linux v3.20" in alpine
    assert "based on Debian or Ubuntu" in alpine
