"""The caches of a machine within their limit: nothing that somebody needs is removed, and the next build is right."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from .machine import PROGRAM, Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def own(shared_home: Path, tmp_path: Path) -> Machine:
    """A machine whose caches may be emptied."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    for folder in ("cache", "data/registry"):
        subprocess.run(["cp", "-al", shared_home / folder, home / folder], check=True)
    for lock in home.rglob("in-use"):
        # Its lock is this machine's alone.
        lock.unlink()
    machine = Machine(home, tmp_path / "project")
    machine.write("hello.py", "import idna; print('idna', idna.__version__)\n")
    return machine


def info(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.longshore("cache", "info", "-o", "json").done().stdout)
    return found


def build(machine: Machine, tag: str) -> str:
    done = machine.longshore("build", ".", "--tag", tag, "-r", "idna==3.10", "-o", "json").done()
    return str(json.loads(done.stdout)["digest"])


def works(machine: Machine, image: str) -> bool:
    return machine.longshore("image", "run", image, "python", "hello.py").done().stdout == "idna 3.10\n"


def test_emptied_caches_change_no_image(own: Machine) -> None:
    digest = build(own, "app:1")
    before = info(own)
    assert before["size"] == sum(kind["size"] for kind in before["kinds"].values())
    assert before["limit"] == 20_000_000_000
    assert before["kinds"]["downloads"]["count"] > 50
    assert before["kinds"]["unpacked_layers"]["count"] > 0
    planned = json.loads(own.longshore("cache", "prune", "--max-size", "0", "--dry-run", "-o", "json").done().stdout)
    assert info(own) == before
    done = json.loads(own.longshore("cache", "prune", "--max-size", "0", "-o", "json").done().stdout)
    assert (done["removed"], done["failed"]) == (planned["removed"], [])
    after = info(own)
    # A large wheel that an image is composed of stays, and takes nothing: its bytes are the image's.
    assert after["kinds"]["downloads"]["size"] == after["kinds"]["unpacked_layers"]["count"] == 0
    assert after["images"] == before["images"]
    # What the image needs is unpacked again, and a build makes the same image of new downloads.
    assert works(own, "app:1")
    own.longshore("image", "rebuild", "app:1", "--source", ".").done()
    assert build(own, "app:2") == digest


def test_the_limit_is_kept_after_builds_and_the_next_one_is_right(own: Machine) -> None:
    done = own.longshore("build", ".", "--tag", "app:1", "-r", "idna==3.10", LONGSHORE_CACHE_SIZE="1MB").done()
    assert "cache    removed" in done.stderr
    assert "left of at most 1.0 MB (LONGSHORE_CACHE_SIZE)" in done.stderr
    assert info(own)["size"] <= 1_000_000
    assert works(own, "app:1")
    said = own.longshore("build", ".", "--tag", "app:2", LONGSHORE_CACHE_SIZE="much").refused(2)
    assert "`much` is not a size; say 20GB, 500MB or unlimited" in said
    unlimited = own.longshore("build", ".", "--tag", "app:3", LONGSHORE_CACHE_SIZE="unlimited").done()
    assert "cache    " not in unlimited.stderr


def test_what_is_least_recently_used_goes_first(own: Machine) -> None:
    whole = info(own)["size"]
    done = own.longshore("cache", "prune", "--max-size", f"{whole - 1}", "-o", "json").done()
    removed = json.loads(done.stdout)
    assert 0 < removed["size"] < whole // 2
    assert removed["left"] <= whole - 1
    text = own.longshore("cache", "info").done().stdout
    assert "which are no cache" in text
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_is_removed_while_a_container_runs(own: Machine) -> None:
    build(own, "app:1")
    program = "import time, pathlib; pathlib.Path('/data/ready').touch(); time.sleep(3); import idna; print('whole')"
    volume = f"{own.project}:/data:rw"
    running = own.start(str(PROGRAM), "image", "run", "--volume", volume, "app:1", "--", "python", "-c", program)
    end = time.monotonic() + 120
    while not (own.project / "ready").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    before = info(own)
    said = own.longshore("cache", "prune", "--max-size", "0").refused(1)
    assert "another longshore is building or running" in said
    # Another build does its work and leaves the caches alone.
    own.longshore("build", ".", "--tag", "app:2", "-r", "idna==3.10", LONGSHORE_CACHE_SIZE="1MB").done()
    assert info(own)["kinds"]["unpacked_layers"] == before["kinds"]["unpacked_layers"]
    stdout, stderr = running.communicate(timeout=120)
    assert (running.returncode, stdout) == (0, "whole\n"), stderr
    own.longshore("cache", "prune", "--max-size", "0").done()


def test_two_may_prune_at_once(own: Machine) -> None:
    digest = build(own, "app:1")
    command = (str(PROGRAM), "cache", "prune", "--max-size", "0")
    both = [own.start(*command) for _ in range(2)]
    ended = [(process.communicate(timeout=300), process.returncode) for process in both]
    assert 0 in [code for _, code in ended], ended
    for (_, stderr), code in ended:
        assert code == 0 or "another longshore" in stderr, ended
    assert works(own, "app:1")
    assert build(own, "app:2") == digest


def test_an_interrupted_prune_leaves_nothing_half_removed(own: Machine) -> None:
    digest = build(own, "app:1")
    process = own.start(str(PROGRAM), "cache", "prune", "--max-size", "0")
    time.sleep(0.05)
    process.kill()
    process.communicate(timeout=60)
    assert works(own, "app:1")
    assert build(own, "app:2") == digest
    own.longshore("cache", "prune", "--max-size", "0").done()
    assert info(own)["kinds"]["unpacked_layers"]["count"] == 0


def test_what_is_damaged_is_found_and_made_again(own: Machine) -> None:
    digest = build(own, "app:1")
    wheels = [file for file in (own.home / "cache/downloads/sha256").rglob("*") if file.is_file()]
    for wheel in wheels[:3]:
        size = wheel.stat().st_size
        wheel.unlink()
        wheel.write_bytes(bytes(size))
    said = own.longshore("cache", "check").done().stdout
    assert said.count("download removed") == 3
    assert "no download and no layer is damaged" in own.longshore("cache", "check").done().stdout
    own.longshore("image", "rebuild", "app:1").done()
    assert build(own, "app:2") == digest


def test_a_folder_that_is_none_is_said_to_be(own: Machine, tmp_path: Path) -> None:
    home = tmp_path / "odd"
    home.mkdir()
    (home / "cache").write_text("a file")
    said = own.longshore("cache", "prune", LONGSHORE_HOME=str(home)).refused(1)
    assert str(home / "cache") in said
