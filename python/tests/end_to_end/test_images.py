"""What others make of our images, and that the same inputs give the same one."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List

from .machine import Machine


def call(*command: str, **options: Any) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_skopeo_and_umoci_read_an_export(machine: Machine, tmp_path: Path) -> None:
    machine.longshore("image", "export", "first:1", "-f", str(tmp_path / "first.tar")).done()
    digest = next(image["digest"] for image in machine.images() if image["repository"].endswith("/first"))
    call("skopeo", "copy", "--preserve-digests", f"oci-archive:{tmp_path}/first.tar", f"oci:{tmp_path}/layout:first")
    manifest = call("skopeo", "inspect", "--raw", f"oci:{tmp_path}/layout:first")
    assert "sha256:" + hashlib.sha256(manifest.encode()).hexdigest() == digest
    # umoci checks every digest and every diff_id as it unpacks.
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    call("umoci", "unpack", *rootless, "--image", f"{tmp_path}/layout:first", f"{tmp_path}/bundle")
    root = f"{tmp_path}/bundle/rootfs"
    enter = ["chroot", root] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "chroot", root]
    program = "import idna, sys; print(idna.encode('ä'), sys.prefix)"
    assert call(*enter, "/opt/venv/bin/python", "-c", program) == "b'xn--4ca' /opt/venv\n"
    if os.getuid() != 0:
        call("chmod", "-R", "u+rwX", root)


def test_a_docker_archive_is_whole(machine: Machine, tmp_path: Path) -> None:
    machine.longshore("image", "export", "first:1", "--format", "docker", "-f", str(tmp_path / "first.tar")).done()
    inspected = json.loads(call("skopeo", "inspect", f"docker-archive:{tmp_path}/first.tar"))
    assert len(inspected["Layers"]) == len(json.loads(inspect(machine, "first:1"))["manifest"]["layers"])
    with tarfile.open(tmp_path / "first.tar") as archive:
        names = archive.getnames()
    assert "manifest.json" in names
    assert len(names) == len(set(names))


def inspect(machine: Machine, image: str) -> str:
    return machine.longshore("image", "inspect", image, "-o", "json").done().stdout


def test_skopeo_copies_out_of_the_registry_and_into_it(machine: Machine, server: str, tmp_path: Path) -> None:
    tag = next(image["tag"] for image in machine.images() if image["repository"].endswith("/first"))
    insecure = ["--src-tls-verify=false", f"docker://{server}/first:{tag}"]
    call("skopeo", "copy", "--preserve-digests", *insecure, f"dir:{tmp_path}/copy")
    into = f"docker://{server}/copied/by-skopeo:1"
    call("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"dir:{tmp_path}/copy", into)
    digests = {image["repository"]: image["digest"] for image in machine.images()}
    assert digests["localhost:5000/copied/by-skopeo"] == digests["localhost:5000/first"]
    # What somebody else pushed is an image like any other: built on, and run.
    machine.write("hello.py", "import idna, sys; print('on', sys.argv[0])")
    parent = ["--parent", "localhost:5000/copied/by-skopeo:1"]
    machine.longshore("build", ".", "--tag", "on-copy:1", "-r", "six==1.16.0", *parent).done()
    outcome = machine.longshore("image", "run", "on-copy:1", "--", "python", "hello.py").done()
    assert outcome.stdout == "on hello.py\n"


def build(machine: Machine, *arguments: str) -> Dict[str, Any]:
    outcome = machine.longshore("build", ".", "--tag", "same:1", "-o", "json", *arguments).done()
    built: Dict[str, Any] = json.loads(outcome.stdout)
    return built


def test_two_machines_make_the_same_image(machine: Machine, tmp_path: Path) -> None:
    machine.write("code/a.py", "A = 1\n")
    machine.write("code/b.py", "B = 2\n").chmod(0o600)
    machine.write("run.sh", "#!/bin/sh\n").chmod(0o700)
    first = build(machine, "-r", "idna==3.10", "-r", "six==1.16.0")

    # Another home, another folder, another day; what is kept from the first is its downloads alone.
    other = Machine(tmp_path / "elsewhere/home", tmp_path / "elsewhere/deep/project")
    shutil.copytree(machine.home / "cache/downloads", other.home / "cache/downloads")
    for path in ["run.sh", "code/b.py", "code/a.py"]:
        target = other.write(path, (machine.project / path).read_text())
        target.chmod(0o755 if path == "run.sh" else 0o664)
        os.utime(target, (10**9, 10**9))
    second = build(other, "-r", "six==1.16.0", "-r", "idna==3.10")
    assert first["digest"] == second["digest"]


def test_the_time_in_an_image_is_source_date_epoch(machine: Machine) -> None:
    machine.write("a.py", "")
    machine.longshore("build", ".", "--tag", "dated:1", SOURCE_DATE_EPOCH="1700000000").done()
    config = json.loads(inspect(machine, "dated:1"))["config"]
    assert config["created"] == "2023-11-14T22:13:20Z"
    machine.longshore("build", ".", "--tag", "dated:2").done()
    assert json.loads(inspect(machine, "dated:2"))["config"]["created"] == "1970-01-01T00:00:00Z"


def test_secrets_and_rubbish_of_the_folder_stay_out(machine: Machine) -> None:
    for path in ["train.py", ".env", ".git/config", "__pycache__/x.pyc", "data.csv"]:
        machine.write(path, "secret")
    machine.write(".gitignore", "*.csv\n")
    machine.longshore("build", ".", "--tag", "clean:1").done()
    listed = machine.longshore("image", "run", "clean:1", "--", "find", "/app", "-type", "f").done()
    assert listed.stdout == "/app/train.py\n"


def test_lists_are_tables_for_people_and_json_for_programs(machine: Machine) -> None:
    lines: List[str] = machine.longshore("image", "list").done().stdout.splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "DIGEST", "SIZE"]
    assert {"repository", "tag", "digest", "size"} == set(machine.images()[0])
    text = machine.longshore("image", "inspect", "first:1").done().stdout
    assert max(map(len, text.splitlines())) <= 100
    assert "platform linux/" in text


PIPELINE_WITH_A_KEY = """
from longshore import pipeline, step
from longshore.config import DockerSettings

