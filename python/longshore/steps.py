"""`step`: marks a function that runs in a container."""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, cast, overload

from longshore import graph
from longshore.config import Settings, settings_of
from longshore.errors import UsageError, did_you_mean
from longshore.signatures import Outputs, bind, location, outputs_of, require_plain_function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.component_settings import ComponentSettings
    from longshore.config import DockerSettings

if sys.version_info >= (3, 10):
    from typing import ParamSpec
elif TYPE_CHECKING:
    from typing_extensions import ParamSpec
else:
    # Python 3.9 has none and the package has no dependencies; a type variable does at run time.
    ParamSpec = TypeVar

__all__ = ["Step", "step"]

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Step(Generic[P, R]):
    """A function that runs in a container. Made by `step`.

    Called in a pipeline function, it records the call and returns its outputs to be given to other steps.
    Called anywhere else, it is the function.
    """

    retries: int | None
    """How often it is tried again after a failure; `None`: as the pipeline says."""
    timeout: int | None
    """How many seconds it may take, each time."""
    cache: bool | None
    """Whether it is left out where an earlier run did the same; `None`: as the pipeline says."""
    waits_for: tuple[object, ...] = ()
    """What it runs after though it takes nothing from it: steps and outputs."""

    def __init__(
        self,
        function: Callable[P, R],
        name: str | None,
        settings: Settings,
        retries: int | None = None,
        timeout: float | None = None,
        cache: bool | None = None,
    ) -> None:
        self.function = function
        self.name = function.__name__ if name is None else name
        self.settings = settings
        owner = f"step `{self.name}`"
        self.retries = require_retries(owner, retries)
        self.timeout = _require_timeout(owner, timeout)
        self.cache = require_cache(owner, cache)
        self.outputs: Outputs = outputs_of(function)
        functools.update_wrapper(self, function)
        self.__qualname__ = function.__qualname__
        require_name("step", self.name)
        for output in self.outputs.names:
            require_name(f"step `{self.name}`: output", output)
            if self.outputs.names.count(output) > 1:
                raise UsageError(f"step `{self.name}` has two outputs that are called `{output}`")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Records the call in a pipeline function; calls the function everywhere else."""
        recording = graph.current.get()
        if recording is None:
            return self.function(*args, **kwargs)
        arguments = bind(f"step `{self.name}`", self.function, args, kwargs)
        call = recording.add(cast("Step[..., object]", self), arguments)
        # To the type checker the outputs are what the function returns: pipelines are checked like plain code.
        return cast("R", self._handles(recording, call))

    def after(self, *earlier: object) -> Step[P, R]:
        """The same step, which waits for others that it takes nothing from: `publish.after(check)(model)`.

        `earlier`: steps that have been called in this pipeline, or outputs of theirs.
        """
        if not earlier:
            raise UsageError(f"step `{self.name}`: `.after()` needs a step or an output to wait for")
        for item in earlier:
            if not isinstance(item, (Step, graph.Output)):
                raise UsageError(
                    f"step `{self.name}` can wait for steps and outputs of steps, not for {item!r}; "
                    "a step that returns nothing is named itself, as in `.after(check)`"
                )
        # Not `copy.copy`, which would go by `__reduce__`.
        waiting = object.__new__(type(self))
        waiting.__dict__.update(self.__dict__)
        waiting.waits_for = (*self.waits_for, *earlier)
        return waiting

    def _handles(self, recording: graph.Recording, call: str) -> object:
        handles = tuple(graph.Output(recording, call, name) for name in self.outputs.names)
        if self.outputs.tuple_type is not None:
            return self.outputs.tuple_type(*handles)
        if self.outputs.packed:
            return handles
        return handles[0] if handles else None

    def source(self) -> tuple[str, str]:
        """The module and the attribute under which the step is found by who imports the module."""
        module, attribute = self.__module__, self.__qualname__
        owner = f"step `{self.name}` ({location(self.function)})"
        if "<locals>" in attribute:
            raise UsageError(
                f"{owner} is defined inside a function, where its container cannot find it; "
                "define it at the top level of a module"
            )
        names = vars(sys.modules[module]) if module in sys.modules else {}
        if not self._is_same(names.get(attribute)):
            # `train_step = step(train)` leaves the plain function under its own name.
            found = [name for name, value in names.items() if self._is_same(value)]
            if not found:
                raise UsageError(
                    f"{owner} is not found in the module `{module}`; "
                    "give it a name at the top level of the module that defines it"
                )
            attribute = found[0]
        return module, attribute

    def _is_same(self, other: object) -> bool:
        """Whether it is this step, or one that `after` made of it."""
        return isinstance(other, Step) and other.function is self.function and other.name == self.name

    def __repr__(self) -> str:
        return f"<step `{self.name}`>"

    def __reduce__(self) -> str:
        # By name, as the function itself would be: workers that a step starts get it handed over.
        return self.source()[1]


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    settings: Mapping[str, DockerSettings | ComponentSettings | Mapping[str, object]] | None = None,
    retries: int | None = None,
    timeout: float | None = None,
    cache: bool | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    settings: Mapping[str, DockerSettings | ComponentSettings | Mapping[str, object]] | None = None,
    retries: int | None = None,
    timeout: float | None = None,
    cache: bool | None = None,
    **unknown: object,
) -> Step[..., Any] | Callable[[Callable[..., Any]], Step[..., Any]]:
    """Marks a function as a step of a pipeline.

    `name`: the step's name; the function's where it is not given.
    `settings`: `{"docker": DockerSettings(…), "resources": ResourceSettings(…), …}`; the fields that are set there take
    the place of the pipeline's.
    `retries`: how often it is tried again after a failure. `timeout`: how many seconds it may take, each time.
    `cache`: whether it is left out, and its outputs taken from an earlier run, where one with the same code, packages,
    parameters and inputs has succeeded.
    """
    if unknown:
        raise unknown_option("step", unknown, ("name", "settings", "retries", "timeout", "cache"))

    def decorate(function: Callable[..., Any]) -> Step[..., Any]:
        owner = called("step", function)
        require_plain_function(owner, function)
        return Step(function, name, settings_of(owner, settings), retries, timeout, cache)

    return decorate if function is None else decorate(function)


def called(noun: str, function: object) -> str:
    """A function's noun and name, for the beginning of a sentence."""
    return f"{noun} `{getattr(function, '__name__', function)}`"


