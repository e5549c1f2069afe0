"""`pipeline`: marks the function that connects steps; calling it runs them."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Callable, Generic, cast, overload

from longshore import graph, inside
from longshore.config import Settings, settings_of
from longshore.errors import UsageError
from longshore.runs import Run
from longshore.signatures import bind, location, require_plain_function
from longshore.steps import P, called, require_cache, require_name, require_retries, unknown_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.component_settings import ComponentSettings
    from longshore.config import DockerSettings
    from longshore.runs import Build

__all__ = ["Options", "Pipeline", "Schedule", "pipeline"]


@dataclass(frozen=True)
class Schedule:
    """When a pipeline runs by itself."""

    cron: str
    """Minute, hour, day of month, month, day of week: `"0 3 * * *"` is every day at three."""
    timezone: str = "UTC"
    """The time zone that they are in, by its IANA name, as `"Europe/Berlin"`."""


@dataclass(frozen=True)
class Options:
    """How a pipeline runs, besides what its steps do."""

    settings: Settings = field(default_factory=Settings)
    retries: int = 0
    cache: bool = False
    schedule: Schedule | None = None


class Pipeline(Generic[P]):
    """A function that connects steps. Made by `pipeline`; calling it runs the pipeline on the active stack."""

    def __init__(self, function: Callable[P, object], name: str | None, options: Options) -> None:
        self.function = function
        self.name = function.__name__ if name is None else name
        self.options = options
        functools.update_wrapper(self, function)
        require_name("pipeline", self.name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Builds the image, pushes it, runs the steps, and returns when they are done.

        Raises `RunFailed` if a step or anything before it fails, and `RunInterrupted` after Ctrl-C. With a schedule,
        returns when the schedule is set. In a step's container, where the module that holds this call is imported,
        nothing is started.
        """
        if inside.in_step():
            inside.stop_import()
            return Run(id="", status="running", image=None, outputs={})
        from longshore.launch import run

        return run(self.spec(*args, **kwargs))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """As calling it, but returns as soon as an orchestrator elsewhere has the run; `Run.wait` waits for its end.

        On this machine, where nothing runs without this process, it returns when the steps are done.
        """
        if inside.in_step():
            inside.stop_import()
            return Run(id="", status="running", image=None, outputs={})
        from longshore.launch import submit

        return submit(self.spec(*args, **kwargs))

    def build(self, *args: P.args, **kwargs: P.kwargs) -> Build:
        """Builds and pushes the images that the pipeline needs, and runs nothing."""
        if inside.in_step():
            inside.stop_import()
            from longshore.runs import Build

            return Build(images={})
        from longshore.launch import build

        return build(self.spec(*args, **kwargs))

    def scheduled(self, cron: str, timezone: str = "UTC") -> Pipeline[P]:
        """The same pipeline, to run by itself: calling it sets the schedule on an orchestrator elsewhere.

        `cron`: minute, hour, day of month, month, day of week, in the time zone of that IANA name.
        """
        for name, value in (("cron", cron), ("timezone", timezone)):
            if not isinstance(cast("object", value), str):
                raise UsageError(f"pipeline `{self.name}`: `{name}` must be text, not {value!r}")
        if len(cron.split()) != 5:
            raise UsageError(
                f"pipeline `{self.name}`: the schedule {cron!r} does not have the five fields minute, hour, "
                'day of month, month and day of week, as in "0 3 * * *"'
            )
        scheduled = copy.copy(self)
        scheduled.options = replace(self.options, schedule=Schedule(cron, timezone))
        return scheduled

    def main(self, arguments: Sequence[str] | None = None) -> Run:
        """Runs the pipeline with the parameters of the command line: `--depth 5`, or `--parameters FILE`.

        The file is JSON, or TOML from Python 3.11 on. What is given on the command line wins over the file, and both
        over the function's defaults. `arguments`: those of the script where they are not given.
        """
        if inside.in_step():
            inside.stop_import()
            return Run(id="", status="running", image=None, outputs={})
        from longshore.parameters import from_command_line

        return self(**from_command_line(self.name, self.function, arguments))  # type: ignore[arg-type, call-arg]

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

        return pipeline_spec(self.record(*args, **kwargs), self.function, self.options)

    def __repr__(self) -> str:
        return f"<pipeline `{self.name}`>"


@overload
def pipeline(function: Callable[P, object], /) -> Pipeline[P]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    settings: Mapping[str, DockerSettings | ComponentSettings | Mapping[str, object]] | None = None,
    retries: int | None = None,
    cache: bool | None = None,
) -> Callable[[Callable[P, object]], Pipeline[P]]: ...
def pipeline(
    function: Callable[..., object] | None = None,
    /,
    *,
    name: str | None = None,
    settings: Mapping[str, DockerSettings | ComponentSettings | Mapping[str, object]] | None = None,
    retries: int | None = None,
    cache: bool | None = None,
    **unknown: object,
) -> Pipeline[Any] | Callable[[Callable[..., object]], Pipeline[Any]]:
    """Marks a function as a pipeline.

    The function runs on the user's machine and calls steps, which are recorded and run later, in containers.
    `name`: the pipeline's name, which its image gets; the function's where it is not given.
    `settings`: `{"docker": DockerSettings(…), "resources": ResourceSettings(…), …}`, for all its steps.
    `retries` and `cache`: those of the steps that say nothing themselves.
    """
    if unknown:
        raise unknown_option("pipeline", unknown, ("name", "settings", "retries", "cache"))

    def decorate(function: Callable[..., object]) -> Pipeline[Any]:
        owner = called("pipeline", function)
        require_plain_function(owner, function)
        options = Options(
            settings=settings_of(owner, settings),
            retries=require_retries(owner, retries) or 0,
            cache=require_cache(owner, cache) or False,
        )
        return Pipeline(function, name, options)

    return decorate if function is None else decorate(function)
