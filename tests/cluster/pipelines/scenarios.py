"""Pipelines that go well and pipelines that don't: `python scenarios.py NAME`."""

from __future__ import annotations

import os
import sys
import time

from longshore import pipeline, step
from longshore.config import ResourceSettings


def bucket() -> object:
    """The bucket that steps leave each other messages in."""
    import s3fs

    return s3fs.S3FileSystem()


@step
def begin() -> int:
    print("costs $5, $(HOME) and $$(HOME) stay as they are")
    return 7


@step
def meet(number: int, party: int, place: str) -> int:
    """Waits until as many are at the place: none of them gets on alone."""
    files = bucket()
    files.pipe(f"runs/{place}/{os.environ['HOSTNAME']}", b"here")
    for _ in range(600):
        files.invalidate_cache()
        if len(files.ls(f"runs/{place}")) >= party:
            print(f"all {party} are here")
            return number * 2
        time.sleep(0.2)
    raise RuntimeError("the others did not come")


@step
def total(one: int, two: int, three: int) -> int:
    print(f"total: {one + two + three}")
    return one + two + three


@pipeline
def fan(place: str = "fan") -> None:
    number = begin()
    total(meet(number, 3, place), meet(number, 3, place), meet(number, 3, place))


@step
def broken(number: int) -> int:
    print("reading")
    raise ValueError(f"no rows in table {number}")


@step
def report(number: int) -> None:
    print(f"report of {number}")


@pipeline
def failing() -> None:
    report(broken(begin()))


@step(retries=2)
def flaky(place: str) -> int:
    files = bucket()
    print("trying")
    if not files.exists(f"runs/{place}/tried"):
        files.pipe(f"runs/{place}/tried", b"once")
        raise OSError("the connection was reset")
    return 1


@pipeline
def retried(place: str = "retried") -> None:
    report(flaky(place))


@step(timeout=5)
def endless() -> None:
    print("working")
    time.sleep(600)


@pipeline
def overdue() -> None:
    endless()


@step(settings={"resources": ResourceSettings(memory="96MiB")})
def greedy() -> None:
    print("filling memory")
    kept = [b"x" * (1 << 20) for _ in range(512)]
    print(len(kept))


@pipeline
def out_of_memory() -> None:
    greedy()


@step(settings={"resources": ResourceSettings(gpu=1000)})
def train() -> None:
    print("training")


@pipeline
def too_large() -> None:
    train()


@step
def count(to: int) -> int:
    for number in range(to):
        print(f"number {number}")
        time.sleep(0.5)
    return to


@pipeline
def counting(to: int = 20) -> None:
    report(count(to))


@pipeline
def plain() -> None:
    report(begin())


@pipeline
def scheduled() -> None:
    report(begin())


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    chosen = globals()[name]
    if name == "scheduled":
        chosen.scheduled("* * * * *", timezone="Europe/Berlin")()
    else:
        sys.argv[1:] = arguments
        chosen.main()
