"""Gets a token with Google's own SDK: as JSON on standard input says, or from what the machine has."""

import json
import sys

import google.auth
from google.auth import identity_pool, impersonated_credentials
from google.auth.transport.requests import Request
from google.oauth2 import credentials as user
from google.oauth2 import service_account

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]

asked = json.load(sys.stdin)
if "service_account" in asked:
    credentials = service_account.Credentials.from_service_account_info(asked["service_account"], scopes=SCOPES)
elif "external_account" in asked:
    credentials = identity_pool.Credentials.from_info(asked["external_account"], scopes=SCOPES)
elif "authorized_user" in asked:
    login = asked["authorized_user"]
    # Read from a file, it would ask Google's own address whatever the file says.
    credentials = user.Credentials(
        None,
        refresh_token=login["refresh_token"],
        token_uri=login["token_uri"],
        client_id=login["client_id"],
        client_secret=login["client_secret"],
    )
else:
    credentials, _ = google.auth.default(scopes=SCOPES)
if "impersonate" in asked:
    credentials = impersonated_credentials.Credentials(
        source_credentials=credentials,
        target_principal=asked["impersonate"],
        target_scopes=SCOPES,
        lifetime=3600,
        iam_endpoint_override=asked["endpoint"],
    )
credentials.refresh(Request())
json.dump({"token": credentials.token, "expires": credentials.expiry.timestamp()}, sys.stdout)
