"""Tokens for Azure in the name of the user who submitted a job of Azure Machine Learning."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class OnBehalfOfUser:
    """A credential as Azure's asynchronous clients take them. `endpoint` is what the job has in `OBO_ENDPOINT`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    async def get_token(self, *scopes: str, **_: Any) -> Any:  # noqa: ANN401 (azure.core may not be installed)
        """A token for the resource of the first scope. Raises `OSError` where the endpoint gives none."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self._token, scopes[0])

    def _token(self, scope: str) -> Any:  # noqa: ANN401 (azure.core may not be installed)
        import json
        import time
        from urllib.error import HTTPError
        from urllib.parse import urlencode
        from urllib.request import Request, urlopen

        from azure.core.credentials import AccessToken

        resource = scope.rpartition("/.default")[0] or scope
        query = urlencode({"resource": resource.rstrip("/") + "/"})
        request = Request(f"{self.endpoint}?{query}")  # noqa: S310 (the service's own endpoint)
        # On compute instances, the endpoint is that of the managed identity, which wants this.
        secret = os.environ.get("MSI_SECRET")
        if secret:
            request.add_header("secret", secret)
        try:
            with urlopen(request, timeout=60) as answer:  # noqa: S310 (the service's own endpoint)
                given = json.load(answer)
        except HTTPError as error:
            with error:
                said = error.read(1000).decode("utf-8", "replace")
            raise OSError(f"{self.endpoint} gives no token for {resource}: status {error.code}: {said}") from None
        try:
            expires = int(given["expires_on"])
        except (KeyError, ValueError):
            # Not said, or as a date: asked for again before any token of Azure's ends.
            expires = int(time.time()) + 300
        return AccessToken(given["access_token"], expires)

    async def close(self) -> None:
        """Nothing is left open."""

    async def __aenter__(self) -> OnBehalfOfUser:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