def unknown_option(decorator: str, unknown: Mapping[str, object], known: tuple[str, ...]) -> UsageError:
    """The error for an option that a decorator does not have."""
    name = next(iter(unknown))
    return UsageError(f"@{decorator} has no option `{name}`{did_you_mean(name, known)}")


def require_name(owner: str, name: object) -> None:
    """Names become parts of paths and image names: letters, digits, `_`, `-` and `.` only."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(
            f"{owner} cannot be called {name!r}; a name has letters, digits, `_`, `-` and `.` only, "
            "begins with a letter, a digit or `_`, and has at most 128 characters"
        )


def require_retries(owner: str, given: object) -> int | None:
    """A number of retries, if one is given."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 100):
        return given
    raise UsageError(f"{owner}: `retries` must be a whole number from 0 to 100, not {given!r}")


def require_cache(owner: str, given: object) -> bool | None:
    """Whether to cache, if it is given."""
    if given is None or isinstance(given, bool):
        return given
    raise UsageError(f"{owner}: `cache` must be True or False, not {given!r}")


def _require_timeout(owner: str, given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, (int, float)) and not isinstance(given, bool) and 1 <= given <= 10**8:
        # Services count whole seconds.
        return int(-(-given // 1))
    raise UsageError(f"{owner}: `timeout` must be a number of seconds, 1 or more, not {given!r}")
