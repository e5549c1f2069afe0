"""Object stores of clouds on loopback, and what containers of those clouds are given to reach them."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import Iterator
from urllib.parse import quote, unquote

from .machine import PROGRAM
from .web import serving


class Store:
    """A bucket named `team`."""

    flavor: str
    scheme: str
    options: list[str]
    """How it is registered, besides its flavor and URI."""
    identity: dict[str, str]
    """How a container of its cloud learns where it is and who it is, besides what the pipeline says."""

    def uri(self, prefix: str) -> str:
        return f"{self.scheme}://team/{prefix}"

    def names(self, prefix: str) -> list[str]:
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        raise NotImplementedError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(program: str, *arguments: str, port: int) -> Iterator[None]:
    """A server of others, for as long as it is needed."""
    path = shutil.which(program)
    assert path is not None, f"{program} is missing: run scripts/test"
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([path, *arguments], stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, program
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


KEYS = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "token", "Expiration": "2100-01-01T00:00:00Z"}


class Amazon(Store):
    """S3 by moto. Containers ask for the keys of their role, as ECS and SageMaker have it."""

    flavor = "s3"
    scheme = "s3"

    def __init__(self, until: ExitStack) -> None:
        import boto3  # type: ignore[import-untyped]

        port = free_port()
        until.enter_context(started("moto_server", "-H", "127.0.0.1", "-p", str(port), port=port))
        self.endpoint = f"http://127.0.0.1:{port}"
        keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=self.endpoint, **keys)
        self.client.create_bucket(Bucket="team")
        self.options = ["--endpoint-url", self.endpoint, "--region", "us-east-1"]

        class Role(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(KEYS).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        # There, it is 169.254.170.2 and `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
        host = until.enter_context(serving(Role))
        self.identity = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{host}/v2/credentials/1"}

    def names(self, prefix: str) -> list[str]:
        listed = self.client.list_objects_v2(Bucket="team", Prefix=prefix)
        return [item["Key"] for item in listed.get("Contents", [])]

    def read(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket="team", Key=name)["Body"].read()
        return body


class Google(Store):
    """Cloud Storage by an emulator. Containers ask the metadata server for tokens."""

    flavor = "gcs"
    scheme = "gs"

    def __init__(self, until: ExitStack) -> None:
        port = free_port()
        arguments = ("start", "--host", "127.0.0.1", "--port", str(port), "--in-memory")
        until.enter_context(started("gcp-storage-emulator", *arguments, port=port))
        self.api = f"http://127.0.0.1:{port}"
        self.options = []
        body = json.dumps({"name": "team"}).encode()
        headers = {"Content-Type": "application/json"}
        made = urllib.request.Request(f"{self.api}/storage/v1/b?project=p", body, headers)
        urllib.request.urlopen(made).close()
        command = [str(PROGRAM.parent / "longshore-testkit"), "google"]
        cloud = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        until.callback(cloud.communicate)
        assert cloud.stdout is not None
        host = json.loads(cloud.stdout.readline())["metadata_host"]
        self.identity = {"STORAGE_EMULATOR_HOST": self.api, "GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}

    def names(self, prefix: str) -> list[str]:
        with urllib.request.urlopen(f"{self.api}/storage/v1/b/team/o?prefix={quote(prefix)}") as answer:
            return [item["name"] for item in json.load(answer).get("items", [])]

    def read(self, name: str) -> bytes:
        with urllib.request.urlopen(f"{self.api}/storage/v1/b/team/o/{quote(name, safe='')}?alt=media") as answer:
            body: bytes = answer.read()
            return body


class Microsoft(Store):
    """The Blob service's block blobs, in memory (REST API: Put Blob, Get Blob). Containers have a connection string, as
    the driver sends tokens over HTTPS only."""

    flavor = "azure"
    scheme = "az"
    account = "devstoreaccount1"

    def __init__(self, until: ExitStack) -> None:
        self.blobs: dict[str, bytes] = {}
        blobs = self.blobs

        class Service(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def name(self) -> str:
                return unquote(self.path.partition("?")[0]).partition("/team/")[2]

            def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                now = self.date_time_string()
                always = {"ETag": '"1"', "Last-Modified": now, "x-ms-version": "2025-01-05"}
                for name, value in {**always, **headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def do_PUT(self) -> None:
                assert self.headers["x-ms-blob-type"] == "BlockBlob", self.path
                blobs[self.name()] = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(201)

            def do_GET(self) -> None:
                if self.name() not in blobs:
                    self.answer(404, b"<Error><Code>BlobNotFound</Code></Error>", x_ms_error_code="BlobNotFound")
                    return
                body = blobs[self.name()]
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["x-ms-range"] or "")
                if asked is None:
                    self.answer(200, body, x_ms_blob_type="BlockBlob")
                    return
                first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
                if first > last:
                    self.answer(416, b"<Error><Code>InvalidRange</Code></Error>", x_ms_error_code="InvalidRange")
                    return
                span = f"bytes {first}-{last}/{len(body)}"
                self.answer(206, body[first : last + 1], Content_Range=span, x_ms_blob_type="BlockBlob")

            def log_message(self, *_: object) -> None:
                pass

        host = until.enter_context(serving(Service))
        self.options = ["--account", self.account]
        string = f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey=a2V5;"
        self.identity = {
            "AZURE_STORAGE_CONNECTION_STRING": f"{string}BlobEndpoint=http://{host}/{self.account};",
        }

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.blobs if name.startswith(prefix)]

    def read(self, name: str) -> bytes:
        return self.blobs[name]
