"""Asks the API server, as the node."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]


class ApiError(Exception):
    """What the API server refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """A client for one API server, with a certificate. It may be used by several threads at once."""

    def __init__(self, url: str, authority: str, certificate: str, key: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cafile=authority)
        self._tls.load_cert_chain(certificate, key)

    def _send(
        self, method: str, path: str, body: Object | None, kind: str, timeout: float
    ) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self.host, self.port, context=self._tls, timeout=timeout)
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300:
            text = answer.read().decode(errors="replace")
            connection.close()
            with contextlib.suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["message"]
            raise ApiError(answer.status, text)
        return connection, answer

    def ask(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """Asks once."""
        connection, answer = self._send(method, path, body, kind, 30)
        try:
            read: Object = json.loads(answer.read())
            return read
        finally:
            connection.close()

    def insist(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """Asks until the API server answers, also while it is being restarted."""
        while True:
            try:
                return self.ask(method, path, body, kind)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.5)
            except ApiError as error:
                if error.code < 500 and error.code != 429:
                    raise
                time.sleep(0.5)

    def patch(self, path: str, change: Object) -> Object:
        """Changes an object; lists are merged by their keys."""
        return self.insist("PATCH", path, change, "application/strategic-merge-patch+json")

    def watch(self, path: str, **query: str) -> Iterator[Object]:
        """What happens from the version of the query on, until the connection ends."""
        connection, answer = self._send(
            "GET", f"{path}?{urlencode({'watch': '1', 'timeoutSeconds': '300', **query})}", None, "", 330
        )
        try:
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()
