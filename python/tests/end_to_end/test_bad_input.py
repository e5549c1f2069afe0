"""Code, parents, caches and registries as they should not be: a sentence each, nothing lost, the next build right."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

from .docker_registry import DockerRegistry
from .machine import PROGRAM, Machine
from .test_fresh_machine import CACHE, MANIFEST, Watched, first, fresh, has_downloaded, registry, wheel_row

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["first", "fresh", "registry"]

TESTKIT = PROGRAM.with_name("longshore-testkit")
PACKAGES = ("-r", "idna==3.10", "--no-bytecode")
# Letters and digits that look drawn at random, in parts, so that this file is not itself what is looked for.
RANDOM = "".join(["q8Zt3Lm0Xw", "Rk5vB1yNc7", "Ud2pHs9Ae6", "Gf4jTo8iQx"])


def build(machine: Machine, image: str, *options: str, folder: str = ".") -> str:
    """The digest of the image that is built."""
    arguments = ("build", folder, "--tag", image, "-o", "json", *(options or PACKAGES))
    return str(json.loads(machine.longshore(*arguments).done().stdout)["digest"])


def a_sentence(said: str) -> str:
    """What is said in place of a result: one error, on one line."""
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert said.rstrip().endswith(line), said
    return line


def inside(machine: Machine, image: str, script: str) -> str:
    return machine.longshore("image", "run", image, "--", "sh", "-c", script).done().stdout


# The code


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root: os.mkfifo(root / "pipe"), "pipe is neither a file, a folder nor a symbolic link"),
        (lambda root: make_socket(root / "so"), "so is neither a file, a folder nor a symbolic link"),
        (lambda root: (root / "l").symlink_to("../hello.py"), "l points to ../hello.py, which is outside of"),
        (lambda root: (root / "l").symlink_to("/etc/passwd"), "l points to /etc/passwd, an absolute path"),
        (lambda root: open(os.fsencode(root) + b"/caf\xe9.py", "w").close(), ".py is not UTF-8; rename the file"),
    ],
    ids=["fifo", "socket", "link out of the tree", "absolute link", "name"],
)
def test_what_no_image_can_hold(machine: Machine, make: Callable[[Path], Any], expected: str) -> None:
    machine.write("code/a.py", "")
    make(machine.project / "code")
    said = a_sentence(machine.longshore("build", "code", "--tag", "bad-code:1").refused(1))
    assert expected in said
    assert ".dockerignore" in said
    machine.write("code/.dockerignore", "*\n!a.py\n")
    build(machine, "bad-code:1", folder="code")


def test_odd_names_and_an_empty_folder_are_packed_as_they_are(machine: Machine) -> None:
    (machine.project / "code").mkdir()
    build(machine, "empty:1", folder="code")
    assert inside(machine, "empty:1", "ls -A /app") == ""
    names = ["a\nb.py", "c\\d.py", " lead", "-r", "ü.py", "x" * 255, "/".join(["d" * 200] * 5) + "/f.py"]
    for name in names:
        machine.write(f"code/{name}", "1")
    (machine.project / "code/me").symlink_to("me")
    build(machine, "odd:1", folder="code")
    found = inside(machine, "odd:1", "find /app -type f -print0 -o -type l -print0").split("\0")
    assert sorted(name[5:] for name in found if name) == sorted([*names, "me"])


def test_secrets_of_each_kind_are_told_and_what_only_looks_like_one_is_not(machine: Machine) -> None:
    image = "iVBORw0KGgo" + RANDOM * 100
    for name, text in {
        "notebook.ipynb": json.dumps({"cells": [{"outputs": [{"data": {"image/png": image}}]}], "token": ""}),
        "app.min.js": f'var t="{RANDOM}";' * 50,
        "uv.lock": f'hash = "sha256:{RANDOM}"\ntoken = "{RANDOM}"\n',
        "ids.py": 'TOKEN = "4f0c2c1e-93b7-4e39-8d2b-6a1f0e5c7d98"\nDB = "postgresql://app:app@localhost/app"\n',
    }.items():
        machine.write(f"code/{name}", text)
    build(machine, "no-secrets:1", folder="code")
    secrets = {
        "key.pem": f"-----BEGIN PRIVATE KEY-----\n{RANDOM * 2}\n-----END PRIVATE KEY-----\n",
        "aws.ini": f"aws_access_key_id = AKIA{'QZ7MWX3KTPLD2RVN'}\naws_secret_access_key = {RANDOM}\n",
        "settings.py": f'PASSWORD = "{RANDOM[:32]}"\n',
        "requirements.txt": f"--extra-index-url https://me:{RANDOM[:24]}@packages.example.com/simple\n",
        "id_rsa": "key",
    }
    for name, text in secrets.items():
        machine.write(f"code/{name}", text)
    said = a_sentence(machine.longshore("build", "code", "--tag", "secrets:1").refused(1))
    for told in (
        "key.pem line 1 (a private key)",
        "aws.ini line 1 (an AWS access key with its secret)",
        "settings.py line 1 (a random value that is called a secret, as it seems)",
        "requirements.txt line 1 (a password in a URL)",
        "id_rsa (a file of keys, by its name)",
    ):
        assert told in said
    assert RANDOM[:16] not in said
    assert not any(image["repository"].endswith("/secrets") for image in machine.images())
    machine.write("code/.gitignore", "".join(f"{name}\n" for name in secrets))
    build(machine, "secrets:1", folder="code")


# The parent


LIBC = b"\x7fELF GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\0"


def with_python(version: str) -> dict[str, bytes | str]:
    """The files that say which Python an image has; texts are what links point to."""
    minor = version.rpartition(".")[0]
    header = f'#define PY_VERSION "{version}"\n'.encode()
    return {
        f"usr/local/bin/python{minor}": b"\x7fELF",
        "usr/local/bin/python3": f"python{minor}",
        f"usr/local/include/python{minor}/patchlevel.h": header,
        "lib/libc.so.6": LIBC,
    }


def put_image(
    registry: Watched,
    repository: str,
    files: dict[str, bytes | str],
    layer: bytes | None = None,
    diff_id: str | None = None,
    platform: dict[str, str] | None = None,
) -> str:
    """An image of one layer with these files; or with a layer that is something else, or is called so."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    diff_id = diff_id or "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
    layer = layer or gzip.compress(out.getvalue())
    config = {
        "architecture": "amd64",
        "os": "linux",
        **(platform or {}),
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": f"{kind}.config.v1+json",
            **registry.put_blob(repository, json.dumps(config).encode()),
        },
        "layers": [{"mediaType": f"{kind}.layer.v1.tar+gzip", **registry.put_blob(repository, layer)}],
    }
    put_manifest(registry, repository, "1", manifest)
    return f"{registry.host}/{repository}:1"


