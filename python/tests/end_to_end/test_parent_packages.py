"""What the parent has is not installed again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

from .package_index import Index, index_of, project, sdist
from .test_fresh_machine import Watched, fresh, has_downloaded, layers_here, registry
from .test_images import call
from .test_surgery import add_layer, parent_of

if TYPE_CHECKING:
    from pathlib import Path

    from .machine import Machine, Outcome

__all__ = ["fresh", "registry"]

PACKAGES = "usr/lib/python3/dist-packages"
HELLO = """
def main():
    import inhouse_web
    print("the parent's, and", inhouse_web.PLACE)
"""
PARENT = {
    "inhouse.py": "PLACE = 'the parent'\n",
    "inhouse-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: inhouse\nVersion: 1.0\n",
    "inhouse_base.py": f"PLACE = 'the parent'\n{HELLO}",
    "inhouse_base-1.0.egg-info/PKG-INFO": "Metadata-Version: 1.1\nName: inhouse-base\nVersion: 1.0\n",
    "inhouse_base-1.0.egg-info/entry_points.txt": "[console_scripts]\ninhouse-tool = inhouse_base:main\n",
    "inhouse_gone-1.0.egg-info": "Metadata-Version: 1.1\nName: inhouse-gone\nVersion: 1.0\n",
}


@pytest.fixture
def index() -> Iterator[Index]:
    packages = Index()
    packages.metadata = True
    ours = "PLACE = 'the environment'\n"
    for version in ("1.0", "2.0", "3.0"):
        packages.add_wheel("inhouse", version, ["inhouse_base>=1"], inhouse=ours)
    packages.add_wheel("inhouse_base", "1.0", inhouse_base=ours)
    packages.add_wheel("inhouse_base", "1.5", inhouse_base=ours)
    packages.add_wheel("inhouse_gone", "1.0", inhouse_gone=ours)
    packages.add_wheel("inhouse_web", "1.0", inhouse_web=ours)
    with index_of(packages) as served:
        yield served


class Parent:
    """A parent in a registry, made by a program that is not ours: Python, and packages that nobody installed."""

    def __init__(self, machine: Machine, registry: Watched, folder: Path) -> None:
        self._layout, self._host = f"{folder}/layout", registry.host
        self.bare = f"{registry.host}/base:bare"
        machine.longshore("image", "copy", parent_of(machine, "first:1"), self.bare).done()
        call("skopeo", "copy", "--src-tls-verify=false", f"docker://{self.bare}", f"oci:{self._layout}:1")
        add_layer(self._layout, "1", {f"/{PACKAGES}/{path}": text for path, text in PARENT.items()})
        self.name = self.more("1", {f"/{PACKAGES}/.wh.inhouse_gone-1.0.egg-info": ""})

    def more(self, tag: str, files: dict[str, str]) -> str:
        """The parent with one more layer."""
        if tag != "1":
            call("umoci", "tag", "--image", f"{self._layout}:1", tag)
        add_layer(self._layout, tag, files)
        to = f"{self._host}/base:{tag}"
        call("skopeo", "copy", "--dest-tls-verify=false", f"oci:{self._layout}:{tag}", f"docker://{to}")
        return to


@pytest.fixture
def parent(machine: Machine, registry: Watched, tmp_path: Path) -> Parent:
    return Parent(machine, registry, tmp_path)


def build(machine: Machine, image: str, parent: str, index: Index, *options: str) -> Outcome:
    machine.write("app/main.py", "print('hello')\n")
    arguments = ("build", "app", "--tag", image, "--parent", parent, "--index", f"house={index.url}", "-o", "json")
    return machine.longshore(*arguments, "--no-bytecode", *options)


def digest(outcome: Outcome) -> str:
    return str(json.loads(outcome.done().stdout)["digest"])


def files(index: Index) -> list[str]:
    """The files that the index was asked for, metadata aside."""
    found = [path.rpartition("/")[2] for path, _ in index.asked if path.startswith("/files/")]
    return [name for name in found if not name.endswith(".metadata")]


def has(outcome: Outcome) -> list[str]:
    """What the build says that the parent has."""
    found = re.search(r"^(?:parent)? +has (.*): not installed again$", outcome.done().stderr, re.MULTILINE)
    return found[1].split(", ") if found else []


def output(machine: Machine, image: str, *command: str) -> str:
    return machine.longshore("image", "run", image, "--", *command).done().stdout.strip()


def place(machine: Machine, image: str, module: str = "inhouse") -> str:
    script = f"import importlib.metadata as m, {module} as it; print(m.version('{module}'), it.PLACE)"
    return output(machine, image, "python", "-c", script)


def test_what_the_parent_has_is_neither_fetched_nor_in_a_layer(
    registry: Watched, parent: Parent, index: Index, fresh: Callable[[], Machine]
) -> None:
    image = f"{registry.host}/team/app:1"
    required = ("-r", "inhouse", "-r", "inhouse_gone")
    first = fresh()
    built = build(first, image, parent.name, index, *required)
    assert has(built) == ["inhouse 1.0", "inhouse-base 1.0"], "though there are newer ones"
    assert built.layers("spliced") == ["inhouse-gone 1.0"], "which the parent removed"
    assert files(index) == ["inhouse_gone-1.0-py3-none-any.whl"]

    # A machine that has never seen the parent is told by the registry.
    index.asked.clear()
    second = fresh()
    registry.asked()
    plan = build(second, image, parent.name, index, *required, "--dry-run")
    [planned] = json.loads(plan.done().stdout)["images"]
    assert planned["parent"]["has"] == ["inhouse 1.0", "inhouse-base 1.0"]
    assert [package["name"] for package in planned["lock"]["packages"]] == ["inhouse-gone"]
    shown = second.longshore(
        *("build", "app", "--tag", image, "--parent", parent.name, "--index", f"house={index.url}", "--no-bytecode"),
        *(*required, "--dry-run"),
    )
    assert "parent: has inhouse 1.0, inhouse-base 1.0: not installed again" in shown.done().stdout
    assert digest(build(second, image, parent.name, index, *required)) == digest(built)
    assert not registry.blobs_sent() & set(registry.layers("base", "1")), "nor are the parent's layers read"
    assert not has_downloaded(second)
    assert not layers_here(second, registry, "base", "1")
    assert index.asked == []

    # The lock has all of it: on another parent, everything is installed.
    lock = second.longshore("image", "lock", image).done().stdout
    assert 'name = "inhouse"\nversion = "1.0"\n' in lock
    locked = second.write("pylock.toml", lock)
    bare = build(second, f"{registry.host}/bare:1", parent.bare, index, "--locked", str(locked))
    assert has(bare) == []
    installed = re.findall(r"inhouse[a-z-]*", " ".join(bare.layers("spliced")))
    assert sorted(installed) == ["inhouse", "inhouse-base", "inhouse-gone"]


def test_the_image_runs_with_the_packages_of_both(machine: Machine, parent: Parent, index: Index) -> None:
    built = build(machine, "both:1", parent.name, index, "-r", "inhouse", "-r", "inhouse_web")
    assert has(built) == ["inhouse 1.0", "inhouse-base 1.0"]
    assert place(machine, "both:1") == "1.0 the parent"
    assert place(machine, "both:1", "inhouse_web") == "1.0 the environment"
    # A script of the parent's packages, in the environment.
    assert output(machine, "both:1", "inhouse-tool") == "the parent's, and the environment"
    assert machine.longshore("image", "rebuild", "both:1").done().code == 0

    bill = json.loads(machine.longshore("image", "sbom", "both:1").done().stdout)
    purls = [component["purl"] for component in bill["components"] if "inhouse" in component["purl"]]
    assert sorted(purls) == ["pkg:pypi/inhouse-base@1.0", "pkg:pypi/inhouse-web@1.0", "pkg:pypi/inhouse@1.0"]

    said = machine.longshore("image", "rebase", "both:1", "--onto", parent.bare, "--tag", "both:2").refused(1)
    assert "does not have in the same version (inhouse 1.0, inhouse-base 1.0)" in " ".join(said.split())
    newer = parent.more("newer", {"/etc/newer": "newer\n"})
    machine.longshore("image", "rebase", "both:1", "--onto", newer, "--tag", "both:3").done()
    assert place(machine, "both:3") == "1.0 the parent"
    said = machine.longshore("image", "patch", "both:1", "--wheel", "inhouse==2.0", "--tag", "both:4").refused(1)
    assert f"inhouse 1.0 is not installed in localhost:5000/both:1: its parent {parent.name} has it" in " ".join(
        said.split()
    )


def test_another_version_shows_before_the_parents(machine: Machine, parent: Parent, index: Index) -> None:
    built = build(machine, "other:1", parent.name, index, "-r", "inhouse==2.0")
    assert has(built) == ["inhouse-base 1.0"]
    assert place(machine, "other:1") == "2.0 the environment"
    assert place(machine, "other:1", "inhouse_base") == "1.0 the parent"
    # What the parent cannot give stays where it was; a requirement that it can give moves there.
    built = build(machine, "other:2", parent.name, index, "-r", "inhouse>1.0", "-r", "inhouse_web")
    assert has(built) == ["inhouse-base 1.0"]
    assert place(machine, "other:2") == "2.0 the environment"
    assert has(build(machine, "other:3", parent.name, index, "-r", "inhouse")) == ["inhouse 1.0", "inhouse-base 1.0"]
    newest = build(machine, "other:4", parent.name, index, "-r", "inhouse", "--upgrade")
    assert has(newest) == []
    all_again = build(machine, "other:5", parent.name, index, "-r", "inhouse==1.0", "--ignore-parent-packages")
    assert has(all_again) == []
    assert place(machine, "other:5") == "1.0 the environment"
    assert place(machine, "other:5", "inhouse_base") == "1.5 the environment"


def test_a_lock_s_entries_are_judged_each_by_itself(machine: Machine, parent: Parent, index: Index) -> None:
    """A source distribution that the parent has is not built; what was asked for by its URL is installed."""
    name = "inhouse-1.0.tar.gz"
    index.files[name] = sdist("inhouse", "1.0", project("inhouse", "1.0", "PLACE = 'the sources'\n"))
    links = dict(re.findall(r'href="(/files/([^"#]+)#sha256=\w+)', index.page("inhouse") + index.page("inhouse-base")))
    links = {file: f"http://{index.address}{link}" for link, file in links.items()}

    def listed(file: str) -> str:
        url, _, hashed = links[file].partition("#sha256=")
        return f'url = "{url}", hashes = {{ sha256 = "{hashed}" }}'

    def lock(**packages: str) -> tuple[str, ...]:
        head = 'lock-version = "1.0"\ncreated-by = "test"\n'
        entries = (f'\n[[packages]]\nname = "{package}"\n{lines}\n' for package, lines in packages.items())
        machine.write("pylock.toml", head + "".join(entries))
        return ("--lock", "pylock.toml")

    source = f'version = "1.0"\nsdist = {{ name = "{name}", {listed(name)} }}'
    base = f'version = "1.5"\nwheels = [{{ {listed("inhouse_base-1.5-py3-none-any.whl")} }}]'
    built = build(machine, "locked:1", parent.name, index, *lock(inhouse=source, **{"inhouse-base": base}))
    assert has(built) == ["inhouse 1.0"]
    assert "built" not in built.stderr
    assert name not in files(index)
    assert place(machine, "locked:1", "inhouse_base") == "1.5 the environment"
    assert name in machine.longshore("image", "lock", "locked:1").done().stdout

    direct = f'version = "1.0"\narchive = {{ {listed("inhouse-1.0-py3-none-any.whl")} }}'
    built = build(machine, "locked:2", parent.name, index, *lock(inhouse=direct))
    assert has(built) == []
    assert place(machine, "locked:2") == "1.0 the environment"


def test_what_only_the_parents_python_can_say_is_asked(machine: Machine, parent: Parent, index: Index) -> None:
    """Without dpkg's list, nobody knows which version Debian's Python has."""
    odd = parent.more("odd", {"/var/lib/dpkg/.wh.status": ""})
    built = build(machine, "odd:1", odd, index, "-r", "inhouse", "-r", "inhouse_web")
    assert has(built) == ["inhouse 1.0", "inhouse-base 1.0"]
    assert output(machine, "odd:1", "inhouse-tool") == "the parent's, and the environment"


def test_packages_of_debian_are_the_parents(machine: Machine) -> None:
    machine.write("app/main.py", "print('hello')\n")
    options: list[Any] = ["build", "app", "--no-bytecode", "--apt", "python3-six", "-r", "six"]
    built = machine.longshore(*options, "--tag", "six:1").done()
    [six] = has(built)
    assert six.startswith("six 1.")
    assert output(machine, "six:1", "python", "-c", "import six; print(six.__file__)") == f"/{PACKAGES}/six.py"
    # On an image of it as well, that the build has found out for itself.
    machine.longshore("build", "app", "--no-bytecode", "--apt", "python3-six", "--tag", "base-of-six:1").done()
    parent = ("--parent", "localhost:5000/base-of-six:1")
    assert has(machine.longshore("build", "app", "--no-bytecode", *parent, "-r", "six", "--tag", "six:2")) == [six]
