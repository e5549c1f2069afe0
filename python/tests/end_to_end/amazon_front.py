"""What Amazon's registry does that others don't: it has only the repositories that were created."""

from __future__ import annotations

import http.client
import http.server
import json
import re
from contextlib import contextmanager
from typing import Callable, Iterator

from .web import serving

CHUNK = 1 << 20


@contextmanager
def only_created(registry: str, exists: Callable[[str], bool]) -> Iterator[str]:
    """Serves `registry`, but refuses uploads into repositories that do not exist the way Amazon does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.serve()

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 (http.server names them)

        def serve(self) -> None:
            upload = re.fullmatch(r"/v2/(.+)/blobs/uploads/.*", self.path)
            if self.command == "POST" and "Authorization" in self.headers and upload and not exists(upload[1]):
                message = f"The repository with name '{upload[1]}' does not exist in the registry"
                error = json.dumps({"errors": [{"code": "NAME_UNKNOWN", "message": message}]}).encode()
                self.answer(404, [("Content-Type", "application/json")], iter([error]), len(error))
                return
            forward = http.client.HTTPConnection(registry)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            forward.request(self.command, self.path, self.body(), headers)
            response = forward.getresponse()
            kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
            pieces = iter(lambda: response.read(CHUNK), b"")
            self.answer(response.status, kept, pieces, int(response.getheader("Content-Length") or 0))
            forward.close()

        def body(self) -> Iterator[bytes] | None:
            if "Transfer-Encoding" in self.headers:
                return self.chunks()
            length = int(self.headers.get("Content-Length") or 0)
            return self.pieces(length) if length else None

        def pieces(self, length: int) -> Iterator[bytes]:
            while length and (piece := self.rfile.read(min(CHUNK, length))):
                length -= len(piece)
                yield piece

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def answer(self, status: int, headers: list[tuple[str, str]], pieces: Iterator[bytes], length: int) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as host:
        yield host


HOP_BY_HOP = {"connection", "content-length", "transfer-encoding"}
