"""Makes calls with AWS's own SDK: a list of [service, method, arguments] on standard input, answers on standard output.

Strings that begin with "$" are looked up in the answers so far: "$0.Credentials.AccessKeyId".
"""

import json
import sys
from typing import Any

import boto3

asked = json.load(sys.stdin)
answers: list[Any] = []


def resolved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: resolved(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith("$"):
        index, *path = value[1:].split(".")
        answer = answers[int(index)]
        for part in path:
            answer = answer[part]
        return answer
    return value


for service, method, arguments in asked["calls"]:
    session = boto3.Session(region_name=asked.get("region"), **resolved(asked.get("session", {})))
    client = session.client(service, **resolved(arguments.pop("client", {})))
    answers.append(getattr(client, method)(**resolved(arguments)))
json.dump(answers, sys.stdout, default=lambda value: value.timestamp())
