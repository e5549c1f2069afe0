"""Artifacts: what steps return, as folders in the artifact store.

An artifact is a folder with `artifact.json` and the data file that it names, with its size and SHA-256. In a folder of
this machine it is written under another name beside its place and renamed, so it is there whole or not at all; in a
bucket, `artifact.json` is written last.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import IO, Callable, NamedTuple

from longshore.errors import ArtifactError
from longshore.materializers import FORMS, store, type_name
from longshore.stores import Place, place

VERSION = 1
_DOCUMENT = "artifact.json"
_CHUNK = 1 << 20


class Document(NamedTuple):
    """What `artifact.json` says."""

    form: str
    type: str
    python: str
    path: str
    sha256: str
    size: int


def save(value: object, uri: str, what: str) -> None:
    """Writes `value` as the artifact `uri`. `what` names it in errors, as in "the output `model`"."""
    target = place(uri)
    try:
        draft = target.draft()
        try:
            _write(value, draft, what)
            target.put(draft, _DOCUMENT)
        except BaseException:
            _remove(draft)
            raise
    except OSError as error:
        raise ArtifactError(f"{what} cannot be written to {target}: {error.strerror or error}") from error


def load(uri: str) -> object:
    """Reads the artifact `uri`, after checking it against its hash.

    Artifacts that are pickles run code when they are read: `uri` must be of a run of one's own.
    """
    import tempfile

    folder = place(uri)
    written = document(folder)
    path = f"{folder}/{written.path}"
    try:
        with tempfile.TemporaryDirectory(prefix="longshore-") as copy:
            # Of a folder here, the file itself; of a bucket, a copy.
            local = path
            if not os.path.isabs(path):
                local = os.path.join(copy, written.path)
                folder.get(written.path, local)
            with open(local, "rb") as file:
                if _digest(file) != (written.sha256, written.size):
                    raise ArtifactError(f"the artifact {path} is damaged: it is not what the step has written")
                file.seek(0)
                if written.form == "pickle":
                    _warn_of_other_python(path, written.python)
                return FORMS[written.form].read(file, written.type)
    except ArtifactError:
        raise
    except ImportError as error:
        missing = error.name or str(error)
        raise ArtifactError(
            f"the artifact {folder} holds a {written.type}, and reading it needs the module `{missing}`, "
            "which is not installed here"
        ) from error
    except OSError as error:
        raise ArtifactError(f"the artifact {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise ArtifactError(
            f"the artifact {folder} holds a {written.type}, which cannot be read back: {type(error).__name__}: {error}"
        ) from error


def copy(source: str, target: str) -> None:
    """Makes the artifact `target` what the artifact `source` is, of the same store."""
    found = place(source)
    written = document(found)
    place(target).copy_from(found, [written.path, _DOCUMENT])


def _write(value: object, folder: str, what: str) -> None:
    files: list[dict[str, object]] = []

    def write(name: str, content: Callable[[IO[bytes]], None]) -> None:
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
        with open(path, "rb") as file:
            sha256, size = _digest(file)
        files.append({"path": name, "sha256": sha256, "size": size})

    try:
        form = store(value, write)
    except OSError:
        raise
    except Exception as error:
        raise ArtifactError(
            f"{what} is a {type_name(value)}, which cannot be stored: {type(error).__name__}: {error}; "
            "return plain data, an array, a data frame, or an object that `pickle` can write"
        ) from error
    document = {
        "version": VERSION,
        "materializer": form,
        "type": type_name(value),
        "python": "{}.{}.{}".format(*sys.version_info),
        "files": files,
    }
    with open(os.path.join(folder, _DOCUMENT), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def document(folder: Place) -> Document:
    """What an artifact says of itself. Raises `ArtifactError` if there is none."""
    path = f"{folder}/{_DOCUMENT}"
    try:
        document = json.loads(folder.read(_DOCUMENT).decode("utf-8"))
        if document["version"] != VERSION or document["materializer"] not in FORMS:
            raise ArtifactError(
                f"the artifact {folder} was written by another version of longshore "
                f"(version {document['version']}, {document['materializer']}); read it with that one"
            )
        [data] = document["files"]
        if os.path.basename(data["path"]) != data["path"]:
            raise ValueError(f"{data['path']!r} is not a file of the artifact")
        return Document(
            form=document["materializer"],
            type=document["type"],
            python=document["python"],
            path=data["path"],
            sha256=data["sha256"],
            size=data["size"],
        )
    except FileNotFoundError:
        raise ArtifactError(f"there is no artifact {folder}: its step has not run, or it was removed") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"the artifact {path} cannot be read: {error}") from error


def _warn_of_other_python(path: str, python: str) -> None:
    here = "{}.{}.{}".format(*sys.version_info)
    if python.split(".")[:2] != here.split(".")[:2]:
        warnings.warn(
            f"the artifact {path} is a pickle of Python {python}, read by Python {here}; it may not be understood",
            stacklevel=3,
        )


def _digest(file: IO[bytes]) -> tuple[str, int]:
    import hashlib

    hasher = hashlib.sha256()
    size = 0
    while True:
        chunk = file.read(_CHUNK)
        if not chunk:
            return hasher.hexdigest(), size
        hasher.update(chunk)
        size += len(chunk)


def _remove(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
