"""Who a step of Azure Machine Learning is to Azure Storage."""

from __future__ import annotations

import asyncio
import http.server
import json
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from longshore.on_behalf import OnBehalfOfUser
from longshore.stores import _azure_identity

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="Azure's packages need Python 3.10")
SCOPE = "https://storage.azure.com/.default"
VARIABLES = ["DEFAULT_IDENTITY_CLIENT_ID", "AZUREML_OBO_ENABLED", "OBO_ENDPOINT", "AZURE_CLIENT_ID", "MSI_SECRET"]


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint():
    """What a job has in `OBO_ENDPOINT`. It remembers what it was asked, and gives the answer that is set."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append((parse_qs(urlsplit(self.path).query), self.headers["secret"]))
            body = json.dumps(self.server.answer).encode()
            self.send_response(200 if "access_token" in self.server.answer else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        server.answer = {"access_token": "hunter2", "expires_on": "4102444800"}
        server.url = f"http://127.0.0.1:{server.server_port}/obo/token"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_token_is_asked_for_in_the_name_of_the_user(endpoint, monkeypatch):
    token = asyncio.run(OnBehalfOfUser(endpoint.url).get_token(SCOPE))
    assert (token.token, token.expires_on) == ("hunter2", 4102444800)
    monkeypatch.setenv("MSI_SECRET", "of the machine")
    endpoint.answer["expires_on"] = "06/20/2099 02:57:58 +00:00"
    token = asyncio.run(OnBehalfOfUser(endpoint.url).get_token(SCOPE))
    assert time.time() < token.expires_on <= time.time() + 300
    resource = {"resource": ["https://storage.azure.com/"]}
    assert endpoint.asked == [(resource, None), (resource, "of the machine")]


def test_no_token_is_an_error(endpoint):
    endpoint.answer = {"error": "nobody"}
    with pytest.raises(OSError, match=r"gives no token for https://storage.azure.com: status 400: .*nobody"):
        asyncio.run(OnBehalfOfUser(endpoint.url).get_token(SCOPE))


def test_the_driver_is_told_who_it_is(monkeypatch):
    assert _azure_identity() == {"anon": False}
    monkeypatch.setenv("DEFAULT_IDENTITY_CLIENT_ID", "1-2-3")
    assert _azure_identity() == {"anon": False, "managed_identity_client_id": "1-2-3"}
    monkeypatch.setenv("AZURE_CLIENT_ID", "of the step's own")
    assert _azure_identity() == {"anon": False}
    monkeypatch.setenv("AZUREML_OBO_ENABLED", "True")
    monkeypatch.setenv("OBO_ENDPOINT", "http://127.0.0.1:9/obo")
    assert _azure_identity()["credential"].endpoint == "http://127.0.0.1:9/obo"
