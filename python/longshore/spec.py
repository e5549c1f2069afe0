"""The pipeline spec: a recorded pipeline as the document that the program `longshore` reads.

`docs/pipeline-spec.md` describes it field by field.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import TYPE_CHECKING, Callable

from longshore.config import settings_document
from longshore.errors import UsageError
from longshore.version import __version__

if TYPE_CHECKING:
    from longshore.graph import Recording, StepCall
    from longshore.pipelines import Options
    from longshore.steps import Step

VERSION = 2


def pipeline_spec(recording: Recording, function: Callable[..., object], options: Options) -> dict[str, object]:
    """The spec of one recorded pipeline, whose source root is where its function's module is imported from."""
    owner = f"pipeline `{recording.pipeline}`"
    root, _ = _importable(owner, function.__module__)
    pipeline: dict[str, object] = {"name": recording.pipeline}
    if options.schedule is not None:
        pipeline["schedule"] = {"cron": options.schedule.cron, "timezone": options.schedule.timezone}
    return {
        "version": VERSION,
        "pipeline": pipeline,
        "source_root": root,
        "python": {
            "executable": sys.executable,
            "version": "{}.{}.{}".format(*sys.version_info),
        },
        "sdk_version": __version__,
        "settings": settings_document(options.settings, root),
        "steps": [_step(call, options, root) for call in recording.calls],
    }


def _step(call: StepCall, options: Options, root: str) -> dict[str, object]:
    step = call.step
    cache = options.cache if step.cache is None else step.cache
    return {
        "name": call.name,
        "source": _source(step, root),
        "inputs": {name: {"step": output._call, "output": output._name} for name, output in call.inputs.items()},
        "parameters": dict(call.parameters),
        "outputs": list(step.outputs.names),
        "after": list(call.after),
        "retries": options.retries if step.retries is None else step.retries,
        "timeout": step.timeout,
        "cache": bool(cache),
        "settings": settings_document(step.settings, root),
    }


def _source(step: Step[..., object], root: str) -> dict[str, str]:
    module, attribute = step.source()
    owner = f"step `{step.name}`"
    folder, name = _importable(owner, module)
    if folder != root and not _is_installed(folder):
        raise UsageError(
            f"{owner} is defined in the module `{name}` of the folder {folder}, but the image gets the code of "
            f"{root}, where the pipeline is defined; move one to the other"
        )
    return {"module": name, "attribute": attribute}


def _importable(owner: str, module: str) -> tuple[str, str]:
    """The folder from which a module is imported, and the name under which it is imported from there."""
    loaded = sys.modules[module]
    file = getattr(loaded, "__file__", None)
    name = module
    if module == "__main__":
        if file is None or not os.path.isfile(file):
            raise UsageError(
                f"{owner} is defined in an interactive session or a notebook, which cannot be put into an image; "
                "define it in a file and import it"
            )
        # As Python does for `sys.path`: where a script is a link, its folder is that of the file behind it.
        file = os.path.realpath(file)
        # `python -m package.train` says which module it runs; `python train.py` does not.
        found = getattr(loaded, "__spec__", None)
        name = found.name if found is not None else os.path.splitext(os.path.basename(file))[0]
    elif file is None:
        raise UsageError(f"{owner} is defined in the module `{module}`, which has no file")
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"{owner} is defined in {file}, which cannot be imported: `{name}` is not a Python name; "
            "rename the file, with letters, digits and `_` only"
        )
    folder = os.path.realpath(os.path.dirname(file))
    levels = name.count(".") + (os.path.basename(file).startswith("__init__."))
    for _ in range(levels):
        folder = os.path.dirname(folder)
    return folder, name


def _is_installed(folder: str) -> bool:
    """Whether a folder is one that packages are installed to: the image gets those by its requirements."""
    paths = sysconfig.get_paths()
    installed = {os.path.realpath(paths[key]) for key in ("purelib", "platlib")}
    installed.update(os.path.realpath(path) for path in _user_and_system_sites())
    return folder in installed


def _user_and_system_sites() -> list[str]:
    import site

    return [*site.getsitepackages(), site.getusersitepackages()]