@step
def one() -> int:
    return 1

@pipeline(settings={"docker": DockerSettings(allow_secrets=["conf/app.py"])})
def keyed():
    one()

if __name__ == "__main__":
    keyed()
"""


def code_of(machine: Machine, tag: str) -> List[str]:
    """The files and folders of an image's code."""
    listed = machine.longshore("image", "run", tag, "--", "find", "/app", "-mindepth", "1", "-printf", "%P\\n").done()
    return sorted(listed.stdout.splitlines())


def test_the_code_is_what_docker_would_take(machine: Machine) -> None:
    table = json.loads((Path(__file__).parents[3] / "crates/build/tests/data/dockerignore.json").read_text())
    for path in table["tree"]:
        if not path.endswith("/"):
            machine.write(path, "")
    wanted = ("*\n!**/*.py", "data/*\n!data/keep.csv", "docs/foo\n!docs\ndocs/*.md", "**/*\n!src/util/**")
    cases = [case for case in table["cases"] if case["file"] in wanted]
    assert len(cases) == len(wanted)
    for number, case in enumerate(cases):
        machine.write(".dockerignore", case["file"])
        machine.longshore("build", ".", "--tag", f"docker:{number}").done()
        taken = [path.rstrip("/") for path, digit in zip(table["tree"], case["taken"]) if digit == "1"]
        assert code_of(machine, f"docker:{number}") == sorted(path for path in taken if not path.endswith(".pyc"))


def test_a_key_in_the_code_is_refused_unless_it_is_allowed(machine: Machine) -> None:
    machine.write("a.py", "")
    machine.longshore("build", ".", "--tag", "keys:0").done()
    value = "q8Zt3Lm0Xw" + "Rk5vB1yNc7"
    machine.write("conf/app.py", f"import os\npassword = '{value}'\n")
    machine.write("deploy/id_rsa", value)
    said = machine.longshore("build", ".", "--tag", "keys:1").refused(1)
    assert "conf/app.py line 2 (" in said
    assert "deploy/id_rsa (a file of keys" in said
    assert "allow_secrets" in said
    assert value not in said
    machine.write(".dockerignore", "deploy\n")
    machine.longshore("build", ".", "--tag", "keys:2", "--allow-secrets", "conf").done()
    assert code_of(machine, "keys:2") == ["a.py", "conf", "conf/app.py"]
    # A pipeline's build is kept with what was allowed.
    machine.write("train.py", PIPELINE_WITH_A_KEY)
    machine.python("train.py").done()
    with closing(sqlite3.connect(next(machine.home.rglob("state.db")))) as state:
        rows = [str(row) for row in state.execute("SELECT inputs FROM build")]
    assert any('"path":"conf/app.py"' in row and '"kind":"random-value"' in row for row in rows), rows
    assert not any(value in row for row in rows)
