"""Images: pulled by skopeo, unpacked by umoci."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]


class PullError(Exception):
    """An image that was not pulled, and what was said."""


class Image:
    """An unpacked image: its root file system, and how its process is configured."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "bundle/rootfs"
        self.bundle: Object = json.loads((folder / "bundle/config.json").read_text())
        layout = folder / "layout"

        def blob(descriptor: Object) -> Object:
            algorithm, digest = descriptor["digest"].split(":")
            read: Object = json.loads((layout / "blobs" / algorithm / digest).read_text())
            return read

        manifest = blob(json.loads((layout / "index.json").read_text())["manifests"][0])
        self.config: Object = blob(manifest["config"]).get("config", {})


class Images:
    """The images of a node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def get(self, reference: str, policy: str, auths: Object) -> Image:
        """An image. With the policy `IfNotPresent` one that is there is taken as it is."""
        with self._lock:
            lock = self._locks[reference]
        with lock:
            folder = self.folder / hashlib.sha256(reference.encode()).hexdigest()[:24]
            if (folder / "bundle/config.json").exists() and policy != "Always":
                return Image(folder)
            if policy == "Never":
                raise PullError(f'Container image "{reference}" is not present with pull policy of Never')
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                self._pull(reference, auths, folder)
            except PullError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            return Image(folder)

    @staticmethod
    def _pull(reference: str, auths: Object, folder: Path) -> None:
        authfile = folder / "auth.json"
        authfile.touch(mode=0o600)
        authfile.write_text(json.dumps({"auths": auths}))
        host = reference.split("/")[0].split(":")[0]
        # As container runtimes do, on loopback without TLS.
        plain = ["--src-tls-verify=false"] if host in ("localhost", "127.0.0.1") else []
        layout = folder / "layout"
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--authfile", str(authfile), *plain]
        done = subprocess.run(
            [*copy, f"docker://{reference}", f"oci:{layout}:image"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "DOCKER_CONFIG": str(folder / "none")},
        )
        authfile.unlink()
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["skopeo failed"]
            raise PullError(f'failed to pull and unpack image "{reference}": {said[0]}')
        unpacked = subprocess.run(
            ["umoci", "unpack", "--image", f"{layout}:image", str(folder / "bundle")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if unpacked.returncode:
            raise PullError(f'failed to pull and unpack image "{reference}": {unpacked.stderr.strip()}')


def auths_of(secret: Object) -> Object:
    """The credentials in a Secret of the type kubernetes.io/dockerconfigjson."""
    data = base64.b64decode(secret.get("data", {}).get(".dockerconfigjson", ""))
    read: Object = json.loads(data or b"{}").get("auths", {})
    return read
