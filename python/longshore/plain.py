"""Plain data as JSON, and back exactly as it was.

Plain data is `None`, `bool`, `int`, `float`, `str`, `bytes`, and `list`, `tuple`, `dict`, `set` and `frozenset`
of plain data, of exactly these types. JSON has fewer: the rest is written as an object with one key that begins with
`$`, such as `{"$tuple": [1, 2]}`. `docs/pipeline-spec.md` lists them.
"""

from __future__ import annotations

import math
from typing import Union

Json = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]

# Beyond these, JSON readers other than Python's lose digits.
_LEAST_INT = -(2**63)
_MOST_INT = 2**64 - 1


class NotPlain(Exception):
    """The value, or something in it, is not plain data. `value` is that part."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{type(value).__qualname__} is not plain data")
        self.value = value


def encode(value: object) -> Json:
    """`value` as what `json` can write. Raises `NotPlain`; a value that contains itself is a `RecursionError`."""
    # Exact types only: a subclass (an enum's member, a named tuple, numpy's float64) would come back as its base.
    if value is None or type(value) is bool or type(value) is str:
        return value
    if type(value) is int:
        if _LEAST_INT <= value <= _MOST_INT:
            return value
        return {"$int": hex(value)}
    if type(value) is float:
        if math.isfinite(value):
            return value
        return {"$float": repr(value)}
    if type(value) is list:
        return [encode(item) for item in value]
    if type(value) is tuple:
        return {"$tuple": [encode(item) for item in value]}
    if type(value) is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {"$dict": [[encode(key), encode(item)] for key, item in value.items()]}
    # Sets have no order; the artifact's bytes shall not depend on the one that this process happens to use.
    if type(value) is set:
        return {"$set": sorted((encode(item) for item in value), key=_order)}
    if type(value) is frozenset:
        return {"$frozenset": sorted((encode(item) for item in value), key=_order)}
    if type(value) is bytes:
        from base64 import b64encode

        return {"$bytes": b64encode(value).decode("ascii")}
    raise NotPlain(value)


def decode(value: object) -> object:
    """What `encode` was given. Raises `ValueError` for a `$` key that this version does not know."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(key, inner)] = value.items()
        if key.startswith("$"):
            return _decode_tagged(key, inner)
    return {key: decode(item) for key, item in value.items()}


def _decode_tagged(tag: str, inner: object) -> object:
    if isinstance(inner, str):
        if tag == "$int":
            return int(inner, 16)
        if tag == "$float":
            return float(inner)
        if tag == "$bytes":
            from base64 import b64decode

            return b64decode(inner, validate=True)
    if isinstance(inner, list):
        if tag == "$tuple":
            return tuple(decode(item) for item in inner)
        if tag == "$set":
            return {decode(item) for item in inner}
        if tag == "$frozenset":
            return frozenset(decode(item) for item in inner)
        if tag == "$dict":
            return {decode(key): decode(item) for key, item in inner}
    raise ValueError(f"unknown kind of plain data `{tag}`")


def _order(value: Json) -> str:
    import json

    return json.dumps(value, sort_keys=True)
