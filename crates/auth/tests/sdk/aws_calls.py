"""Makes calls with AWS's own SDK: a list of [service, method, arguments] on standard input, answers on standard output.

What an argument `client` says makes the client; "$0.Credentials.AccessKeyId" in it is looked up in the answers so far.
"""

import json
import sys
from typing import Any

import boto3

asked = json.load(sys.stdin)
answers: list[Any] = []


def looked_up(text: str) -> str:
    index, *path = text.removeprefix("$").split(".")
    answer = answers[int(index)]
    for part in path:
        answer = answer[part]
    return str(answer)


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: looked_up(value) if isinstance(value, str) and value.startswith("$") else value
        for name, value in values.items()
    }


for service, method, arguments in asked["calls"]:
    session = boto3.Session(region_name=asked.get("region"), **asked.get("session", {}))
    client = session.client(service, **resolved(arguments.pop("client", {})))
    answers.append(getattr(client, method)(**arguments))
json.dump(answers, sys.stdout, default=lambda value: value.timestamp())
