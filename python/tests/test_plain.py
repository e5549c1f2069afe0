"""Plain data comes back exactly, through JSON that every reader understands."""

import collections
import enum
import json
import math
import random

import pytest

from longshore.plain import NotPlain, decode, encode


def through_json(value):
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


def same(left, right) -> bool:
    """Equal in value and in type, all the way down; NaN equals NaN, and 0.0 is not -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return repr(left) == repr(right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (set, frozenset)):
        return same(sorted(left, key=repr), sorted(right, key=repr))
    return left == right


VALUES = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    2**64,
    -(10**500),
    0.1,
    -0.0,
    5e-324,
    math.inf,
    -math.inf,
    math.nan,
    "",
    "é\0\ud800",
    b"",
    b"\x00\xff",
    [],
    (),
    (1, (2, [3])),
    {},
    {"a": {"b": (1,)}},
    {1: "a", (1, 2): "b", None: "c"},
    {"$tuple": [1]},
    {"$": 1, "b": 2},
    set(),
    {1, "a", (2, 3)},
    frozenset({frozenset({1}), 2}),
    [True, 1, 1.0],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_round_trip(value):
    assert same(through_json(value), value)


def test_round_trip_of_random_values():
    chooser = random.Random(2)

    def anything(depth):
        kind = chooser.choice(["leaf", "list", "tuple", "dict", "set", "odd"] if depth else ["leaf"])
        if kind == "leaf":
            return chooser.choice(VALUES[:21])
        if kind == "set":
            return {chooser.choice(VALUES[:9]) for _ in range(4)}
        if kind == "odd":
            return {(n, chooser.choice("$ab")): anything(depth - 1) for n in range(chooser.randrange(3))}
        items = [anything(depth - 1) for _ in range(chooser.randrange(4))]
        if kind == "dict":
            return {chooser.choice("$ab") + str(n): item for n, item in enumerate(items)}
        return items if kind == "list" else tuple(items)

    for _ in range(2000):
        value = anything(4)
        assert same(through_json(value), value)


def test_what_json_has_is_written_as_json():
    value = {"a": [1, 2.5, "x", None, True]}
    assert encode(value) == value


def test_sets_have_one_order():
    assert encode({"b", "a", "c"}) == {"$set": ["a", "b", "c"]}


class Colour(str, enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        collections.OrderedDict(a=1),
        collections.namedtuple("Point", "x y")(1, 2),
        1j,
        object(),
        [1, {"k": bytearray(b"x")}],
    ],
)
def test_subclasses_and_others_are_not_plain(value):
    with pytest.raises(NotPlain):
        encode(value)


def test_unknown_tags_are_refused():
    with pytest.raises(ValueError, match=r"`\$later`"):
        decode({"$later": [1]})
    with pytest.raises(ValueError, match=r"`\$int`"):
        decode({"$int": 5})


def test_integers_of_any_length():
    value = 10**10_000
    assert through_json([value]) == [value]
