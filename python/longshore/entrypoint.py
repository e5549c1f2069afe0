"""Runs steps: `python -m longshore.entrypoint`, in a step's container or beside the user's code.

A JSON document says which: `docs/pipeline-spec.md` describes it. The environment variable `LONGSHORE_STEP` names its
file, or it comes as arguments: `--run NAME --step PIECE…`.
Exit codes: 0, 1 where a step failed, 2 where the document cannot be used, 130 after an interrupt.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from longshore import inside
from longshore.artifacts import load, save
from longshore.earlier import remember, reuse
from longshore.errors import LongshoreError, UsageError
from longshore.failures import report
from longshore.plain import decode
from longshore.progress import tell
from longshore.steps import Step
from longshore.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

VERSION = 2
_STATUS = {0: "succeeded", 1: "failed", 130: "interrupted"}


class StepFailed(LongshoreError):
    """A step returned something else than it declares, or left before it returned."""


def main() -> int:
    """Runs the steps of the document in their order, up to the first that fails."""
    import faulthandler
    import signal

    # A crash in a compiled package leaves at least the line that called it.
    faulthandler.enable()
    # Orchestrators end a container with it; its first process would not even notice otherwise, and be killed later.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The log is followed while the step runs.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    if sys.path[0] != os.getcwd():
        sys.path.insert(0, os.getcwd())
    try:
        steps = _read_document()
    except LongshoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    for step in steps:
        tell(step["name"], "running")
        code = _attempts(step)
        tell(step["name"], _STATUS[code])
        if code != 0:
            return code
    return 0


def _attempts(step: Mapping[str, Any]) -> int:
    """Runs one step, again after failures if the document says so; returns the exit code."""
    for left in range(step.get("retries", 0), -1, -1):
        try:
            with time_limit(step.get("timeout")):
                run_step(step)
            return 0
        except KeyboardInterrupt:
            sys.stderr.write(f"step {step['name']} interrupted\n")
            return 130
        except BaseException as error:  # `sys.exit()` in a step is a failure too
            report(step["name"], error)
            if left == 0:
                return 1
            times = "once" if left == 1 else f"up to {left} times"
            sys.stderr.write(f"step {step['name']} is tried again, {times}\n")
    return 1


def run_step(document: Mapping[str, Any]) -> None:
    """Runs one step: imports it, loads its inputs, calls it, and stores what it returns."""
    step = find_step(**document["source"])
    declared = document["outputs"]
    if set(step.outputs.names) != set(declared):
        raise UsageError(
            f"the code has the outputs {_listed(step.outputs.names)}, but the pipeline was started with "
            f"{_listed(declared)}; start it anew"
        )
    arguments: dict[str, object] = {name: decode(value) for name, value in document["parameters"].items()}
    cache = document.get("cache")
    if cache is not None and reuse(document, cache):
        sys.stderr.write(f"step {document['name']} is cached: it has run before with the same code and inputs\n")
        return
    for name, place in document["inputs"].items():
        arguments[name] = load(place["uri"])
    for name, value in _call(step, arguments).items():
        save(value, declared[name]["uri"], f"the output `{name}`")
    if cache is not None:
        remember(document, cache)


def find_step(module: str, attribute: str) -> Step[..., object]:
    """The step object that a pipeline spec's `source` names."""
    found: object = getattr(import_module(module), attribute, None)
    if not isinstance(found, Step):
        raise UsageError(
            f"the module `{module}` has no step `{attribute}`, "
            "or only below the line that calls the pipeline, where its import ends"
        )
    return found


def import_module(name: str) -> ModuleType:
    """Imports a step's module, down to the line that calls a pipeline, if it has one."""
    if name in sys.modules:
        return sys.modules[name]
    parent, _, child = name.rpartition(".")
    if parent:
        importlib.import_module(parent)
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise UsageError(f"there is no module `{name}` in {os.getcwd()} or among the installed packages")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    inside.importing = name
    try:
        spec.loader.exec_module(module)
    except inside.PipelineCalled:
        pass
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        inside.importing = None
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _call(step: Step[..., object], arguments: Mapping[str, object]) -> dict[str, object]:
    try:
        value = step.function(**arguments)
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        if step.outputs.names:
            raise StepFailed(f"it called sys.exit() before it returned {_listed(step.outputs.names)}") from error
        return {}
    names = step.outputs.names
    if not step.outputs.packed:
        if names:
            return {names[0]: value}
        if value is not None:
            raise StepFailed(
                f"it is annotated with -> None but returned a {type(value).__name__}; annotate what it returns"
            )
        return {}
    if not isinstance(value, (tuple, list)):
        raise StepFailed(f"it declares {len(names)} outputs ({_listed(names)}) but returned a {type(value).__name__}")
    if len(value) != len(names):
        raise StepFailed(f"it declares {len(names)} outputs ({_listed(names)}) but returned {len(value)}")
    return dict(zip(names, value))


def _read_document() -> list[dict[str, Any]]:
    if len(sys.argv) > 1:
        # What the step starts is told, as by the file's name, that a step runs.
        os.environ[inside.ENVIRONMENT_NAME] = "arguments"
        where, text = "in the arguments", _from_arguments(sys.argv[1:])
    else:
        path = os.environ.get(inside.ENVIRONMENT_NAME)
        if not path:
            raise UsageError(
                f"{inside.ENVIRONMENT_NAME} is not set; this module is started by `longshore`, not by hand"
            )
        try:
            with open(path, encoding="utf-8") as file:
                where, text = path, file.read()
        except (OSError, ValueError) as error:
            raise UsageError(f"the step's document {path} cannot be read: {error}") from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the step's document {where} cannot be read: {error}") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise UsageError(
            f"the step's document {where} has version {version!r}, this package reads {VERSION}; "
            "program and package must be of the same version"
        )
    steps: list[dict[str, Any]] = document["steps"]
    return steps


def _from_arguments(arguments: list[str]) -> str:
    """The document of `--run NAME --step PIECE…`, with the run's name where it stands for it."""
    import base64
    import zlib

    if len(arguments) < 4 or arguments[0] != "--run" or arguments[2] != "--step":
        raise UsageError("this module takes the arguments --run NAME --step PIECE…; it is started by `longshore`")
    run = _folder_name(arguments[1])
    text = "".join(piece.lstrip(".") for piece in arguments[3:])
    try:
        document = zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))).decode("utf-8")
    except (ValueError, zlib.error) as error:
        raise UsageError(f"the step's document in the arguments cannot be read: {error}") from error
    steps = json.loads(document)
    for step in steps["steps"]:
        for place in (*step["inputs"].values(), *step["outputs"].values()):
            place["uri"] = place["uri"].replace("{run}", run)
    return json.dumps(steps)


def _folder_name(run: str) -> str:
    """A run's name as a folder: what services call their runs may have slashes, colons and blanks in it."""
    name = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in run).strip(".")
    if not name:
        raise UsageError(f"{run!r} is not the name of a run")
    return name


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


if __name__ == "__main__":
    sys.exit(main())
