"""Steps that need not run, since one has run before that did the same.

What a step does is told by its image, which holds its code and packages, its function, its parameters, and the content
of its inputs. The store remembers, by the hash of these, where a step's outputs are: `<store>/.steps/<hash>.json`.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from longshore.artifacts import copy, document
from longshore.errors import ArtifactError
from longshore.stores import place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.stores import Place

VERSION = 1
_FOLDER = ".steps"


def reuse(step: Mapping[str, Any], image: str) -> bool:
    """Takes the outputs of an earlier step that did the same, if there is one and they are still there."""
    memory = _memory(step)
    if memory is None:
        return False
    try:
        row = json.loads(memory.read(_key(step, image) + ".json"))
        earlier: dict[str, str] = row["outputs"]
        if row["version"] != VERSION or set(earlier) != set(step["outputs"]):
            return False
        for name, uri in earlier.items():
            copy(uri, step["outputs"][name]["uri"])
    except (FileNotFoundError, ArtifactError, ValueError, KeyError, TypeError, OSError):
        # Gone, damaged, or of another version: the step runs.
        return False
    return True


def remember(step: Mapping[str, Any], image: str) -> None:
    """Remembers where a step's outputs are. Where that cannot be written, a later run takes its time, nothing else."""
    memory = _memory(step)
    if memory is None:
        return
    row = {"version": VERSION, "outputs": {name: found["uri"] for name, found in step["outputs"].items()}}
    try:
        memory.write(_key(step, image) + ".json", json.dumps(row).encode("utf-8"))
    except (ArtifactError, OSError) as error:
        sys.stderr.write(f"step {step['name']} cannot be remembered: {error}\n")


def _memory(step: Mapping[str, Any]) -> Place | None:
    """The folder of what is remembered. A step without outputs leaves nothing that could be taken."""
    for output in step["outputs"].values():
        # <store>/<run>/<step>/<output>
        store = output["uri"].rsplit("/", 3)[0]
        return place(f"{store}/{_FOLDER}")
    return None


def _key(step: Mapping[str, Any], image: str) -> str:
    import hashlib

    inputs = {}
    for name, found in step["inputs"].items():
        written = document(place(found["uri"]))
        inputs[name] = [written.form, written.type, written.sha256]
    does = {
        "version": VERSION,
        "image": image,
        "source": step["source"],
        "parameters": step["parameters"],
        "inputs": inputs,
        "outputs": sorted(step["outputs"]),
    }
    return hashlib.sha256(json.dumps(does, sort_keys=True).encode("utf-8")).hexdigest()
