"""BuildKit by itself: its own daemon, which pushes while it exports."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from builder import Engine, StepCache, Took
from process import CommandFailed, Server, run, seconds

if TYPE_CHECKING:
    from pathlib import Path


class Compression(enum.Enum):
    """How layers are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"


class BuildKit(Engine):
    """A BuildKit daemon with its OCI worker, and its client."""

    def __init__(self, programs: Path, work: Path, registry: str, compression: Compression) -> None:
        work.mkdir()
        self._compression = compression
        self.client = [str(programs / "buildctl"), "--addr", f"unix://{work}/socket"]
        config = work / "buildkitd.toml"
        config.write_text(f'[registry."{registry}"]\nhttp = true\n')
        daemon = [str(programs / "buildkitd"), "--config", str(config), "--root", f"{work}/data"]
        daemon += ["--addr", f"unix://{work}/socket", "--oci-worker-net=host", "--containerd-worker=false"]
        # A mount namespace of its own, whose mounts go with the daemon.
        self._server = Server(["unshare", "--mount", "--propagation", "private", *daemon], work / "log")
        self._server.wait_until(self._is_up)
        self.version = run([str(programs / "buildctl"), "--version"]).split()[2]
        self.name = f"BuildKit {'.'.join(self.version.lstrip('v').split('.')[:2])}"
        if compression is not Compression.GZIP:
            self.name += f" ({compression.value})"

    def _is_up(self) -> bool:
        try:
            run([*self.client, "debug", "workers"])
        except CommandFailed:
            return False
        return True

    def pull(self, image: str) -> None:
        """Nothing: it unpacks an image in the first build that stands on it, which is not measured."""

    def build(self, folder: Path, image: str, cache: StepCache) -> Took:
        options = ["--no-cache"] if cache is StepCache.IGNORED else []
        build = [*self.client, "build", "--progress=quiet", "--frontend=dockerfile.v0", *options]
        build += ["--local", f"context={folder}", "--local", f"dockerfile={folder}"]
        build += ["--output", f"type=image,name={image},push=true,compression={self._compression.value}"]
        return Took(seconds(build))

    def stop(self) -> None:
        self._server.stop()
