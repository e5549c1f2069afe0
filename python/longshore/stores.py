"""Where artifacts are: folders of this machine, and prefixes in the buckets of clouds.

A folder is `file:///…`. Buckets (`s3://`, `gs://`, `az://`) are read and written by `fsspec` and the driver of the
cloud, which longshore adds to the images of stacks that need them; credentials are those that the driver finds.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from longshore.errors import ArtifactError

DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
"""The package that reads and writes the URIs of a scheme."""


class Place(Protocol):
    """A folder of a store, which may not exist yet."""

    def __str__(self) -> str: ...
    def child(self, name: str) -> Place:
        """The folder or file of that name in it."""

    def get(self, name: str, file: str) -> None:
        """Copies a file of it to a local file. Raises `FileNotFoundError`."""

    def read(self, name: str) -> bytes:
        """A small file of it. Raises `FileNotFoundError`."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file into it, which is there whole or not at all."""

    def put(self, draft: str, last: str) -> None:
        """Makes it what the local folder `draft` is, which is given up. `last` is the file that is there last."""

    def copy_from(self, other: Place, names: list[str]) -> None:
        """Takes the files of another folder of the same store, the last one last."""

    def draft(self) -> str:
        """A new local folder to write in, which `put` takes."""


def place(uri: str) -> Place:
    """The folder of a URI."""
    from urllib.parse import unquote, urlsplit

    scheme, separator, rest = uri.partition("://")
    if separator and scheme in DRIVERS and rest.strip("/"):
        return _Bucket(scheme, unquote(rest.strip("/")))
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ArtifactError(
            f"the artifact {uri!r} is in no store that this version knows: file:///…, "
            + ", ".join(f"{scheme}://…" for scheme in DRIVERS)
        )
    return _Folder(unquote(parts.path))


class _Folder:
    """A folder of this machine."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __str__(self) -> str:
        return self.path

    def child(self, name: str) -> _Folder:
        return _Folder(os.path.join(self.path, name))

    def get(self, name: str, file: str) -> None:
        import shutil

        shutil.copyfile(os.path.join(self.path, name), file)

    def read(self, name: str) -> bytes:
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        os.makedirs(self.path, exist_ok=True)
        draft = os.path.join(self.path, f".{name}.{os.urandom(8).hex()}")
        try:
            with open(draft, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(draft, os.path.join(self.path, name))
        except BaseException:
            _remove(draft)
            raise

    def draft(self) -> str:
        parent, name = os.path.split(self.path)
        os.makedirs(parent, exist_ok=True)
        # Not `tempfile`: its folders can be read by their owner only, and a step may run as another user.
        draft = os.path.join(parent, f".{name}.{os.urandom(8).hex()}")
        os.mkdir(draft)
        return draft

    def put(self, draft: str, last: str) -> None:
        del last  # a folder that is renamed is there whole or not at all
        try:
            os.rename(draft, self.path)
        except OSError:
            if not os.path.isdir(self.path):
                raise
            # A step that is run again after it has been cut off replaces what it had written.
            old = f"{draft}.old"
            os.rename(self.path, old)
            os.rename(draft, self.path)
            _remove(old)

    def copy_from(self, other: Place, names: list[str]) -> None:
        import shutil

        draft = self.draft()
        try:
            for name in names:
                source, target = os.path.join(str(other), name), os.path.join(draft, name)
                try:
                    os.link(source, target)
                except OSError:  # another file system, or a user who may not
                    shutil.copyfile(source, target)
            self.put(draft, names[-1])
        except BaseException:
            _remove(draft)
            raise


class _Bucket:
    """A prefix in a bucket."""

    def __init__(self, scheme: str, path: str, system: Any = None) -> None:  # noqa: ANN401 (fsspec has no types here)
        self.scheme = scheme
        self.path = path
        self.system = _system(scheme) if system is None else system

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def child(self, name: str) -> _Bucket:
        return _Bucket(self.scheme, f"{self.path}/{name}", self.system)

    def get(self, name: str, file: str) -> None:
        self._do("read", name, lambda path: self.system.get_file(path, file))

    def read(self, name: str) -> bytes:
        # Another step has written it, maybe after this process has last looked.
        self.system.invalidate_cache()
        content: bytes = self._do("read", name, lambda path: self.system.cat_file(path))
        return content

    def write(self, name: str, content: bytes) -> None:
        self._do("written", name, lambda path: self.system.pipe_file(path, content))

    def draft(self) -> str:
        import tempfile

        return tempfile.mkdtemp(prefix="longshore-")

    def put(self, draft: str, last: str) -> None:
        names = sorted(os.listdir(draft), key=lambda name: name == last)
        for name in names:
            self._do("written", name, lambda path, name=name: self.system.put_file(os.path.join(draft, name), path))
        _remove(draft)

    def copy_from(self, other: Place, names: list[str]) -> None:
        source = str(other).partition("://")[2]
        for name in names:
            self._do("written", name, lambda path, name=name: self.system.cp_file(f"{source}/{name}", path))

    def _do(self, verb: str, name: str, work: Any) -> Any:  # noqa: ANN401 (fsspec has no types here)
        try:
            return work(f"{self.path}/{name}")
        except FileNotFoundError:
            raise
        except Exception as error:
            # Each driver has exceptions of its own, of the cloud's package below it.
            reason = str(error).strip() or type(error).__name__
            raise ArtifactError(
                f"{self}/{name} cannot be {verb}: {reason}; the process needs credentials that may read and write there"
            ) from error


def _system(scheme: str) -> Any:  # noqa: ANN401 (fsspec has no types here)
    driver = DRIVERS[scheme]
    try:
        import fsspec

        if scheme == "gs":
            # What `fsspec` knows as `gs` asks another API (gRPC) for the kind of the bucket before each file, and waits
            # a minute where it is not reached. The store's files are plain objects in a bucket of any kind.
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem()
        return fsspec.filesystem(scheme, **(_azure_identity() if scheme == "az" else {}))
    except ImportError as error:
        raise ArtifactError(
            f"artifacts in {scheme}:// need the package {driver}, which cannot be imported here ({error}); "
            f"install it: pip install {driver}"
        ) from None
    except Exception as error:
        raise ArtifactError(
            f"artifacts in {scheme}:// cannot be reached: {str(error).strip() or type(error).__name__}; "
            f"{driver} needs credentials, and for az:// the account in AZURE_STORAGE_ACCOUNT_NAME"
        ) from error


def _azure_identity() -> dict[str, Any]:
    """Who the Azure driver is, where it would not find out by itself."""
    # Without this, it takes a container for a public one.
    options: dict[str, Any] = {"anon": False}
    # Azure Machine Learning names the identity of a job in variables of its own ("Set up authentication between Azure
    # Machine Learning and other services").
    client_id = os.environ.get("DEFAULT_IDENTITY_CLIENT_ID")
    if os.environ.get("AZUREML_OBO_ENABLED") == "True" and os.environ.get("OBO_ENDPOINT"):
        from longshore.on_behalf import OnBehalfOfUser

        options["credential"] = OnBehalfOfUser(os.environ["OBO_ENDPOINT"])
    elif client_id and not os.environ.get("AZURE_CLIENT_ID"):
        options["managed_identity_client_id"] = client_id
    return options


def _remove(path: str) -> None:
    import contextlib
    import shutil

    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)
