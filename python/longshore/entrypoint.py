"""Runs steps: `python -m longshore.entrypoint`, in a step's container or beside the user's code.

The environment variable `LONGSHORE_STEP` names a JSON document that says which; `docs/pipeline-spec.md` describes it.
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
from longshore.errors import LongshoreError, UsageError
from longshore.failures import report
from longshore.plain import decode
from longshore.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

VERSION = 1


class StepFailed(LongshoreError):
    """A step returned something else than it declares, or left before it returned."""


def main() -> int:
    """Runs the steps of the document in their order, up to the first that fails."""
    import faulthandler

    # A crash in a compiled package leaves at least the line that called it.
    faulthandler.enable()
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
        try:
            run_step(step)
        except KeyboardInterrupt:
            sys.stderr.write(f"step {step['name']} interrupted\n")
            return 130
        except BaseException as error:  # `sys.exit()` in a step is a failure too
            report(step["name"], error)
            return 1
    return 0


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
    for name, place in document["inputs"].items():
        arguments[name] = load(place["uri"])
    for name, value in _call(step, arguments).items():
        save(value, declared[name]["uri"], f"the output `{name}`")


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
    path = os.environ.get(inside.ENVIRONMENT_NAME)
    if not path:
        raise UsageError(f"{inside.ENVIRONMENT_NAME} is not set; this module is started by `longshore`, not by hand")
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"the step's document {path} cannot be read: {error}") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION:
        raise UsageError(
            f"the step's document {path} has version {version!r}, this package reads {VERSION}; "
            "program and package must be of the same version"
        )
    steps: list[dict[str, Any]] = document["steps"]
    return steps


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


if __name__ == "__main__":
    sys.exit(main())
