"""Which outputs a return annotation names, also where its types cannot be imported."""

import typing
from typing import Annotated, NamedTuple, Optional, Tuple

import pytest

from longshore.signatures import outputs_of

NAME = "from_a_constant"


class Parts(NamedTuple):
    head: int
    tail: int


def of(annotation):
    """The outputs of a function with this return annotation, text where it is from `__future__`."""

    def function():
        pass

    function.__annotations__["return"] = annotation
    found = outputs_of(function)
    return (found.names, found.packed)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, (("output",), False)),
        (Optional[int], (("output",), False)),
        (None, ((), False)),
        (Annotated[int, "score"], (("score",), False)),
        (Annotated[int, 3, "score"], (("score",), False)),
        (Annotated[int, 3], (("output",), False)),
        (Annotated["pd.DataFrame", "data"], (("data",), False)),
        (Annotated[Tuple[int, int], "pair"], (("pair",), False)),
        (Tuple[Annotated[int, "a"], Annotated[int, "b"]], (("a", "b"), True)),
        (Tuple[Annotated[int, "a"]], (("a",), True)),
        (Tuple["Annotated[pd.DataFrame, 'a']", int], (("a", "output_1"), True)),
        (Tuple[int, str], (("output_0", "output_1"), True)),
        (Tuple[int, ...], (("output",), False)),
        (Tuple, (("output",), False)),
        (tuple, (("output",), False)),
        (Parts, (("head", "tail"), True)),
    ],
)
def test_evaluated(annotation, expected):
    assert of(annotation) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", (("output",), False)),
        ("None", ((), False)),
        ("Annotated[int, 'score']", (("score",), False)),
        ("Parts", (("head", "tail"), True)),
        ("Tuple[int, int]", (("output_0", "output_1"), True)),
        # What follows cannot be evaluated: `pd` and `elsewhere` are names for the type checker only.
        ("pd.DataFrame", (("output",), False)),
        ("int | pd.DataFrame", (("output",), False)),
        ("Annotated[pd.DataFrame, 'data']", (("data",), False)),
        ("typing.Annotated[pd.DataFrame, 'data']", (("data",), False)),
        ("elsewhere.Annotated[pd.DataFrame, 'data']", (("data",), False)),
        ("Annotated[pd.DataFrame, NAME]", (("from_a_constant",), False)),
        ("'Annotated[pd.DataFrame, \"data\"]'", (("data",), False)),
        ("Tuple[Annotated[pd.DataFrame, 'a'], Annotated[pd.Series, 'b']]", (("a", "b"), True)),
        ("tuple[Annotated[pd.DataFrame, 'a'], pd.Series]", (("a", "output_1"), True)),
        ("elsewhere.Tuple[pd.DataFrame, pd.Series]", (("output_0", "output_1"), True)),
        ("tuple[pd.DataFrame]", (("output_0",), True)),
        ("tuple[pd.DataFrame, ...]", (("output",), False)),
        ("list[Annotated[pd.DataFrame, 'inner']]", (("output",), False)),
        ("not python", (("output",), False)),
    ],
)
def test_text(text, expected):
    assert typing  # used by the annotations
    assert of(text) == expected


def test_no_annotation():
    def function():
        pass

    assert outputs_of(function).names == ("output",)


def test_a_named_tuple_is_made_of_the_outputs():
    def function() -> "Parts":
        return Parts(1, 2)

    assert outputs_of(function).tuple_type is Parts
