"""buildah: no daemon, `chroot` isolation, layers kept."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from builder import Engine, StepCache, Took
from process import run, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from debian_root import DebianRoot


class Buildah(Engine):
    """buildah with a storage of its own."""

    def __init__(self, root: DebianRoot, work: Path) -> None:
        work.mkdir()
        self._root = root
        self._storage = ["--root", f"{work}/data", "--runroot", f"{work}/run", "--storage-driver", "overlay"]
        # By default it asks for more open files and processes than it may have where CAP_SYS_RESOURCE is missing.
        limits = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        hard = {name: resource.getrlimit(number)[1] for name, number in limits.items()}
        self._limits = [f"--ulimit={name}={limit}:{limit}" for name, limit in hard.items()]
        self.version = run(root.command("buildah", "--version")).split()[2]
        self.name = f"buildah {'.'.join(self.version.split('.')[:2])}"

    def _buildah(self, command: str, *argv: str) -> list[str]:
        return self._root.command("buildah", *self._storage, command, *argv)

    def pull(self, image: str) -> None:
        run(self._buildah("pull", "--tls-verify=false", "--quiet", image))

    def build(self, folder: Path, image: str, cache: StepCache) -> Took:
        options = ["--no-cache"] if cache is StepCache.IGNORED else []
        build = self._buildah(
            "build", "--quiet", "--layers", "--isolation=chroot", "--network=host", "--pull=never",
            "--tls-verify=false", *self._limits, *options, "--tag", image, str(folder),
        )  # fmt: skip
        return Took(seconds(build), seconds(self._buildah("push", "--tls-verify=false", "--quiet", image)))

    def stop(self) -> None:
        """Nothing runs between its commands."""
