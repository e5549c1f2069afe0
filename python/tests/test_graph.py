"""What a pipeline function records, and what it refuses to do with outputs."""

import math
import operator
import pickle
from typing import Annotated, NamedTuple, Tuple

import pytest

from longshore import UsageError, pipeline, step


class Split(NamedTuple):
    left: int
    right: int


@step
def source() -> int:
    return 1


@step(name="twin-source")
def pair() -> Tuple[Annotated[int, "a"], Annotated[int, "b"]]:
    return 1, 2


@step
def split() -> Split:
    return Split(1, 2)


@step
def add(x: int, y: int = 10) -> int:
    return x + y


@step
def tell(x: int) -> None:
    print(x)


def recorded(function, *args, **kwargs):
    """The calls as (name, inputs, parameters)."""
    calls = pipeline(function).record(*args, **kwargs).calls
    return [
        (call.name, {k: (o._call, o._name) for k, o in call.inputs.items()}, dict(call.parameters)) for call in calls
    ]


def refused(function, *args, **kwargs) -> str:
    with pytest.raises(UsageError) as caught:
        pipeline(function).record(*args, **kwargs)
    return str(caught.value)


def test_fan_out_and_fan_in():
    def p(n=5):
        first = source()
        left = add(first, n)
        right = add(first, y=n + 1)
        tell(add(left, right))

    assert recorded(p, 7) == [
        ("source", {}, {}),
        ("add", {"x": ("source", "output")}, {"y": 7}),
        ("add_2", {"x": ("source", "output")}, {"y": 8}),
        ("add_3", {"x": ("add", "output"), "y": ("add_2", "output")}, {}),
        ("tell", {"x": ("add_3", "output")}, {}),
    ]


def test_several_outputs():
    def p():
        a, b = pair()
        add(a, b)
        both = split()
        add(both.left, both.right)

    assert recorded(p)[1:] == [
        ("add", {"x": ("twin-source", "a"), "y": ("twin-source", "b")}, {}),
        ("split", {}, {}),
        ("add_2", {"x": ("split", "left"), "y": ("split", "right")}, {}),
    ]


def test_a_second_call_does_not_take_another_steps_name():
    @step(name="source_2")
    def other() -> int:
        return 2

    def p():
        source()
        other()
        source()

    assert [name for name, _, _ in recorded(p)] == ["source", "source_2", "source_3"]


def test_defaults_and_plain_parameters_are_recorded():
    def p():
        add((1, 2), {"k": [None, True, 1.5, "é"]})
        add(1)

    assert recorded(p) == [
        ("add", {}, {"x": {"$tuple": [1, 2]}, "y": {"k": [None, True, 1.5, "é"]}}),
        ("add_2", {}, {"x": 1, "y": 10}),
    ]


def test_each_call_of_the_pipeline_records_anew():
    @pipeline
    def p():
        source()

    assert [call.name for call in p.record().calls] == ["source"]
    assert [call.name for call in p.record().calls] == ["source"]


def test_outside_of_a_pipeline_a_step_is_its_function():
    assert add(1, y=2) == 3
    assert pair() == (1, 2)
    assert add.__name__ == "add"
    assert pickle.loads(pickle.dumps(add)) is add
    assert repr(add) == "<step `add`>"


def test_after_a_failed_pipeline_function_steps_are_functions_again():
    def p():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        pipeline(p).record()
    assert add(1) == 11


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (bool, "tested for truth"),
        (lambda o: o > 0.9, "compared"),
        (lambda o: o == 1, "compared"),
        (lambda o: o <= 0.9, "compared"),
        (lambda o: o + 1, "calculated with"),
        (lambda o: 1 - o, "calculated with"),
        (lambda o: o @ o, "calculated with"),
        (operator.neg, "calculated with"),
        (abs, "calculated with"),
        (float, "calculated with"),
        (int, "calculated with"),
        (round, "calculated with"),
        (math.sqrt, "calculated with"),
        (lambda o: range(o), "calculated with"),
        (lambda o: o[0], "indexed"),
        (lambda o: operator.setitem(o, 0, 1), "changed"),
        (len, "measured with len()"),
        (lambda o: 1 in o, "searched with `in`"),
        (lambda o: o(1), "called"),
        (lambda o: o.shape, "asked for `.shape`"),
        (lambda o: o.head(), "asked for `.head`"),
    ],
)
def test_an_output_has_no_value_yet(use, what):
    def p():
        use(source())

    assert refused(p) == (
        f"the output of step `source` cannot be {what} in a pipeline function: the step has not run yet, its value "
        "exists only inside the steps; do this in a step that takes the output as an argument"
    )


