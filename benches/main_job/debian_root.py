"""A Debian root file system whose programs run here, with this machine's network and kernel."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from process import CommandFailed, Server, run

if TYPE_CHECKING:
    from pathlib import Path

# pivot_root rather than chroot: runc cannot pivot from inside a chroot.
_ENTER = """
set -e
mount --bind "$1" "$1"
cd "$1"
for folder in proc sys dev; do mount --rbind /$folder $folder; done
mount -t tmpfs tmpfs run
mkdir -p ".$2" .old
mount --rbind "$2" ".$2"
pivot_root . .old
umount -l .old
touch /run/entered
exec sleep infinity
"""


class DebianRoot:
    """A mount namespace in which the folder `root` is `/`, and the folder `work` is where it is outside."""

    def __init__(self, root: Path, work: Path) -> None:
        for name in ("etc/resolv.conf", "etc/hosts"):
            with contextlib.suppress(FileNotFoundError):
                (root / name).unlink()
            shutil.copyfile(f"/{name}", root / name)
        argv = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _ENTER, "enter", str(root), str(work)]
        self._holder = Server(argv, work / "debian-root.log")
        self._holder.wait_until(self._is_entered)

    def _is_entered(self) -> bool:
        try:
            run(self.command("test", "-e", "/run/entered"))
        except CommandFailed:
            return False
        return True

    def command(self, *argv: str) -> list[str]:
        """The command that runs `argv` inside; entering the namespace takes about a millisecond."""
        return ["nsenter", "--target", str(self._holder.pid), "--mount", "--", *argv]

    def stop(self) -> None:
        """Ends it: its mounts go with its last process."""
        self._holder.stop()
