"""What the settings of orchestrators have in common: fields by name only, none of them unknown, plain data in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from longshore.errors import UsageError, did_you_mean

__all__ = ["ComponentSettings", "ResourceSettings"]


@dataclass(frozen=True)
class ComponentSettings:
    """Settings for one kind of orchestrator, or for all of them. Base of those that are given to steps and pipelines.

    A field that is `None` is not set: at a step, the pipeline's value holds; otherwise the orchestrator's default.
    """

    key: ClassVar[str] = ""
    """Under which they are given: `settings={"kubernetes": KubernetesSettings(…)}`."""

    def __new__(cls, *args: object, **given: object) -> ComponentSettings:
        """Refuses what is not a field before the constructor does, which would only say that it is unexpected."""
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise UsageError(f"{cls.__name__} has no field `{name}`{did_you_mean(name, known)}")
        if args:
            raise UsageError(f"{cls.__name__} takes its fields by name, as in {cls.__name__}({known[0]}=…)")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        """Checks that all values are plain data, which a document can hold."""
        for item in fields(self):
            _require_plain(f"{type(self).__name__}: `{item.name}`", getattr(self, item.name))

    def document(self) -> dict[str, object]:
        """The fields that are set, as the pipeline spec has them."""
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: _plain(value) for name, value in values if value is not None}


@dataclass(frozen=True)
class ResourceSettings(ComponentSettings):
    """What a step's container is given of a machine, on every orchestrator.

    >>> ResourceSettings(cpu=4, memory="16GiB", gpu=1)
    """

    key: ClassVar[str] = "resources"

    cpu: float | None = None
    """Processors, also parts of one: `0.5`."""

    memory: str | None = None
    """Memory: a number and a unit, as in `"512MB"` or `"4GiB"`."""

    gpu: int | None = None
    """How many accelerators."""

    gpu_type: str | None = None
    """Which accelerators, as the orchestrator calls them, e.g. `"nvidia-tesla-t4"`."""

    def __post_init__(self) -> None:
        """Checks what can be checked here; amounts of memory are read by the program."""
        super().__post_init__()
        _require_number("cpu", self.cpu, (int, float))
        _require_number("gpu", self.gpu, (int,))
        for name in ("memory", "gpu_type"):
            value: object = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise UsageError(f"ResourceSettings: `{name}` must be text, not {value!r}")


def _require_number(name: str, value: object, kinds: tuple[type, ...]) -> None:
    if value is None:
        return
    if not isinstance(value, kinds) or isinstance(value, bool) or not value > 0:  # type: ignore[operator]
        raise UsageError(f"ResourceSettings: `{name}` must be a number above 0, not {value!r}")


def _require_plain(owner: str, value: object) -> None:
    if value is None or isinstance(value, (bool, int, float, str)):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise UsageError(f"{owner} has the key {key!r}; keys are text")
            _require_plain(f"{owner}[{key!r}]", item)
        return
    if isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _require_plain(f"{owner}[{position}]", item)
        return
    raise UsageError(f"{owner} must be plain data (text, numbers, lists, dictionaries), not {type(value).__name__}")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
