"""What a function's signature says: which arguments fit, and which outputs its return annotation names."""

from __future__ import annotations

import ast
import inspect
import typing
from typing import Annotated, Callable, NamedTuple

from longshore.errors import UsageError, did_you_mean

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_OUTPUT = "output"
"""The name of a step's only output when its annotation gives none."""


class Outputs(NamedTuple):
    """The outputs that a return annotation declares."""

    names: tuple[str, ...]
    packed: bool
    """Whether the function returns a tuple with one element per output."""
    tuple_type: type | None = None
    """The NamedTuple class that it returns, if it is one."""


def location(function: Callable[..., object]) -> str:
    """Where a function is defined, as `file:line`."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def require_plain_function(owner: str, function: object) -> None:
    """Refuses what cannot be a step or a pipeline: classes, coroutines, generators, `*args`."""
    if isinstance(function, (staticmethod, classmethod)) or not inspect.isfunction(function):
        raise UsageError(f"{owner} must be a function defined with `def`, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(f"{owner} is an `async def`, which is not supported; define it with `def`")
    if inspect.isgeneratorfunction(function):
        raise UsageError(f"{owner} has a `yield`, which is not supported; return the value")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind == parameter.VAR_POSITIONAL else "**"
            raise UsageError(f"{owner} takes `{stars}{parameter.name}`; every parameter needs a name of its own")
        if parameter.kind == parameter.POSITIONAL_ONLY:
            raise UsageError(f"{owner} takes `{parameter.name}` by position only; remove the `/` from its parameters")


def bind(
    owner: str,
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> dict[str, object]:
    """The arguments of a call by parameter name, defaults included."""
    signature = inspect.signature(function)
    for name in kwargs:
        if name not in signature.parameters:
            raise UsageError(
                f"{owner} has no parameter `{name}`{did_you_mean(name, signature.parameters)} "
                f"({owner} is defined at {location(function)})"
            )
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UsageError(f"{owner}: {error} ({owner} is defined at {location(function)})") from None
    bound.apply_defaults()
    return dict(bound.arguments)


def outputs_of(function: Callable[..., object]) -> Outputs:
    """Reads the return annotation.

    None at all, or any type: one output called `output`. `Annotated[T, "name"]`: one with that name. `None`: none.
    `Tuple[A, B]` and NamedTuples: one per element, by their names, else `output_0`, `output_1`.
    """
    annotation = inspect.signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return Outputs((DEFAULT_OUTPUT,), packed=False)
    if isinstance(annotation, str):
        return _outputs_of_text(annotation, function.__globals__)
    return _outputs_of_type(annotation, function.__globals__)


def _outputs_of_type(annotation: object, names: dict[str, object]) -> Outputs:
    if annotation is None or annotation is type(None):
        return Outputs((), packed=False)
    if isinstance(annotation, typing.ForwardRef):
        return _outputs_of_text(annotation.__forward_arg__, names)
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        elements = getattr(annotation, "_fields", None)
        if elements is not None:
            return Outputs(tuple(elements), packed=True, tuple_type=annotation)
    if typing.get_origin(annotation) is tuple:
        arguments = typing.get_args(annotation)
        if Ellipsis not in arguments and arguments not in ((), ((),)):
            return _packed([_name_of_type(item, names) for item in arguments])
    return Outputs((_name_of_type(annotation, names) or DEFAULT_OUTPUT,), packed=False)


def _name_of_type(annotation: object, names: dict[str, object]) -> str | None:
    if isinstance(annotation, str):
        return _name_of_text(annotation, names)
    if isinstance(annotation, typing.ForwardRef):
        return _name_of_text(annotation.__forward_arg__, names)
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, str):
            return item
    return None


def _evaluated(text: str, names: dict[str, object]) -> object | None:
    """The annotation's value; `None` where it names what is not there, as packages that only the image has."""
    try:
        value: object = eval(text, dict(names))  # noqa: S307 (the program's own source, as in `get_type_hints`)
    except Exception:
        return None
    return type(None) if value is None else value


def _name_of_text(text: str, names: dict[str, object]) -> str | None:
    value = _evaluated(text, names)
    if value is not None and not isinstance(value, str):
        return _name_of_type(value, names)
    tree = _parsed(text)
    return None if tree is None else _name_of_tree(tree, names)


def _outputs_of_text(text: str, names: dict[str, object]) -> Outputs:
    value = _evaluated(text, names)
    if value is not None and not isinstance(value, str):
        return _outputs_of_type(value, names)
    # The types are not importable here (`if TYPE_CHECKING: import pandas`), or this Python is too old for
    # the syntax (`int | None`): the names of the outputs are read from the text.
    tree = _parsed(text)
    if isinstance(tree, ast.Subscript) and _is(tree.value, names, tuple, "Tuple"):
        elements = _elements(tree)
        if not any(isinstance(item, ast.Constant) and item.value is ... for item in elements):
            return _packed([_name_of_tree(item, names) for item in elements])
    name = None if tree is None else _name_of_tree(tree, names)
    return Outputs((name or DEFAULT_OUTPUT,), packed=False)


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None


def _name_of_tree(tree: ast.expr, names: dict[str, object]) -> str | None:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        inner = _parsed(tree.value)
        return None if inner is None else _name_of_tree(inner, names)
    if not isinstance(tree, ast.Subscript) or not _is(tree.value, names, Annotated, "Annotated"):
        return None
    for item in _elements(tree)[1:]:
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            return item.value
        if isinstance(item, ast.Name) and isinstance(names.get(item.id), str):
            return str(names[item.id])
    return None


def _elements(tree: ast.Subscript) -> list[ast.expr]:
    inner: ast.expr | ast.slice = tree.slice
    if isinstance(inner, ast.Tuple):
        return list(inner.elts)
    return [typing.cast("ast.expr", inner)]


def _is(tree: ast.expr, names: dict[str, object], wanted: object, written: str) -> bool:
    """Whether an expression is the type `wanted`: by its value, else by how it is written."""
    value = _evaluated(ast.unparse(tree), names)
    if value is not None:
        # The origin of `typing.Tuple` is `tuple`.
        return value is wanted or typing.get_origin(value) is wanted
    return written == (tree.attr if isinstance(tree, ast.Attribute) else getattr(tree, "id", None))


def _packed(found: list[str | None]) -> Outputs:
    names = tuple(name or f"{DEFAULT_OUTPUT}_{position}" for position, name in enumerate(found))
    return Outputs(names, packed=True)