def put_manifest(registry: Watched, repository: str, tag: str, manifest: dict[str, Any]) -> None:
    url = f"http://{registry.host}/v2/{repository}/manifests/{tag}"
    put = urllib.request.Request(url, json.dumps(manifest).encode(), {"Content-Type": MANIFEST}, method="PUT")
    urllib.request.urlopen(put, timeout=30).close()


@pytest.mark.parametrize(
    ("files", "platform", "expected"),
    [
        ({}, {"os": "windows"}, "is for windows/amd64, not for linux/amd64"),
        (with_python("3.12.1"), {"architecture": "arm64"}, "is for linux/arm64, not for linux/amd64"),
        ({"lib/libc.so.6": LIBC}, {}, "has no Python that longshore can use: there is no python3 on its PATH"),
        (with_python("3.8.19"), {}, "its python3 is version 3.8.19; choose a parent with python3 (3.9 or newer)"),
    ],
    ids=["windows", "another processor", "no Python", "an old Python"],
)
def test_a_parent_that_nothing_can_be_built_on(
    machine: Machine, registry: Watched, files: dict[str, bytes | str], platform: dict[str, str], expected: str
) -> None:
    machine.write("a.py", "")
    parent = put_image(registry, "parent", files, platform=platform)
    said = a_sentence(machine.longshore("build", ".", "--tag", "on-bad:1", "--parent", parent).refused(1))
    assert parent in said
    assert expected in said


