"""What goes wrong on users' machines: each time a sentence, no backtrace, no half state, and the next run works."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from .machine import PROGRAM, Machine, interrupt_when

OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


def still_works(machine: Machine) -> None:
    machine.write("ok.py", "")
    machine.longshore("build", ".", "--tag", "still-works", "-r", "idna==3.10").done()


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        (["no-such-package-of-anybody==1.0"], "no-such-package-of-anybody"),
        (["idna==3.10", "idna==3.9"], "idna"),
        (["requests==2.32.3", "urllib3==1.20"], "urllib3"),
        (["not a requirement!"], "not a requirement!"),
        (["idna==99.0"], "idna"),
    ],
)
def test_requirements_that_cannot_be_met(machine: Machine, requirements: "list[str]", expected: str) -> None:
    machine.write("a.py", "")
    options = [option for requirement in requirements for option in ("-r", requirement)]
    said = machine.longshore("build", ".", "--tag", "bad", *options).refused(1)
    assert said.startswith(("error: ", "lock", "parent")), said
    assert expected in said
    assert not any(image["repository"].endswith("/bad") for image in machine.images())
    still_works(machine)


def test_a_misspelt_setting(machine: Machine) -> None:
    machine.write(
        "train.py",
        "from longshore.config import DockerSettings\nDockerSettings(requirments=['a'])\n",
    )
    said = machine.python("train.py").refused(2)
    assert "did you mean" in said
    assert "requirements" in said


def test_a_misspelt_setting_in_the_specification(machine: Machine) -> None:
    spec = """{"version": 2, "pipeline": {"name": "p"}, "source_root": "/", "sdk_version": "0.1.0",
        "python": {"executable": "/usr/bin/python3", "version": "3.11.2"}, "settings": {"docker": {"requirments": []}},
        "steps": [{"name": "s", "source": {"module": "m", "attribute": "s"}, "outputs": []}]}"""
    said = machine.longshore("run", "--spec", str(machine.write("spec.json", spec))).refused(2)
    assert "DockerSettings has no field `requirments`; did you mean `requirements`?" in said


def test_a_syntax_error(machine: Machine) -> None:
    machine.write("train.py", "def broken(:\n")
    outcome = machine.python("train.py")
    assert outcome.code == 1
    assert "SyntaxError" in outcome.stderr


def test_no_network(new_machine: Machine) -> None:
    new_machine.write("a.py", "")
    said = new_machine.longshore("build", ".", "--tag", "a", "-r", "idna==3.10", **OFFLINE).refused(1)
    assert said.count("error: ") == 1, said
    assert not list(new_machine.home.glob("data/registry/repositories/**/tags/*"))


def test_what_is_known_needs_no_network(machine: Machine) -> None:
    machine.write("a.py", "")
    machine.longshore("build", ".", "--tag", "offline", "-r", "idna==3.10", **OFFLINE).done()


def test_no_uv(machine: Machine, tmp_path: Path) -> None:
    machine.write("a.py", "")
    alone = shutil.copy(PROGRAM, tmp_path / "longshore")
    said = machine.run(str(alone), "build", ".", "--tag", "a", "-r", "six==1.15.0", PATH=str(tmp_path)).refused(1)
    assert "uv" in said
    assert "install" in said


def wheel(folder: Path, *, fault: str) -> Path:
    """A wheel with a fault."""
    path = folder / "faulty-1.0-py3-none-any.whl"
    files = ["faulty/__init__.py", *(f"faulty-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD"))]
    record = "".join(f"{file},,\n" for file in files)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("faulty/__init__.py", "X = 1\n" * 1000)
        archive.writestr("faulty-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
        archive.writestr("faulty-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        if fault == "escape":
            archive.writestr("../../etc/evil", "evil")
        if fault == "link":
            link = zipfile.ZipInfo("faulty/link")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        if fault == "twice":
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("faulty/__init__.py", "Y = 2\n")
        if fault == "bomb":
            archive.writestr("faulty/zeros", bytes(300 << 20))
        archive.writestr("faulty-1.0.dist-info/RECORD", record)
    content = path.read_bytes()
    if fault == "crc":
        # The last occurrence of the entry's name is in the central directory; its CRC stands 30 bytes before.
        at = content.rindex(b"faulty/__init__.py") - 30
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    if fault == "truncated":
        content = content[: len(content) // 2]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("fault", ["escape", "link", "twice", "bomb", "crc", "truncated"])
def test_a_corrupted_wheel(machine: Machine, tmp_path: Path, fault: str) -> None:
    machine.write("a.py", "")
    path = wheel(tmp_path, fault=fault)
    said = machine.longshore("build", ".", "--tag", "bad", "-r", f"faulty @ file://{path}").refused(1)
    assert "faulty" in said
    assert not any(image["repository"].endswith("/bad") for image in machine.images())
    still_works(machine)


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    project = Machine(disk / "home", tmp_path / "project")
    project.write("a.py", "")
    # Large enough to begin, too small for a parent image.
    command = f"mount -t tmpfs -o size=12m none {disk} && {PROGRAM} build . --tag a"
    inside = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    said = project.run(*inside, "sh", "-c", command).refused(1)
    assert "no space is left" in said


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")
    machine = Machine(home, tmp_path / "project")
    machine.write("a.py", "")
    said = machine.longshore("build", ".", "--tag", "a").refused(1)
    assert str(home) in said


@pytest.mark.parametrize(
    ("stage", "pattern"),
    [
        ("while packages are fetched", "cache/downloads/**/*"),
        ("while layers are made", "data/registry/blobs/sha256/*/*"),
    ],
)
def test_interrupting_a_build(new_machine: Machine, stage: str, pattern: str) -> None:
    new_machine.write("a.py", "")
    command = [str(PROGRAM), "build", ".", "--tag", "a", "-r", "numpy==2.2.0"]
    process = new_machine.start(*command)
    interrupt_when(process, new_machine.home, pattern)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1, (stage, stderr)
    assert "interrupted: " in stderr
    assert not list(new_machine.home.glob("data/registry/repositories/**/tags/*"))
    new_machine.run(*command).done()


def test_interrupting_a_step(machine: Machine) -> None:
    marker = "print('started', flush=True); import time; time.sleep(600)"
    machine.write(
        "slow.py",
        "from longshore import pipeline, step\n"
        f"@step\ndef slow() -> None:\n    {marker}\n"
        "@pipeline\ndef p():\n    slow()\n"
        "p()\n",
    )
    process = machine.start(sys.executable, "slow.py")
    assert process.stdout is not None
    assert "started" in process.stdout.readline()
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGINT)
    for child in children.stdout.split():
        os.kill(int(child), signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in stderr.replace("slow     | Traceback", "")
    assert not running(machine)


def test_killing_the_program_leaves_no_container(machine: Machine) -> None:
    machine.write("a.py", "")
    machine.longshore("build", ".", "--tag", "kill:1").done()
    process = machine.start(str(PROGRAM), "image", "run", "kill:1", "--", "sh", "-c", "echo started; sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 20
    while running(machine):
        assert time.monotonic() < end, running(machine)
        time.sleep(0.05)
    machine.longshore("image", "run", "kill:1", "--", "true").done()
    assert not [path for path in (machine.home / "cache/sandboxes").iterdir() if path.is_dir()]


def running(machine: Machine) -> "list[str]":
    """The mounts of containers of this home that anything on this machine still has."""
    found = set()
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found.update(line for line in mounts.read_text().splitlines() if f"{machine.home}/cache/sandboxes" in line)
        except OSError:
            continue
    return sorted(found)
