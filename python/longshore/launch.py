"""Hands a pipeline to the program `longshore` and waits for the run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, Any

from longshore.binary import find_binary
from longshore.errors import LongshoreError, RunFailed, RunInterrupted, RunKilled
from longshore.runs import Artifact, Build, Run

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULT_VERSION = 2


def run(spec: Mapping[str, object]) -> Run:
    """Runs a pipeline spec on the active stack. The terminal belongs to the program while it runs."""
    return _run_of(_longshore(["run", "--spec", "-"], spec))


def submit(spec: Mapping[str, object]) -> Run:
    """Hands a pipeline spec to the active stack's orchestrator, and does not wait for the run's end."""
    return _run_of(_longshore(["run", "--spec", "-", "--detach"], spec))


def build(spec: Mapping[str, object]) -> Build:
    """Builds and pushes the images of a pipeline spec."""
    document = _longshore(["run", "--spec", "-", "--build-only"], spec)
    images: Mapping[str, object] = document["images"]
    return Build(images={step: str(image) for step, image in images.items()})


def wait(run_id: str) -> Run:
    """Follows a run to its end."""
    return _run_of(_longshore(["run", "wait", run_id], None))


def _longshore(arguments: list[str], spec: Mapping[str, object] | None) -> dict[str, Any]:
    """Has the program do something, and reads the result that it leaves."""
    program = find_binary()
    document = b"" if spec is None else json.dumps(spec, ensure_ascii=False, allow_nan=False).encode("utf-8")
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        result = os.path.join(folder, "result.json")
        code = _execute([program, *arguments, "--result", result], document)
        if code != 0:
            raise RunFailed(code, f"the run failed: `longshore {arguments[0]}` ended with exit code {code}")
        try:
            with open(result, encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
            if found["version"] != RESULT_VERSION:
                raise ValueError(f"its version is {found['version']}, expected {RESULT_VERSION}")
            return found
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LongshoreError(
                f"{program} did what it was asked but left no readable result ({error}); "
                "it may be of another version than this package: install both anew"
            ) from error


def _execute(command: list[str], document: bytes) -> int:
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 (our own program)
    except OSError as error:
        raise LongshoreError(f"{command[0]} cannot be started: {error.strerror}") from error
    interrupted = False
    unsent = process.stdin
    while True:
        # Ctrl-C reaches the program too, as a member of the terminal's foreground group. It ends what it has begun
        # and leaves nothing behind, so this process waits for it, however often the keys are pressed.
        try:
            if unsent is not None:
                pipe, unsent = unsent, None
                _hand_over(pipe, document)
            code = process.wait()
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted or code in (130, -signal.SIGINT):
        raise RunInterrupted
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        raise RunKilled(128 - code, f"the run failed: the program `longshore` was ended by {name}")
    return code


def _hand_over(pipe: IO[bytes], document: bytes) -> None:
    # A program that ends without reading says why by its exit code.
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(document)


def _run_of(document: dict[str, Any]) -> Run:
    image = document["image"]
    return Run(
        id=str(document["run_id"]),
        status=str(document["status"]),
        image=None if image is None else str(image),
        outputs={
            step: {name: Artifact(str(place["uri"])) for name, place in artifacts.items()}
            for step, artifacts in document["outputs"].items()
        },
    )