def test_a_parent_that_was_put_together_wrongly(machine: Machine, registry: Watched) -> None:
    machine.write("a.py", "")

    def refused(parent: str) -> str:
        return a_sentence(machine.longshore("build", ".", "--tag", "on-wrong:1", "--parent", parent).refused(1))

    parent = put_image(registry, "junk", {}, layer=b"no archive")
    said = refused(parent)
    assert f"of parent image {parent} cannot be read" in said
    parent = put_image(registry, "other", with_python("3.12.1"), diff_id="sha256:" + "1" * 64)
    said = refused(parent)
    assert f"the configuration of its image says sha256:{'1' * 64}" in said


def test_a_parent_that_is_not_to_be_had(machine: Machine, registry: Watched, tmp_path: Path) -> None:
    machine.write("a.py", "")

    def refused(parent: str, *codes: int) -> str:
        outcome = machine.longshore("build", ".", "--tag", "on-none:1", "--parent", parent)
        said = " ".join(outcome.refused(*codes or (1,)).split())
        assert parent.split("/")[0] in said
        return said

    assert f"{registry.host}/nothing:1: there is no such image" in refused(f"{registry.host}/nothing:1")
    assert "there is no such image" in refused(f"{registry.host}/nothing@sha256:" + "0" * 64)
    assert "no connection to 127.0.0.1:9" in refused("127.0.0.1:9/nobody:1")
    assert "there is no image localhost:5000/nosuch:1; `longshore image list`" in refused("localhost:5000/nosuch:1")
    private = DockerRegistry(tmp_path / "private")
    try:
        assert f"docker login {private.host}" in refused(f"{private.host}/secret:1")
    finally:
        private.stop()


# The caches


@pytest.fixture
def own(shared_home: Path, tmp_path: Path) -> Machine:
    """A machine with a home of its own, which may be damaged."""
    home = tmp_path / "home"
    subprocess.run(["cp", "-a", shared_home, home], check=True)
    machine = Machine(home, tmp_path / "project")
    machine.write("a.py", "import idna\nprint(idna.__version__)\n")
    return machine


