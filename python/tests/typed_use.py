"""What a type checker sees of the package: mypy reads this file, nothing runs it.

Every `type: ignore` here is an error that has to be found; in strict mode an unneeded one is an error itself.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from typing_extensions import assert_type

from longshore import Pipeline, Run, pipeline, step
from longshore.config import DockerSettings


class Split(NamedTuple):
    left: list[int]
    right: list[int]


@step
def load() -> tuple[Annotated[list[int], "rows"], int]:
    return [1], 1


@step(name="cut", settings={"docker": DockerSettings(user="1000")})
def split(rows: list[int]) -> Split:
    return Split(rows, rows)


@step
def train(rows: list[int], depth: int = 3) -> float:
    return float(depth)


@pipeline
def plain() -> None:
    rows, count = load()
    assert_type(rows, list[int])
    assert_type(count, int)
    assert_type(train(split(rows).left, depth=count), float)
    train("rows")  # type: ignore[arg-type]
    train(rows, dept=3)  # type: ignore[call-arg]


@pipeline(name="with-settings", settings={"docker": DockerSettings(requirements=["pandas"])})
def with_parameters(depth: int = 3) -> None:
    train([1], depth)


def use() -> None:
    assert_type(plain(), Run)
    with_parameters(depth="3")  # type: ignore[arg-type]
    with_parameters(dept=3)  # type: ignore[call-arg]
    made: Pipeline[[]] = plain
    made()
    DockerSettings(requirments=["pandas"])  # type: ignore[call-arg]
    DockerSettings(environment={"N": 4})  # type: ignore[dict-item]
    DockerSettings(build_strategy="kaniko")  # type: ignore[arg-type]
    step(nmae="x")  # type: ignore[call-overload]
    pipeline(settings={"docker": 3})  # type: ignore[dict-item]
