"""Docker's engine with BuildKit inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import Engine, StepCache, Took
from process import CommandFailed, Server, run, seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Docker(Engine):
    """A Docker daemon of its own, and its client; `command` says how a program of it is run."""

    def __init__(self, command: Callable[..., list[str]], work: Path) -> None:
        work.mkdir()
        self._command = command
        self._socket = f"unix://{work}/socket"
        self._env = {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(work)}
        daemon = ["/usr/sbin/dockerd", "--data-root", f"{work}/data", "--exec-root", f"{work}/exec"]
        daemon += ["--pidfile", f"{work}/pid", "--host", self._socket, "--storage-driver", "overlay2"]
        daemon += ["--iptables=false", "--bridge=none"]
        self._server = Server(command(*daemon), work / "log")
        self._server.wait_until(self._is_up)
        self.version = run(self._docker("version", "--format", "{{.Server.Version}}")).strip()
        self.name = f"Docker {'.'.join(self.version.split('.')[:2]).split('+')[0]}"

    def _docker(self, *argv: str) -> list[str]:
        return self._command("/usr/bin/docker", "--host", self._socket, *argv)

    def _is_up(self) -> bool:
        try:
            run(self._docker("version"))
        except CommandFailed:
            return False
        return True

    def pull(self, image: str) -> None:
        run(self._docker("pull", "--quiet", image))

    def build(self, folder: Path, image: str, cache: StepCache) -> Took:
        options = ["--no-cache"] if cache is StepCache.IGNORED else []
        build = self._docker("build", "--quiet", "--network=host", *options, "--tag", image, str(folder))
        return Took(seconds(build, self._env), seconds(self._docker("push", "--quiet", image), self._env))

    def stop(self) -> None:
        self._server.stop()
