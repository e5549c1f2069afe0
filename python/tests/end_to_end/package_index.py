"""A package index on loopback (PEP 503), with packages made on the fly."""

from __future__ import annotations

import base64
import http.server
import io
import tarfile
import zipfile
from contextlib import contextmanager
from hashlib import sha256
from typing import Dict, Iterator, List

from .web import serving

BACKEND = """
import os, socket, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def reaches(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        return True
    except OSError:
        return False
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, version = "{name}", "{version}"
    info = f"{{name}}-{{version}}.dist-info"
    files = {{
        f"{{name}}.py": f"NETWORK = {{reaches({port})}}\\nHOME = {{os.path.exists({home!r})}}\\n"
        + open("code.py").read(),
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{name}}\\nVersion: {{version}}\\n",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    files[f"{{info}}/RECORD"] = "".join(f"{{path}},,\\n" for path in [*files, f"{{info}}/RECORD"])
    wheel = f"{{name}}-{{version}}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return wheel
"""

PROJECT = """
[project]
name = "{name}"
version = "{version}"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def wheel(
    name: str, version: str, files: Dict[str, str], requires: List[str] | None = None, tag: str = "py3-none-any"
) -> bytes:
    """A wheel with these files."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires or [])
    root = str(tag.endswith("any")).lower()
    everything = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {root}\nTag: {tag}\n",
    }
    record = []
    for path, text in everything.items():
        digest = base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text.encode())}\n")
    everything[f"{info}/RECORD"] = "".join(record) + f"{info}/RECORD,,\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in everything.items():
            archive.writestr(zipfile.ZipInfo(path), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def project(name: str, version: str, code: str, port: int = 9, home: str = "/nowhere") -> Dict[str, str]:
    """The files of a project that is built without anything else."""
    return {
        "pyproject.toml": PROJECT.format(name=name, version=version),
        "backend.py": BACKEND.format(name=name, version=version, port=port, home=home),
        "code.py": code,
    }


def sdist(name: str, version: str, files: Dict[str, str]) -> bytes:
    """A source distribution with these files."""
    out = io.BytesIO()
    metadata = {"PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"}
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in {**metadata, **files}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


class Index:
    """What is served, and what was asked with which credentials."""

    def __init__(self) -> None:
        self.files: Dict[str, bytes] = {}
        self.login: str | None = None
        """`user:password`, if it wants one."""
        self.elsewhere: str | None = None
        """Where the files are, if not here."""
        self.metadata = False
        """Whether a wheel's metadata can be had without the wheel (PEP 658)."""
        self.asked: List[tuple[str, str | None]] = []
        self.address = ""

    @property
    def url(self) -> str:
        return f"http://{self.address}/simple"

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def add(self, name: str, version: str, content: bytes, tag: str = "py3-none-any") -> None:
        self.files[f"{name}-{version}-{tag}.whl"] = content

    def add_wheel(self, name: str, version: str, requires: List[str] | None = None, **files: str) -> None:
        modules = {path.replace("__", "/") + ".py": text for path, text in files.items()} or {f"{name}.py": ""}
        self.add(name, version, wheel(name, version, modules, requires))

    def told(self, file: str) -> str:
        return ' data-core-metadata="true"' if self.metadata and file.endswith(".whl") else ""

    def metadata_of(self, file: str) -> bytes:
        with zipfile.ZipFile(io.BytesIO(self.files[file])) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return archive.read(name)

    def page(self, name: str) -> str:
        base = f"http://{self.elsewhere}" if self.elsewhere else ""
        links = [
            f'<a href="{base}/files/{file}#sha256={sha256(content).hexdigest()}"{self.told(file)}>{file}</a><br/>'
            for file, content in self.files.items()
            if file.split("-")[0].replace("_", "-") == name
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>" if links else ""


@contextmanager
def index_of(index: Index) -> Iterator[Index]:
    """Serves an index."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            index.asked.append((self.path, given))
            if index.login and given != "Basic " + base64.b64encode(index.login.encode()).decode():
                return self.answer(401, b"who are you?", "text/plain")
            kind, _, rest = self.path.lstrip("/").partition("/")
            if kind == "files" and rest in index.files:
                return self.answer(200, index.files[rest], "application/octet-stream")
            wheel = rest.removesuffix(".metadata")
            if kind == "files" and wheel in index.files:
                return self.answer(200, index.metadata_of(wheel), "application/octet-stream")
            page = index.page(rest.strip("/")) if kind == "simple" else ""
            return self.answer(200 if page else 404, page.encode(), "text/html")

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address:
        index.address = address
        yield index