def test_one_output_is_not_taken_apart():
    def p():
        left, right = source()

    assert refused(p).startswith("step `source` has one output, which cannot be taken apart in a pipeline function;")


def test_an_output_prints_as_what_it_is():
    def p():
        assert f"{source()}" == "<output `output` of step `source`>"

    recorded(p)


def test_arguments_that_do_not_fit():
    def unknown():
        add(1, z=2)

    def missing():
        add(y=1)

    def too_many():
        add(1, 2, 3)

    where = f"(step `add` is defined at {__file__}:"
    assert refused(unknown).startswith(f"step `add` has no parameter `z`; known: `x`, `y` {where}")
    assert refused(missing).startswith(f"step `add`: missing a required argument: 'x' {where}")
    assert refused(too_many).startswith(f"step `add`: too many positional arguments {where}")


def test_arguments_of_the_pipeline_that_do_not_fit():
    def p(depth=3):
        source()

    assert refused(p, dept=4).startswith("pipeline `p` has no parameter `dept`; did you mean `depth`?")


def test_parameters_that_are_not_plain():
    class Model:
        pass

    def instance():
        add(Model())

    def nested():
        add([1, {"k": Model()}])

    def output_inside():
        add([source(), source()])

    def itself():
        loop = []
        loop.append(loop)
        add(loop)

    def surrogate():
        add({"k": "\ud800"})

    assert refused(instance).startswith("step `add`: the parameter `x` holds a test_graph.test_parameters_that_are")
    assert "must be plain data (None, bool, int" in refused(nested)
    assert refused(output_inside) == (
        "step `add`: `x` holds <output `output` of step `source`> inside a list; "
        "give every output as an argument of its own"
    )
    assert "contains itself" in refused(itself)
    assert "not Unicode" in refused(surrogate)


def test_an_output_of_another_run_is_refused():
    kept = []

    def first():
        kept.append(source())

    def second():
        add(kept[0])

    recorded(first)
    assert "of another run of a pipeline function" in refused(second)


def test_a_pipeline_needs_steps_and_takes_no_pipeline():
    @pipeline
    def empty():
        pass

    def outer():
        empty()

    with pytest.raises(UsageError, match=r"pipeline `empty` \(.*test_graph.py:\d+\) calls no steps"):
        empty.record()
    assert "is called inside a pipeline function" in refused(outer)


def test_what_cannot_be_a_step():
    async def asynchronous():
        pass

    def generator():
        yield 1

    def stars(*args):
        pass

    def keywords(**kwargs):
        pass

    def positional(x, /):
        pass

    for function, words in [
        (asynchronous, "step `asynchronous` is an `async def`"),
        (generator, "step `generator` has a `yield`"),
        (stars, "step `stars` takes `*args`; every parameter needs a name of its own"),
        (keywords, "step `keywords` takes `**kwargs`"),
        (positional, "step `positional` takes `x` by position only"),
        (int, "step `int` must be a function defined with `def`"),
        ("train", "step `train` must be a function"),
    ]:
        with pytest.raises(UsageError) as caught:
            step(function)
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "../x", ".hidden", "x/y", "é", "n" * 129, 3])
def test_names_are_parts_of_paths(name):
    with pytest.raises(UsageError, match="cannot be called"):
        step(name=name)(lambda: None)


def test_outputs_need_different_names():
    def twice() -> Tuple[Annotated[int, "x"], Annotated[int, "x"]]:
        return 1, 2

    with pytest.raises(UsageError, match="step `twice` has two outputs that are called `x`"):
        step(twice)
