"""crane: puts images together in a registry, without building anything."""

from __future__ import annotations

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

    def put(self, image: str, layers: list[Path], base: str | None = None) -> None:
        """Makes an image of layers (tar files), on another image or on nothing."""
        on = ["--base", base] if base else ["--oci-empty-base"]
        run([self._program, "append", *on, "--new_tag", image, *(f"--new_layer={layer}" for layer in layers)])

    def set_platform(self, image: str, platform: str) -> None:
        """Writes the platform into an image's configuration."""
        run([self._program, "mutate", "--set-platform", platform, "--tag", image, image])

    def layer_sizes(self, image: str) -> list[int]:
        """The compressed sizes of an image's layers, lowest first."""
        import json

        manifest = json.loads(run([self._program, "manifest", image]))
        return [layer["size"] for layer in manifest["layers"]]

    def append_code(self, project: Project, base: str, image: str, tar: Path) -> float:
        """Puts the code as one more layer on an image that is in the registry; the tar file is made before."""
        with tarfile.open(tar, "w") as archive:
            archive.add(project.code, arcname="app")
        return seconds([self._program, "append", "--base", base, "--new_layer", str(tar), "--new_tag", image])
