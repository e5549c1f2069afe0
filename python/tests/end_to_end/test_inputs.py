"""Where packages come from: lock files, projects, this Python, private indexes, sources; and replayed locks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .machine import ROOT, Machine, Outcome
from .package_index import Index, index_of, project, sdist, wheel

SCRIPT = """
import json
from longshore import pipeline, step
from longshore.config import DockerSettings

@step
def look() -> None:
    from importlib.metadata import distributions
    found = {{d.metadata["Name"]: d.version for d in distributions() if "/opt/venv" in str(d.locate_file(""))}}
    print("FOUND", json.dumps(found, sort_keys=True))

@pipeline(settings={{"docker": DockerSettings(**{settings!r})}})
def looking():
    look()

if __name__ == "__main__":
    looking()
"""


def run(machine: Machine, python: str = sys.executable, env: Dict[str, str] | None = None, **settings: Any) -> Outcome:
    machine.write("look.py", SCRIPT.format(settings={"image_tag": "1", **settings}))
    return machine.run(python, "look.py", **(env or {}))


def found(outcome: Outcome) -> Dict[str, str]:
    """The packages that the step found in its environment, but for longshore."""
    line = re.search(r"FOUND (\{.*\})", outcome.done().stdout + outcome.stderr)
    assert line, outcome
    packages: Dict[str, str] = json.loads(line[1])
    packages.pop("longshore", None)
    return packages


@pytest.fixture
def index() -> Iterator[Index]:
    """Packages of a house that no other index has."""
    packages = Index()
    packages.add_wheel("inhouse", "1.0", ["inhouse_base>=1"])
    packages.add_wheel("inhouse_base", "1.0")
    packages.add_wheel("inhouse_base", "1.5")
    packages.add_wheel("inhouse_web", "2.0")
    packages.add_wheel("inhouse_dev", "3.0")
    packages.add(
        "inhouse_native",
        "1.0",
        wheel("inhouse_native", "1.0", {}, tag="cp311-cp311-win_amd64"),
        tag="cp311-cp311-win_amd64",
    )
    with index_of(packages) as served:
        yield served


PROJECT = """
[project]
name = "app"
version = "1"
requires-python = ">=3.9"
dependencies = ["inhouse==1.0", "inhouse_native; sys_platform == 'win32'"]
[project.optional-dependencies]
web = ["inhouse_web"]
[dependency-groups]
dev = ["inhouse_dev", {{include-group = "more"}}]
more = ["inhouse_base<1.2"]
[tool.uv]
package = false
[[tool.uv.index]]
name = "house"
url = "{url}"
default = true
"""


def uv(machine: Machine, *arguments: str) -> None:
    done = subprocess.run(["uv", *arguments], cwd=machine.project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_uv_lock_is_installed_as_it_is_and_refused_when_it_is_stale(machine: Machine, index: Index) -> None:
    pyproject = machine.write("pyproject.toml", PROJECT.format(url=index.url))
    uv(machine, "lock")
    index.add_wheel("inhouse", "1.1")
    index.add_wheel("inhouse_base", "1.1")
    plain = run(machine, lock="uv.lock")
    assert found(plain) == {"inhouse": "1.0", "inhouse_base": "1.0"}
    everything = run(machine, lock="uv.lock", extras=["web"], groups=["dev"])
    assert found(everything) == {
        "inhouse": "1.0",
        "inhouse_base": "1.0",
        "inhouse_web": "2.0",
        "inhouse_dev": "3.0",
    }
    assert "unchanged" in run(machine, lock="uv.lock").done().stderr
    assert "nope" in run(machine, lock="uv.lock", extras=["nope"]).refused()
    pyproject.write_text(PROJECT.format(url=index.url).replace("inhouse==1.0", "inhouse==1.1"))
    said = run(machine, lock="uv.lock").refused()
    assert "uv.lock does not match pyproject.toml any more: run `uv lock`" in said


def test_a_project_brings_its_dependencies_extras_and_groups(machine: Machine, index: Index) -> None:
    machine.write("pyproject.toml", PROJECT.format(url=index.url))
    assert found(run(machine, pyproject="pyproject.toml")) == {"inhouse": "1.0", "inhouse_base": "1.5"}
    packages = found(run(machine, pyproject="pyproject.toml", extras=["web"], groups=["dev"]))
    assert packages == {"inhouse": "1.0", "inhouse_base": "1.0", "inhouse_web": "2.0", "inhouse_dev": "3.0"}
    assert "name its pyproject.toml" in run(machine, requirements=["idna==3.10"], extras=["web"]).refused()


@pytest.fixture(scope="session")
def exporters() -> str:
    """A `PATH` that has Poetry and Pipenv."""
    done = subprocess.run([str(ROOT / "scripts/exporters")], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return f"{ROOT / 'target/exporters/bin'}{os.pathsep}{os.environ['PATH']}"


def tool(machine: Machine, path: str, *command: str) -> None:
    environment = {**os.environ, "PATH": path, "PIPENV_IGNORE_VIRTUALENVS": "1"}
    done = subprocess.run(
        [str(ROOT / "target/exporters/bin" / command[0]), *command[1:]],
        cwd=machine.project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)


POETRY = """
[project]
name = "app"
version = "1"
requires-python = ">=3.9,<4"
dependencies = ["inhouse (==1.0)", "inhouse_native (==1.0) ; sys_platform == 'win32'"]
[project.optional-dependencies]
web = ["inhouse_web (==2.0)"]
[tool.poetry]
package-mode = false
[tool.poetry.group.dev.dependencies]
inhouse_dev = "3.0"
[[tool.poetry.source]]
name = "house"
url = "{url}"
priority = "primary"
"""


def test_a_poetry_lock_is_read_by_poetry(machine: Machine, index: Index, exporters: str) -> None:
    pyproject = machine.write("pyproject.toml", POETRY.format(url=index.url))
    tool(machine, exporters, "poetry", "lock", "--no-interaction")
    with_poetry = {"PATH": exporters}
    index.add_wheel("inhouse_base", "1.6")
    packages = found(run(machine, env=with_poetry, lock="poetry.lock", extras=["web"], groups=["dev"]))
    assert packages == {"inhouse": "1.0", "inhouse_base": "1.5", "inhouse_web": "2.0", "inhouse_dev": "3.0"}
    # The hashes of the lock bind: another file of the same name and version is not taken.
    index.add_wheel("inhouse_web", "2.0", inhouse_web="CHANGED = 1")
    said = run(machine, env=with_poetry, lock="poetry.lock", extras=["web"], groups=[]).refused()
    assert "inhouse-web" in said
    assert "hash" in said
    pyproject.write_text(POETRY.format(url=index.url).replace("inhouse (==1.0)", "inhouse (>=1.0)"))
    said = run(machine, env=with_poetry, lock="poetry.lock").refused()
    assert "poetry.lock does not match pyproject.toml any more: run `poetry lock`" in said


PIPFILE = """
[[source]]
name = "house"
url = "{url}"
verify_ssl = false
[packages]
inhouse = "==1.0"
[dev-packages]
inhouse_dev = "==3.0"
"""


def test_a_pipfile_lock_is_read_by_pipenv(machine: Machine, index: Index, exporters: str) -> None:
    pipfile = machine.write("Pipfile", PIPFILE.format(url=index.url))
    tool(machine, exporters, "pipenv", "lock")
    with_pipenv = {"PATH": exporters}
    assert found(run(machine, env=with_pipenv, lock="Pipfile.lock")) == {"inhouse": "1.0", "inhouse_base": "1.5"}
    packages = found(run(machine, env=with_pipenv, lock="Pipfile.lock", groups=["dev"]))
    assert packages == {"inhouse": "1.0", "inhouse_base": "1.5", "inhouse_dev": "3.0"}
    pipfile.write_text(PIPFILE.format(url=index.url).replace("3.0", "3.1"))
    said = run(machine, env=with_pipenv, lock="Pipfile.lock").refused()
    assert "Pipfile.lock does not match the Pipfile any more: run `pipenv lock`" in said
    without = os.pathsep.join(path for path in os.environ["PATH"].split(os.pathsep) if "pyenv" not in path)
    said = run(machine, env={"PATH": without}, lock="Pipfile.lock", groups=["dev-packages"]).refused()
    assert "run `pip install pipenv`" in said


def test_a_pylock_is_refused_where_it_does_not_fit(machine: Machine, index: Index) -> None:
    content = index.files["inhouse_native-1.0-cp311-cp311-win_amd64.whl"]
    url = f"http://{index.address}/files/inhouse_native-1.0-cp311-cp311-win_amd64.whl"
    digest = hashlib.sha256(content).hexdigest()
    lock = 'lock-version = "1.0"\ncreated-by = "hand"\n[[packages]]\nname = "inhouse-native"\nversion = "1.0"\n'
    machine.write("pylock.win.toml", lock + f'wheels = [{{url = "{url}", hashes = {{sha256 = "{digest}"}}}}]\n')
    said = run(machine, lock="pylock.win.toml").refused()
    assert "inhouse-native 1.0 has no wheel for Python 3." in said
    assert "there are wheels for cp311-cp311-win_amd64" in said
    machine.write(
        "pylock.toml", lock.replace("[[packages]]", "environments = [\"sys_platform == 'win32'\"]\n[[packages]]")
    )
    assert "it is for sys_platform == 'win32', not for Python 3." in run(machine, lock="pylock.toml").refused()
    machine.write("pylock.toml", "x = ")
    assert "pylock.toml cannot be used" in run(machine, lock="pylock.toml").refused()
    assert "must be called uv.lock" in run(machine, lock=str(machine.write("other.lock", ""))).refused()


SECRET = "tr0ub4dor&3-xyzzy"


def everything_kept(home: Path) -> Iterator[bytes]:
    """Every file below a folder, and what is in it if it is compressed with gzip."""
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            yield content
            while content[:2] == b"\x1f\x8b":
                member = zlib.decompressobj(31)
                yield member.decompress(content)
                content = member.unused_data


def test_a_private_index_gets_its_secret_and_nobody_else_does(tmp_path: Path, index: Index) -> None:
    machine = Machine(tmp_path / "home", tmp_path / "project")
    index.login = f"robot:{SECRET}"
    private: Dict[str, Any] = {
        "requirements": ["inhouse==1.0"],
        "indexes": {"house": index.url},
        "secrets": {"house": "env:HOUSE_LOGIN"},
    }
    secret = {"HOUSE_LOGIN": index.login, "LONGSHORE_LOG": "trace"}
    outcome = run(machine, env=secret, **private)
    assert found(outcome) == {"inhouse": "1.0", "inhouse_base": "1.5"}
    said = outcome.stdout + outcome.stderr
    said += machine.longshore("image", "inspect", "looking:1", "-o", "json").done().stdout
    forms = [SECRET, base64.b64encode(index.login.encode()).decode(), SECRET.replace("&", "%26")]
    kept = list(everything_kept(machine.home))
    assert any(b"inhouse" in content for content in kept)
    for form in forms:
        assert form not in said
        assert not any(form.encode() in content for content in kept)
    # A secret can be in a file as well, and a token alone.
    machine.write("../token", index.login + "\n")
    in_file = {**private, "secrets": {"house": f"file:{machine.project.parent / 'token'}"}}
    assert "unchanged" in run(machine, **in_file).done().stderr

    # Files in another place do not get it.
    with index_of(Index()) as other:
        index.add_wheel("inhouse_moved", "1.0")
        other.files = dict(index.files)
        index.elsewhere = other.address
        moved = {**private, "requirements": ["inhouse_moved"]}
        assert found(run(machine, env=secret, **moved)) == {"inhouse_moved": "1.0"}
        assert any(path.startswith("/files/inhouse_moved") for path, _ in other.asked)
        assert {given for _, given in other.asked} == {None}


def test_a_private_index_that_refuses_or_is_not_there_is_a_sentence(machine: Machine, index: Index) -> None:
    index.login = f"robot:{SECRET}"
    private: Dict[str, Any] = {
        "requirements": ["inhouse==1.0"],
        "indexes": {"house": index.url},
        "secrets": {"house": "env:HOUSE_LOGIN"},
    }
    said = run(machine, env={"HOUSE_LOGIN": f"robot:{SECRET}-wrong"}, **private).refused()
    assert "refuses access" in said
    assert index.address in said
    assert SECRET not in said
    said = run(machine, **private).refused()
    assert "the secret of the index `house` cannot be read from the environment variable HOUSE_LOGIN" in said
    private["indexes"] = {"house": "http://127.0.0.1:9/simple"}
    said = run(machine, env={"HOUSE_LOGIN": f"robot:{SECRET}"}, **private).refused()
    assert "cannot be reached" in said
    assert "127.0.0.1:9" in said
    assert SECRET not in said


def test_sources_are_built_in_the_image_and_once(machine: Machine, index: Index) -> None:
    home = str(Path.home())
    marker = machine.write("../outside", "")
    code = project("srconly", "1.0", "VALUE = 1\n", index.port, str(marker))
    index.files["srconly-1.0.tar.gz"] = sdist("srconly", "1.0", code)
    for path, text in project("nearby", "0.1", "VALUE = 2\n", index.port, home).items():
        machine.write(f"nearby/{path}", text)
    repository = machine.project.parent / "repository"
    repository.mkdir()
    for path, text in project("versioned", "0.2", "VALUE = 3\n").items():
        (repository / path).write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], cwd=repository, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True)
    lines = ["srconly==1.0", "-e ./nearby", f"versioned @ git+file://{repository}"]
    first = run(machine, requirements=lines, indexes={"house": index.url})
    assert found(first) == {"srconly": "1.0", "nearby": "0.1", "versioned": "0.2"}
    assert [line for line in first.stderr.splitlines() if " built " in line]
    program = "import srconly, nearby, versioned as v; print(srconly.VALUE, nearby.VALUE, v.VALUE, srconly.NETWORK, "
    program += "srconly.HOME, nearby.NETWORK, nearby.__file__)"
    ran = machine.longshore("image", "run", "looking:1", "--", "python", "-c", program).done()
    assert ran.stdout.split()[:6] == ["1", "2", "3", "False", "False", "False"]
    assert ran.stdout.split()[6].startswith("/opt/venv/")
    locked = machine.longshore("image", "lock", "looking:1").done().stdout
    assert f'commit-id = "{commit.stdout.strip()}"' in locked
    # The second time nothing is built; when the folder changes, only its wheel is.
    again = run(machine, requirements=lines, indexes={"house": index.url}).done()
    assert " built " not in again.stderr
    machine.write("nearby/code.py", "VALUE = 4\n")
    changed = run(machine, requirements=lines, indexes={"house": index.url}).done()
    assert re.findall(r"(\w+) [\d.]+ .* built ", changed.stderr) == ["nearby"]


def test_a_source_that_needs_a_compiler_or_fails_is_a_sentence(machine: Machine, index: Index) -> None:
    broken = project("broken", "1.0", "")
    broken["backend.py"] = "def build_wheel(*_):\n    raise RuntimeError('the moon is not full')\n"
    index.files["broken-1.0.tar.gz"] = sdist("broken", "1.0", broken)
    said = run(machine, requirements=["broken"], indexes={"house": index.url}).refused()
    assert "cannot build a wheel of broken from broken-1.0.tar.gz" in said
    assert "the moon is not full" in said
    needs = project("needs_c", "1.0", "")
    needs["backend.py"] = (
        "import subprocess\ndef build_wheel(*_):\n    try:\n        subprocess.run(['gcc'], check=True)\n"
        "    except OSError:\n        raise SystemExit(\"error: command 'gcc' failed: No such file or directory\")\n"
    )
    index.files["needs_c-1.0.tar.gz"] = sdist("needs_c", "1.0", needs)
    said = run(machine, requirements=["needs_c"], indexes={"house": index.url}).refused()
    assert "which has code in C" in said
    assert 'apt_packages=["gcc"' in said
    said = run(machine, requirements=["gone @ git+file:///no/such/repository"]).refused()
    assert "/no/such/repository" in said


def test_this_python_is_replicated(machine: Machine, index: Index) -> None:
    venv = machine.project.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = str(venv / "bin/python")
    install = ["pip", "install", "-q", "--python", python, "--default-index", index.url, "--no-deps"]
    # An environment that no resolver would make: what is there is what is wanted.
    uv(machine, *install, "inhouse==1.0", "inhouse_base==1.0", "inhouse_web")
    outcome = run(machine, python, replicate_local_python_environment=True, indexes={"house": index.url})
    assert found(outcome) == {"inhouse": "1.0", "inhouse_base": "1.0", "inhouse_web": "2.0"}
    for path, text in project("nearby", "0.1", "").items():
        machine.write(f"nearby/{path}", text)
    local = machine.project / "inhouse_dev-3.0-py3-none-any.whl"
    local.write_bytes(index.files[local.name])
    uv(machine, *install, str(local), str(machine.project / "nearby"))
    outcome = run(machine, python, replicate_local_python_environment=True, indexes={"house": index.url})
    assert found(outcome)["nearby"] == "0.1"
    assert found(outcome)["inhouse_dev"] == "3.0"
    shutil.rmtree(machine.project / "nearby")
    said = run(machine, python, replicate_local_python_environment=True, indexes={"house": index.url}).refused()
    assert "nearby was installed from" in said
    assert "is not there any more" in said


def test_packages_with_the_same_file_are_told(machine: Machine, index: Index) -> None:
    index.add_wheel("one", "1.0", shared__it="A = 1\n", shared__same="")
    index.add_wheel("two", "1.0", shared__it="A = 2\n", shared__same="")
    settings: Dict[str, Any] = {"requirements": ["one", "two"], "indexes": {"house": index.url}}
    for _ in range(2):
        told: List[str] = [line for line in run(machine, **settings).done().stderr.splitlines() if "shared/" in line]
        assert len(told) == 1
        assert "shared/it.py is in" in told[0]
        assert "one-1.0-py3-none-any.whl" in told[0]
        assert "two-1.0-py3-none-any.whl" in told[0]


def layers(machine: Machine, image: str) -> List[str]:
    shown = json.loads(machine.longshore("image", "inspect", image, "-o", "json").done().stdout)
    return [layer["digest"] for layer in shown["manifest"]["layers"]]


def test_a_lock_is_kept_and_replayed(machine: Machine, index: Index, tmp_path: Path) -> None:
    index.files["srconly-1.0.tar.gz"] = sdist("srconly", "1.0", project("srconly", "1.0", "VALUE = 1\n"))
    machine.write("a.py", "")
    machine.write("requirements.txt", f"--index-url {index.url}\ninhouse\nsrconly\n")
    machine.longshore("build", ".", "--tag", "locked:1", "--requirements", "requirements.txt").done()
    lock = machine.longshore("image", "lock", "locked:1").done().stdout
    assert 'created-by = "longshore"' in lock
    assert 'name = "inhouse-base"\nversion = "1.5"' in lock
    # Newer packages change nothing, and the index is asked for the files alone.
    index.add_wheel("inhouse", "2.0")
    index.asked.clear()
    other = Machine(tmp_path / "elsewhere/home", tmp_path / "elsewhere/project")
    shutil.copytree(machine.home / "data", other.home / "data")
    other.write("a.py", "")
    other.write("pylock.toml", lock)
    other.longshore("build", ".", "--tag", "locked:2", "--locked", "pylock.toml").done()
    other.longshore("build", ".", "--tag", "locked:3", "--locked", "pylock.toml", "-r", "inhouse<2").done()
    assert layers(other, "locked:2")[:-2] == layers(machine, "locked:1")[:-2]
    assert index.asked
    assert all(path.startswith("/files/") for path, _ in index.asked)
    lines = ["--locked", "pylock.toml", "-r", "inhouse>=2", "-r", "missing"]
    said = other.longshore("build", ".", "--tag", "locked:4", *lines).refused()
    assert "`inhouse>=2` is required, and the lock has inhouse 1.0" in said
    assert "`missing` is required, and the lock has no missing" in said
    assert "no record of a build" in other.longshore("image", "lock", "nothing:1").refused()
