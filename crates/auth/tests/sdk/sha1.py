"""The SHA-1 of a string: how the AWS CLI names its files."""

import hashlib
import json
import sys

json.dump(hashlib.sha1(json.load(sys.stdin).encode(), usedforsecurity=False).hexdigest(), sys.stdout)