def flip(file: Path, at: int) -> None:
    """Another bit in a file that others may have by another name."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.unlink()
    file.write_bytes(content)


def test_rows_with_another_bit_are_computed_again(own: Machine) -> None:
    digest = build(own, "rows:1")
    rows = list((own.home / "cache/table").rglob("*.json"))
    assert len(rows) > 10
    for row in rows:
        flip(row, row.stat().st_size - 40)
    assert build(own, "rows:2") == digest


def layer_files(machine: Machine, image: str) -> list[Path]:
    inspected = json.loads(machine.longshore("image", "inspect", image, "-o", "json").done().stdout)
    digests = [layer["digest"].removeprefix("sha256:") for layer in inspected["manifest"]["layers"]]
    return [machine.home / "data/registry/blobs/sha256" / digest[:2] / digest for digest in digests]


def test_a_damaged_layer_is_made_again_when_it_is_pushed(own: Machine, registry: Watched) -> None:
    digest = build(own, "damaged:1")
    for file in layer_files(own, "damaged:1"):
        flip(file, file.stat().st_size // 2)
    assert build(own, f"{registry.host}/damaged:1") == digest
    for layer in registry.layers("damaged", "1"):
        assert "sha256:" + hashlib.sha256(registry.get(f"damaged/blobs/{layer}")).hexdigest() == layer


def test_a_damaged_layer_is_told_by_who_runs_it_and_made_by_the_next_build(own: Machine) -> None:
    digest = build(own, "damaged:1")
    for file in layer_files(own, "damaged:1")[-3:]:
        flip(file, file.stat().st_size // 2)
    shutil.rmtree(own.home / "cache")
    run = ("image", "run", "damaged:1", "--", "python", "a.py")
    said = a_sentence(own.longshore(*run).refused(1))
    assert "was damaged on this machine's disk and has been removed; build its image again" in said
    for _ in range(3):
        assert build(own, "damaged:1") == digest
        outcome = own.longshore(*run)
        if outcome.code == 0:
            break
    assert outcome.stdout == "3.10\n"


def test_a_damaged_wheel_is_fetched_again(own: Machine) -> None:
    digest = build(own, "wheel:1")
    for wheel in (own.home / "cache/downloads/sha256").rglob("*"):
        if wheel.is_file():
            flip(wheel, wheel.stat().st_size // 2)
    own.write("a.py", "2")
    again = build(own, "wheel:1", *PACKAGES, "--compression", "zstd")
    assert again != digest
    assert inside(own, "wheel:1", "python -c 'import idna; print(idna.__version__)'") == "3.10\n"


@pytest.mark.parametrize("folder", ["cache", "data"])
def test_a_folder_that_is_read_only(own: Machine, folder: str) -> None:
    digest = build(own, "ro:1")
    place = own.home / folder
    mounted = f"mount --bind {place} {place} && mount -o remount,ro,bind {place} && exec {PROGRAM}"
    unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    own.write("b.py", "")
    command = f"{mounted} build . --tag ro:2 {' '.join(PACKAGES)}"
    said = a_sentence(own.run(*unshare, "sh", "-c", command).refused(1))
    assert str(place) in said
    assert "read-only" in said.lower()
    (own.project / "b.py").unlink()
    assert build(own, "ro:3") == digest


def test_two_builds_at_once_and_killed_ones_change_nothing(own: Machine, tmp_path: Path) -> None:
    digest = build(own, "killed:1")
    home = tmp_path / "fresh"
    command = [str(PROGRAM), "build", ".", *PACKAGES, "--tag"]
    for seconds in (0.2, 0.6, 1.2, 2.0):
        process = own.start(*command, "killed:1", LONGSHORE_HOME=str(home))
        time.sleep(seconds)
        process.kill()
        process.communicate(timeout=60)
    both = [own.start(*command, f"killed:{number}", LONGSHORE_HOME=str(home)) for number in (2, 3)]
    for process in both:
        _, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
        assert digest in stderr
    said = own.longshore("cache", "check", LONGSHORE_HOME=str(home)).done().stdout
    assert "no download and no layer is damaged" in said


# The registry


@contextmanager
def hostile(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    """The host of a registry that misbehaves so."""
    file = folder / "hostile.json"
    file.write_text(json.dumps(config))
    command = [str(TESTKIT), "hostile-registry", "--config", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["host"]
        process.stdin.close()


def test_a_connection_that_is_lost_while_an_image_is_pushed(machine: Machine, tmp_path: Path) -> None:
    machine.write("a.py", "")
    lost = {"reset-while-reading": {"after": 1000}}
    rules = [{"operation": operation, "times": 2, "fault": lost} for operation in ("upload-patch", "upload-put")]
    rules.append({"operation": "manifest-put", "times": 1, "fault": "reset-after-commit"})
    with hostile(tmp_path, {"rules": rules, "mounts": "never"}) as host:
        digest = build(machine, f"{host}/lost:1")
        with urllib.request.urlopen(f"http://{host}/v2/lost/manifests/1", timeout=30) as response:
            assert "sha256:" + hashlib.sha256(response.read()).hexdigest() == digest
    full = {"refused": {"status": 507}}
    rules = [{"operation": operation, "fault": full} for operation in ("upload-patch", "upload-put")]
    with hostile(tmp_path, {"rules": rules}) as host:
        said = a_sentence(machine.longshore("build", ".", "--tag", f"{host}/lost:1", *PACKAGES).refused(1))
        assert f"{host} answered 507 Insufficient Storage" in said


def test_what_is_shared_goes_on_where_tags_cannot_be_moved(
    first: Machine, fresh: Callable[[], Machine], tmp_path: Path
) -> None:
    more = ("-r", "six==1.16.0", "-r", "markupsafe==3.0.2", "--no-bytecode")
    with hostile(tmp_path, {"tags": "immutable"}) as host:

        def fetches_nothing(image: str, *options: str) -> str:
            machine = fresh()
            digest = build(machine, image, *options, folder="app")
            assert not has_downloaded(machine)
            return digest

        one = build(first, f"{host}/app:1", folder="app")
        two = build(first, f"{host}/app:2", *more, folder="app")
        assert one != two
        assert fetches_nothing(f"{host}/app:3", *more) == two
        assert fetches_nothing(f"{host}/app:4") == one
        three = build(first, f"{host}/app:5", "-r", "six==1.17.0", "--no-bytecode", folder="app")
        assert fetches_nothing(f"{host}/app:6", "-r", "six==1.17.0", "--no-bytecode") == three
        # The image's own tag cannot be moved either, and that is said.
        said = a_sentence(first.longshore("build", "app", "--tag", f"{host}/app:1", *more).refused(1))
        assert f"{host}/app:1" in said
        assert "immutable" in said


def junk(manifest: dict[str, Any], registry: Watched) -> None:
    manifest["layers"][0].update(registry.put_blob("app", gzip.compress(b"not json")))


def bomb(manifest: dict[str, Any], registry: Watched) -> None:
    manifest["layers"][0].update(registry.put_blob("app", gzip.compress(b" " * (100 << 20))))


def huge(manifest: dict[str, Any], registry: Watched) -> None:
    manifest["layers"][0].update(registry.put_blob("app", os.urandom(5 << 20)))


def another_kind(manifest: dict[str, Any], registry: Watched) -> None:
    manifest["artifactType"] = "application/vnd.example"


@pytest.mark.parametrize("spoil", [junk, bomb, huge, another_kind])
def test_a_shared_table_that_is_none_is_passed_over_and_replaced(
    registry: Watched, first: Machine, spoil: Callable[[dict[str, Any], Watched], None]
) -> None:
    digest = build(first, f"{registry.host}/app:1", folder="app")
    manifest = registry.manifest("app", CACHE)
    spoil(manifest, registry)
    put_manifest(registry, "app", CACHE, manifest)
    # A machine that has seen neither these layers nor what it has put there itself.
    for rows in ("layer", "shared-table"):
        shutil.rmtree(first.home / "cache/table" / rows)
    assert build(first, f"{registry.host}/app:2", folder="app") == digest
    assert wheel_row(registry.rows("app"))


def test_the_layers_of_another_image_are_not_taken(
    registry: Watched, first: Machine, fresh: Callable[[], Machine]
) -> None:
    """A row whose layer is in the repository and made of other inputs: the image that vouches for it has it not."""
    build(first, f"{registry.host}/app:1", folder="app")
    other = wheel_row(registry.rows("app"))["value"]
    digest = build(first, f"{registry.host}/app:2", "-r", "six==1.16.0", "--no-bytecode", folder="app")

    def swap(content: dict[str, Any]) -> None:
        wheel_row({"builds": content["builds"][:1]})["value"] = other

    registry.change_rows("app", swap)
    machine = fresh()
    assert build(machine, f"{registry.host}/app:3", "-r", "six==1.16.0", "--no-bytecode", folder="app") == digest
    assert has_downloaded(machine)


# What is written on the command line


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (["--locked", "pylock.toml"], 2, "the lock file pylock.toml: No such file"),
        (["--locked", "."], 1, "cannot be used: Is a directory"),
        (["--layers", "many"], 2, "`layers` must be a number from 1 to 65535"),
        (["--index", "house"], 2, "`indexes` has names: write NAME=VALUE"),
        (["--platform", "windows/amd64"], 2, "images are built for linux/amd64 and linux/arm64"),
        (["--tag", "X Y"], 2, "is not a repository path"),
    ],
)
def test_what_makes_no_sense_is_one_line(machine: Machine, options: list[str], code: int, expected: str) -> None:
    machine.write("a.py", "")
    name = [] if "--tag" in options else ["--tag", "nonsense:1"]
    said = machine.longshore("build", ".", *name, *options).refused(code)
    assert expected in a_sentence(said)
    assert said.count("\n") == 1


def test_an_image_or_a_folder_that_is_not_there(machine: Machine) -> None:
    machine.write("a.py", "")
    assert "a.py is a file; name the folder" in machine.longshore("build", "a.py", "--tag", "none:1").refused(2)
    assert "the folder of code nowhere" in machine.longshore("build", "nowhere", "--tag", "none:1").refused(2)
    for edit in (("rebuild",), ("patch", "--wheel", "idna==3.9"), ("inspect",)):
        said = machine.longshore("image", edit[0], "nosuch:1", *edit[1:]).refused(1, 2)
        assert "nosuch" in said
        assert "longshore image list" in said


def test_a_database_that_is_none(own: Machine) -> None:
    digest = build(own, "database:1")
    database = own.home / "data/state.db"
    kept = database.read_bytes()
    database.write_bytes(b"junk" * 1000)
    said = a_sentence(own.longshore("build", ".", "--tag", "database:2", *PACKAGES).refused(1))
    assert f"{database} cannot be used" in said
    assert "move it away" in said
    database.unlink()
    assert build(own, "database:2") == digest
    database.write_bytes(kept)
    assert own.longshore("image", "lock", "database:1").done()
