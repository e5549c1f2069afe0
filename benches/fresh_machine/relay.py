"""Counts the bytes that go to and from a server on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Listens at `host` and passes connections on."""

    def __init__(self, server: str) -> None:
        name, port = server.split(":")
        self._server = (name, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._moved = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def taken(self) -> int:
        """The bytes since the last time, both ways."""
        with self._lock:
            moved, self._moved = self._moved, 0
        return moved

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 18):
                target.sendall(piece)
                with self._lock:
                    self._moved += len(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        """Takes no further connections."""
        self._listener.close()
