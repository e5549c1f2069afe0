"""`pipeline`: marks the function that connects steps; calling it runs them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Callable, Generic, cast, overload

from longshore import graph, inside
from longshore.config import DockerSettings, Settings, settings_of
from longshore.errors import UsageError
from longshore.runs import Run
from longshore.signatures import bind, location, require_plain_function
from longshore.steps import P, called, require_name, unknown_option

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Pipeline", "pipeline"]


class Pipeline(Generic[P]):
    """A function that connects steps. Made by `pipeline`; calling it runs the pipeline on the active stack."""

    def __init__(self, function: Callable[P, object], name: str | None, settings: Settings) -> None:
        self.function = function
        self.name = function.__name__ if name is None else name
        self.settings = settings
        functools.update_wrapper(self, function)
        require_name("pipeline", self.name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Builds the image, pushes it, runs the steps, and returns when they are done.

        Raises `RunFailed` if a step or anything before it fails, and `RunInterrupted` after Ctrl-C. In a step's
        container, where the module that holds this call is imported, nothing is started.
        """
        if inside.in_step():
            inside.stop_import()
            return Run(id="", status="running", image=None, outputs={})
        from longshore.launch import run

        return run(self.spec(*args, **kwargs))

    def record(self, *args: P.args, **kwargs: P.kwargs) -> graph.Recording:
        """Runs the function and returns which steps it calls, and how."""
        if graph.current.get() is not None:
            raise UsageError(
                f"pipeline `{self.name}` is called inside a pipeline function; "
                "call its steps there, or call one pipeline after the other"
            )
        arguments = bind(f"pipeline `{self.name}`", self.function, args, kwargs)
        recording = graph.Recording(self.name)
        token = graph.current.set(recording)
        try:
            cast("Callable[..., object]", self.function)(**arguments)
        finally:
            graph.current.reset(token)
        if not recording.calls:
            raise UsageError(
                f"pipeline `{self.name}` ({location(self.function)}) calls no steps; "
                "call functions marked with @step in it"
            )
        return recording

    def spec(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, object]:
        """The pipeline as the document that the program `longshore` runs: `docs/pipeline-spec.md`."""
        from longshore.spec import pipeline_spec

        return pipeline_spec(self.record(*args, **kwargs), self.function, self.settings)

    def __repr__(self) -> str:
        return f"<pipeline `{self.name}`>"


@overload
def pipeline(function: Callable[P, object], /) -> Pipeline[P]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    settings: Mapping[str, DockerSettings] | None = None,
) -> Callable[[Callable[P, object]], Pipeline[P]]: ...
def pipeline(
    function: Callable[..., object] | None = None,
    /,
    *,
    name: str | None = None,
    settings: Mapping[str, DockerSettings] | None = None,
    **unknown: object,
) -> Pipeline[Any] | Callable[[Callable[..., object]], Pipeline[Any]]:
    """Marks a function as a pipeline.

    The function runs on the user's machine and calls steps, which are recorded and run later, in containers.
    `name`: the pipeline's name, which its image gets; the function's where it is not given.
    `settings`: `{"docker": DockerSettings(…)}`, for all its steps.
    """
    if unknown:
        raise unknown_option("pipeline", unknown, ("name", "settings"))

    def decorate(function: Callable[..., object]) -> Pipeline[Any]:
        require_plain_function(called("pipeline", function), function)
        return Pipeline(function, name, settings_of(called("pipeline", function), settings))

    return decorate if function is None else decorate(function)
