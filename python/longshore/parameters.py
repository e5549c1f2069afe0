"""The parameters of a pipeline from the command line and from files."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import typing
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, Callable

from longshore.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILE = "parameters"
"""The option that names a file of parameters."""


def from_command_line(
    pipeline: str, function: Callable[..., object], arguments: Sequence[str] | None
) -> dict[str, object]:
    """The arguments of a pipeline's function that the command line and the file that it names give."""
    parameters = inspect.signature(function).parameters
    hints = _hints(function)
    description = inspect.getdoc(function) or f"Runs the pipeline {pipeline}."
    parser = ArgumentParser(
        description=description, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False, add_help=True
    )
    given_file = FILE not in parameters
    if given_file:
        parser.add_argument(f"--{FILE}", metavar="FILE", help="a JSON or TOML file of parameters")
    for name, parameter in parameters.items():
        options = sorted({f"--{name}", f"--{name.replace('_', '-')}"}, key=len)
        shown = "" if parameter.default is parameter.empty else f"default: {parameter.default!r}"
        parser.add_argument(*options, dest=name, metavar="VALUE", help=shown, default=inspect.Parameter.empty)
    known = vars(parser.parse_args(arguments))
    values: dict[str, object] = {}
    file = known.pop(FILE) if given_file else None
    if file is not None:
        values.update(_read(pipeline, file, parameters))
    for name, text in known.items():
        if text is not inspect.Parameter.empty:
            values[name] = value_of(name, text, hints.get(name), parameters[name].default)
    return values


def value_of(name: str, text: str, hint: object, default: object) -> object:
    """The value that a text on the command line stands for.

    By the parameter's annotation, else by the type of its default, else as a Python literal, else as text.
    """
    kind = hint if hint is not None else type(default)
    if default in (None, inspect.Parameter.empty) and hint is None:
        return _literal(text, text)
    if kind is str:
        return text
    if kind is bool:
        answer = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())
        if answer is None:
            raise UsageError(f"--{name}: {text!r} is neither true nor false")
        return answer
    if kind is int or kind is float:
        try:
            return kind(text)  # type: ignore[operator]
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise UsageError(f"--{name}: {text!r} is not {noun}") from None
    members = typing.get_args(kind)
    if str in members or type(None) in members:
        # Something that may be text is text unless it is written as something else that it may be.
        value = _literal(text, text)
        names = {getattr(typing.get_origin(member) or member, "__name__", "") for member in members}
        return value if type(value).__name__ in names else text
    missing = object()
    value = _literal(text, missing)
    if value is missing:
        raise UsageError(f"--{name}: {text!r} is not a Python value such as [1, 2] or {{'a': 1}}")
    return value


def _literal(text: str, otherwise: object) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return otherwise


def _hints(function: Callable[..., object]) -> Mapping[str, object]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations may name what exists for the type checker only
        return {}


def _read(pipeline: str, file: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = stream.read()
        document = _toml(file, content) if file.endswith(".toml") else json.loads(content)
    except OSError as error:
        raise UsageError(f"the file of parameters {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"the file of parameters {file} is not valid: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"the file of parameters {file} must hold names and values")
    for name in document:
        if name not in parameters:
            raise UsageError(f"{file}: pipeline `{pipeline}` has no parameter `{name}`{did_you_mean(name, parameters)}")
    return document


def _toml(file: str, content: bytes) -> object:
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(content.decode("utf-8"))
    raise UsageError(f"{file}: TOML is read from Python 3.11 on; write the parameters as JSON")
