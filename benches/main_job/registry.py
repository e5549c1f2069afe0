"""The registry that the peers push to: the `distribution` server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process import Server, answers, free_port

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Protocol

    class Programs(Protocol):
        """Has the registry's program."""

        def command(self, *argv: str) -> list[str]:
            """The command that runs `argv` there."""


_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "{host}"}}
"""


class Registry:
    """A registry at `host`, with its data in `folder`."""

    def __init__(self, root: Programs, folder: Path) -> None:
        folder.mkdir()
        self.host = f"127.0.0.1:{free_port()}"
        config = folder / "config.yml"
        config.write_text(_CONFIG.format(folder=folder / "data", host=self.host))
        self._server = Server(root.command("docker-registry", "serve", str(config)), folder / "log")
        self._server.wait_until(lambda: answers(f"http://{self.host}/v2/"))

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop()
