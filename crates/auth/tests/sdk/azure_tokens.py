"""Gets a token with Microsoft's own SDKs, as JSON on standard input says."""

import json
import sys
from typing import Any

import msal
import requests
from azure.core.credentials import TokenCredential
from azure.identity import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential

asked: dict[str, Any] = json.load(sys.stdin)
scope = asked["scope"]
options = {"connection_verify": asked.get("certificate"), "disable_instance_discovery": True}
credential: TokenCredential
if asked["way"] == "msal":
    session = requests.Session()
    session.verify = asked["certificate"]
    application = msal.ConfidentialClientApplication(
        asked["client"],
        client_credential=asked["secret"],
        authority=f"{asked['authority']}/{asked['tenant']}",
        instance_discovery=False,
        http_client=session,
    )
    json.dump(application.acquire_token_for_client([scope]), sys.stdout)
    sys.exit()
elif asked["way"] == "secret":
    credential = ClientSecretCredential(
        asked["tenant"], asked["client"], asked["secret"], authority=asked["authority"], **options
    )
elif asked["way"] == "workload":
    credential = WorkloadIdentityCredential(
        tenant_id=asked["tenant"],
        client_id=asked["client"],
        token_file_path=asked["file"],
        authority=asked["authority"],
        **options,
    )
else:
    credential = ManagedIdentityCredential(**({"client_id": asked["client"]} if "client" in asked else {}))
token = credential.get_token(scope)
json.dump({"access_token": token.token, "expires_on": token.expires_on}, sys.stdout)
