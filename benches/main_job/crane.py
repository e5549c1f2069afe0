"""crane: puts images together in a registry, without building anything."""

from __future__ import annotations

import json
import platform
import subprocess
import tarfile
from typing import TYPE_CHECKING

from process import run, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from project import Project


class Crane:
    """The program `crane`."""

    def __init__(self, programs: Path) -> None:
        self._program = str(programs / "crane")
        self.version = run([self._program, "version"]).strip()

    def copy(self, source: str, target: str) -> None:
        """Copies an image between registries."""
        run([self._program, "copy", source, target])

    def put_alone(self, image: str, layer: Path) -> None:
        """Makes an image of one layer, a tar file, for this machine's platform."""
        run([self._program, "append", "--oci-empty-base", "--new_layer", str(layer), "--new_tag", image])
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
        run([self._program, "mutate", "--set-platform", f"linux/{architecture}", "--tag", image, image])

    def layer_sizes(self, image: str) -> list[int]:
        """The compressed sizes of an image's layers, lowest first."""
        manifest = json.loads(run([self._program, "manifest", image]))
        return [layer["size"] for layer in manifest["layers"]]

    def file_names(self, image: str) -> list[str]:
        """The files of an image, layers applied."""
        export = subprocess.Popen([self._program, "export", image, "-"], stdout=subprocess.PIPE)
        with export, tarfile.open(fileobj=export.stdout, mode="r|") as archive:
            return [entry.name for entry in archive if not entry.isdir()]

    def append_code(self, project: Project, base: str, image: str, tar: Path) -> float:
        """Puts the code as one more layer on an image that is in the registry; the tar file is made before."""
        with tarfile.open(tar, "w") as archive:
            archive.add(project.code, arcname="app")
        return seconds([self._program, "append", "--base", base, "--new_layer", str(tar), "--new_tag", image])
