"""Artifacts in buckets: the drivers that images get, against servers of others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longshore import ArtifactError
from longshore.artifacts import load, save
from longshore.earlier import remember, reuse


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(command: list[str], port: int):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, command
            time.sleep(0.1)
        else:
            return process
    process.kill()
    raise AssertionError(f"{command} does not listen")


@pytest.fixture(scope="module")
def s3():
    import boto3

    port = free_port()
    programs = Path(sys.executable).parent
    process = started([str(programs / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port)
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="id",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_DEFAULT_REGION="us-east-1",
    )
    boto3.client("s3").create_bucket(Bucket="team")
    yield "s3://team/runs"
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def gcs(tmp_path_factory):
    import gcsfs

    port = free_port()
    programs = Path(sys.executable).parent
    command = [
        str(programs / "gcp-storage-emulator"),
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
    ]
    process = started(command, port)
    os.environ.update(STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{port}", FSSPEC_GS_TOKEN="anon", FSSPEC_GS_PROJECT="p")
    gcsfs.GCSFileSystem(token="anon", project="p").mkdir("team")
    yield "gs://team/runs"
    process.terminate()
    process.wait()


@pytest.fixture(params=["s3", "gcs"])
def store(request) -> str:
    return request.getfixturevalue(request.param)


def driver(scheme: str, shown: str, **variables: str) -> str:
    """What a driver has read of these variables, and of no others."""
    program = f"import fsspec\nfs = fsspec.filesystem({scheme!r}, **{DRIVER_OPTIONS.get(scheme, {})})\nprint({shown})"
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# As in longshore/stores.py.
DRIVER_OPTIONS = {"az": {"anon": False}}


def test_drivers_read_a_connectors_credentials_from_variables():
    # Names as in crates/stack/src/store_grant.rs. Nothing is asked of a service by making them.
    gcs = {"FSSPEC_GS_TOKEN": "ya29.token", "FETCH_RAW_TOKEN_EXPIRY": "false"}
    assert driver("gs", "fs.credentials.credentials.token", **gcs) == "ya29.token"
    here = {"FSSPEC_GS_ENDPOINT_URL": "http://127.0.0.1:9"}
    assert driver("gs", "fs.base", **gcs, **here).startswith("http://127.0.0.1:9/storage/v1/")
    azure = {"AZURE_STORAGE_ACCOUNT_NAME": "team", "AZURE_STORAGE_SAS_TOKEN": "sp=racwdl&sig=x"}
    shown = "fs.service_client.url"
    assert driver("az", shown, **azure) == "https://team.blob.core.windows.net/?sp=racwdl&sig=x"
    china = {"FSSPEC_AZ_ACCOUNT_HOST": "team.blob.core.chinacloudapi.cn"}
    assert driver("az", shown, **azure, **china) == "https://team.blob.core.chinacloudapi.cn/?sp=racwdl&sig=x"


def test_what_is_saved_is_loaded(store):
    for number, value in enumerate([{"a": (1, 2)}, "text", b"\x00" * 3_000_000, Path("x")]):
        uri = f"{store}/r1/step/output_{number}"
        save(value, uri, "the output")
        assert load(uri) == value
        save("again", uri, "the output")
        assert load(uri) == "again"


def test_an_artifact_that_is_not_there(store):
    with pytest.raises(ArtifactError, match="there is no artifact"):
        load(f"{store}/none/step/output")


def test_a_bucket_that_is_not_there(store):
    uri = store.replace("team", "nobodys") + "/r/s/o"
    with pytest.raises(ArtifactError, match="cannot be"):
        save(1, uri, "the output `o`")


def test_damage_is_found(store):
    import fsspec

    uri = f"{store}/r2/step/output"
    save("text", uri, "the output")
    fsspec.filesystem(uri.partition("://")[0]).pipe_file(f"{uri.partition('://')[2]}/data.txt", b"other")
    with pytest.raises(ArtifactError, match="is damaged"):
        load(uri)


def test_a_step_that_ran_before(store):
    def step(run: str) -> dict:
        return {
            "name": "train",
            "source": {"module": "m", "attribute": "train"},
            "parameters": {"depth": 3},
            "inputs": {"data": {"uri": f"{store}/{run}/load/output"}},
            "outputs": {"model": {"uri": f"{store}/{run}/train/model"}},
        }

    for run in ("c1", "c2"):
        save([1, 2], f"{store}/{run}/load/output", "the output")
    assert not reuse(step("c1"), "sha256:1")
    save("model", f"{store}/c1/train/model", "the output")
    remember(step("c1"), "sha256:1")
    assert reuse(step("c2"), "sha256:1")
    assert load(f"{store}/c2/train/model") == "model"
    assert not reuse(step("c2"), "sha256:2")
