"""What the kubelet serves of containers' logs: `/containerLogs/NAMESPACE/POD/CONTAINER`, to the API server alone."""

from __future__ import annotations

import ssl
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Callable
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

# The file of a container's log, and whether the container still runs; or why there is none.
Find = Callable[[str, str, str], "tuple[Path, Callable[[], bool]] | tuple[int, str]"]


def serve(find: Find, authority: str, certificate: str, key: str) -> int:
    """Serves logs on a port of loopback, which is returned."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            parts = url.path.strip("/").split("/")
            if len(parts) != 4 or parts[0] != "containerLogs":
                self.refuse(404, "page not found")
                return
            found = find(parts[1], parts[2], parts[3])
            if isinstance(found[0], int):
                self.refuse(found[0], str(found[1]))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                self.lines(found[0], found[1], query)
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True

        def refuse(self, code: int, text: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def lines(self, file: Path, is_running: Callable[[], bool], query: dict[str, str]) -> None:
            since = query.get("sinceTime")
            after = datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp() if since else 0.0
            follow, timed = query.get("follow") == "true", query.get("timestamps") == "true"
            left = int(query.get("limitBytes", 1 << 62))
            with file.open("rb") as log:
                if (tail := query.get("tailLines")) is not None:
                    count = sum(1 for _ in log)
                    log.seek(0)
                    for _ in range(max(0, count - int(tail))):
                        log.readline()
                pending = b""
                while left > 0:
                    # Asked before reading: what is printed after that is read in the next round.
                    goes_on = follow and is_running()
                    pending += log.readline()
                    if not pending.endswith(b"\n"):
                        if not goes_on and not pending:
                            return
                        time.sleep(0.05)
                        continue
                    when, end, text = pending[:-1].split(b" ", 2)
                    pending = b""
                    if datetime.fromisoformat(when.decode()[:26] + "+00:00").timestamp() < after:
                        continue
                    line = (when + b" " if timed else b"") + text + (b"\n" if end == b"F" else b"")
                    line, left = line[:left], left - len(line)
                    if line:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                        self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    tls.load_cert_chain(certificate, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port
