"""What a pipeline function records while it runs: the calls of its steps, and which output goes where."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from longshore.errors import UsageError
from longshore.plain import Json, NotPlain, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.steps import Step


class Output:
    """One output of a step that has been called in a pipeline function and has not run.

    It can be given to another step as an argument, and nothing else: its value exists only when the pipeline
    runs. To the type checker it is the value's own type.
    """

    __slots__ = ("_call", "_name", "_recording")

    def __init__(self, recording: Recording, call: str, name: str) -> None:
        self._recording = recording
        self._call = call
        self._name = name

    def __repr__(self) -> str:
        return f"<output `{self._name}` of step `{self._call}`>"

    def _refuse(self, what: str) -> NoReturn:
        raise UsageError(
            f"the output of step `{self._call}` cannot be {what} in a pipeline function: the step has not run yet, "
            "its value exists only inside the steps; do this in a step that takes the output as an argument"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"asked for `.{name}`")

    def __bool__(self) -> NoReturn:
        self._refuse("tested for truth")

    def __iter__(self) -> NoReturn:
        raise UsageError(
            f"step `{self._call}` has one output, which cannot be taken apart in a pipeline function; "
            "for several outputs, annotate the step with "
            '-> Tuple[Annotated[A, "a"], Annotated[B, "b"]]'
        )

    def __len__(self) -> NoReturn:
        self._refuse("measured with len()")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("searched with `in`")

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse("indexed")

    def __setitem__(self, key: object, value: object) -> NoReturn:
        self._refuse("changed")

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Refuses."""
        self._refuse("called")

    def _compare(self, other: object) -> NoReturn:
        self._refuse("compared")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _compare
    __hash__ = object.__hash__

    def _calculate(self, *others: object) -> NoReturn:
        self._refuse("calculated with")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _calculate
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _calculate
    __divmod__ = __rdivmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _calculate
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _calculate
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _calculate
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _calculate
    __int__ = __float__ = __complex__ = __index__ = _calculate


class StepCall(NamedTuple):
    """One call of a step in a pipeline function."""

    name: str
    """Unique in the pipeline."""
    step: Step[..., object]
    inputs: Mapping[str, Output]
    parameters: Mapping[str, Json]
    after: tuple[str, ...]
    """The calls that it waits for though it takes nothing from them."""


class Recording:
    """The calls of one run of a pipeline function, in their order."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.calls: list[StepCall] = []

    def add(self, step: Step[..., object], arguments: Mapping[str, object]) -> str:
        """Records a call and returns its name: the step's, with `_2`, `_3`, … when it is called again."""
        taken = {call.name for call in self.calls}
        name = step.name
        number = 1
        while name in taken:
            number += 1
            name = f"{step.name}_{number}"
        inputs: dict[str, Output] = {}
        parameters: dict[str, Json] = {}
        for parameter, value in arguments.items():
            if isinstance(value, Output):
                if value._recording is not self:
                    raise UsageError(
                        f"step `{step.name}`: `{parameter}` is {value!r} of another run of a pipeline function; "
                        "outputs can be used only where they were made"
                    )
                inputs[parameter] = value
            else:
                parameters[parameter] = _parameter(step.name, parameter, value)
        after = tuple(sorted({self._earlier(step.name, earlier) for earlier in step.waits_for}))
        self.calls.append(StepCall(name, step, inputs, parameters, after))
        return name

    def _earlier(self, step: str, earlier: object) -> str:
        """The call that a step is told to run after: the one of that output, or the last of that step."""
        if isinstance(earlier, Output):
            if earlier._recording is self:
                return earlier._call
        else:
            for call in reversed(self.calls):
                if call.step.function is getattr(earlier, "function", earlier):
                    return call.name
        raise UsageError(f"step `{step}` is to run after {earlier!r}, which has not been called in this pipeline")


current: ContextVar[Recording | None] = ContextVar("longshore_recording", default=None)
"""The recording of the pipeline function that is running, if one is."""


def _parameter(step: str, name: str, value: object) -> Json:
    try:
        document = encode(value)
        _require_unicode(document)
        return document
    except NotPlain as error:
        if isinstance(error.value, Output):
            raise UsageError(
                f"step `{step}`: `{name}` holds {error.value!r} inside a {type(value).__name__}; "
                "give every output as an argument of its own"
            ) from None
        kind = f"{type(error.value).__module__}.{type(error.value).__qualname__}"
        raise UsageError(
            f"step `{step}`: the parameter `{name}` holds a {kind}, but a parameter must be plain data "
            "(None, bool, int, float, str, bytes, and lists, tuples, dictionaries and sets of these); "
            "make the value in a step and hand over that step's output"
        ) from None
    except RecursionError:
        raise UsageError(f"step `{step}`: the parameter `{name}` contains itself, or is nested too deeply") from None
    except UnicodeEncodeError:
        raise UsageError(
            f"step `{step}`: the parameter `{name}` holds text that is not Unicode (a lone surrogate)"
        ) from None


def _require_unicode(document: Json) -> None:
    if isinstance(document, str):
        document.encode("utf-8")
    elif isinstance(document, list):
        for item in document:
            _require_unicode(item)
    elif isinstance(document, dict):
        for key, item in document.items():
            key.encode("utf-8")
            _require_unicode(item)
