"""Containers: run by runc, in the network of this machine."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal

    from images import Image

Object = dict[str, Any]

CGROUPS = Path("/sys/fs/cgroup")
# What container runtimes leave to a process unless they are told otherwise.
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
)
UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "k": 10**3, "M": 10**6, "G": 10**9}


class ConfigError(Exception):
    """A container that cannot be configured, and why."""


def expand(text: str, variables: dict[str, str]) -> str:
    """Replaces `$(NAME)`; `$$` is a dollar."""

    def replace(found: re.Match[str]) -> str:
        if found.group(0) == "$$":
            return "$"
        return variables.get(found.group(1), found.group(0))

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


def was_out_of_memory(group: str) -> bool:
    """Whether the kernel killed a process of a control group for its memory."""
    for events in (CGROUPS / f"memory{group}/memory.oom_control", CGROUPS / f"{group[1:]}/memory.events"):
        if events.exists():
            found = re.search(r"oom_kill (\d+)", events.read_text())
            return found is not None and int(found.group(1)) > 0
    return False


def forget_groups() -> None:
    """Removes what the control groups of containers were in, once all have ended."""
    for group in [*CGROUPS.glob("*/longshore-node"), CGROUPS / "longshore-node"]:
        if group.is_dir():
            with contextlib.suppress(OSError):  # of another node's containers some may run
                group.rmdir()


class Log:
    """The lines of a container with their times, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()

    def take(self, stream: Any) -> None:
        """Writes down what comes, line by line."""
        with self.file.open("ab", buffering=0) as file:
            while line := stream.readline():
                now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").encode()
                end = b"F" if line.endswith(b"\n") else b"P"
                file.write(now + b" " + end + b" " + line.rstrip(b"\n") + b"\n")

    def tail(self) -> str:
        """The last lines, as they stand in the status of a container that failed."""
        lines = self.file.read_bytes().splitlines()[-80:]
        return b"\n".join(line.split(b" ", 2)[2] for line in lines)[-2048:].decode(errors="replace")


class Container:
    """One container of a pod."""

    def __init__(self, folder: Path, identifier: str, pod: Object, spec: Object, image: Image) -> None:
        self.folder, self.identifier = folder, identifier
        self.pod, self.spec, self.image = pod, spec, image
        self.context = {**pod["spec"].get("securityContext", {}), **spec.get("securityContext", {})}
        folder.mkdir(parents=True, exist_ok=True)
        self.log = Log(folder / "log")
        self.message = folder / "termination-log"
        self.group = f"/longshore-node/{identifier}"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._runc = ["runc", "--root", str(folder / "runc")]

    def check(self) -> None:
        """Fails if the image's user is not what the pod may run as."""
        if not self.context.get("runAsNonRoot"):
            return
        user = self.context.get("runAsUser")
        if user is None:
            user = self.image.config.get("User", "").split(":")[0]
            if user and not user.isdigit():
                said = f"container has runAsNonRoot and image has non-numeric user ({user})"
                raise ConfigError(f"{said}, cannot verify user is non-root")
        if int(user or 0) == 0:
            raise ConfigError("container has runAsNonRoot and image will run as root")

    def start(self, variables: dict[str, str], mounts: list[Object]) -> None:
        """Starts it."""
        for name in ("upper", "work", "rootfs"):
            (self.folder / name).mkdir(exist_ok=True)
        lower, upper, work = self.image.root, self.folder / "upper", self.folder / "work"
        # What is below an overlay is not written to, so containers of an image share it.
        upper.chmod(lower.stat().st_mode & 0o7777)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.folder / "rootfs"], check=True)
        self.message.touch()
        self.message.chmod(0o666)
        bundle = self._bundle(variables, mounts)
        (self.folder / "config.json").write_text(json.dumps(bundle))
        self._process = subprocess.Popen(
            # Its control group is looked at before it goes.
            [*self._runc, "run", "--keep", "--bundle", self.folder, self.identifier],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self.log.take, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _bundle(self, variables: dict[str, str], mounts: list[Object]) -> Object:
        # umoci has resolved the image's user and defaults.
        bundle = json.loads(json.dumps(self.image.bundle))
        process = bundle["process"]
        defaults = dict(text.split("=", 1) for text in process.get("env", []))
        environment = {**defaults, "HOSTNAME": self.pod["metadata"]["name"][:63], **variables}
        process.update(terminal=False, env=[f"{name}={value}" for name, value in environment.items()])
        command = self.spec.get("command") or self.image.config.get("Entrypoint") or []
        arguments = self.spec.get("args")
        if arguments is None:
            arguments = [] if self.spec.get("command") else self.image.config.get("Cmd") or []
        process["args"] = [expand(part, variables) for part in [*command, *arguments]]
        process["cwd"] = self.spec.get("workingDir") or self.image.config.get("WorkingDir") or "/"
        user = process["user"]
        if (uid := self.context.get("runAsUser")) is not None:
            user.update(uid=uid, gid=0)
        if (gid := self.context.get("runAsGroup")) is not None:
            user["gid"] = gid
        if (group := self.context.get("fsGroup")) is not None:
            user["additionalGids"] = [group]
        changes = self.context.get("capabilities", {})
        kept = [] if "ALL" in changes.get("drop", []) else CAPABILITIES.split()
        kept = [f"CAP_{name}" for name in {*kept, *changes.get("add", [])} - {*changes.get("drop", [])}]
        held = kept if user["uid"] == 0 else []
        process["capabilities"] = {"bounding": kept, "effective": held, "permitted": held}
        process["noNewPrivileges"] = self.context.get("allowPrivilegeEscalation") is False
        process.pop("rlimits", None)
        bundle["root"] = {"path": "rootfs", "readonly": bool(self.context.get("readOnlyRootFilesystem"))}
        bundle["hostname"] = self.pod["metadata"]["name"][:63]
        bound = [self._bind("/etc/hosts", "/etc/hosts"), self._bind("/etc/resolv.conf", "/etc/resolv.conf")]
        own = self.spec.get("terminationMessagePath") or "/dev/termination-log"
        bound.append(self._bind(str(self.message), own, write=True))
        plain = [mount for mount in bundle.get("mounts", []) if mount["type"] not in ("cgroup", "bind")]
        bundle["mounts"] = plain + bound + mounts
        kinds = ("pid", "ipc", "uts", "mount")
        bundle["linux"] = {
            "cgroupsPath": self.group,
            "namespaces": [{"type": kind} for kind in kinds],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        }
        if limit := self.spec.get("resources", {}).get("limits", {}).get("memory"):
            amount, unit = re.fullmatch(r"(\d+)(\D*)", limit).groups()  # type: ignore[union-attr]
            bundle["linux"]["resources"] = {"memory": {"limit": int(amount) * UNITS[unit]}}
        return bundle  # type: ignore[no-any-return]

    def _bind(self, source: str, target: str, write: bool = False) -> Object:
        mode = "rw" if write else "ro"
        return {"destination": target, "type": "bind", "source": source, "options": ["bind", mode]}

    def wait(self, seconds: float) -> bool:
        """Waits a while for its end. Whether it has ended, with all that it printed."""
        assert self._process is not None
        assert self._reader is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(5)
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to its first process."""
        subprocess.run([*self._runc, "kill", self.identifier, str(int(number))], capture_output=True)

    def ended(self) -> Object:
        """How it ended, as the status of a container has it."""
        assert self._process is not None
        code = self._process.returncode
        code = 128 - code if code < 0 else code
        reason = "Completed" if code == 0 else "Error"
        if was_out_of_memory(self.group):
            reason = "OOMKilled"
        message = self.message.read_text(errors="replace")
        if not message and code and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = self.log.tail()
        return {"exitCode": code, "reason": reason, **({"message": message} if message else {})}

    def remove(self) -> None:
        """Takes away all but its log."""
        subprocess.run([*self._runc, "delete", "--force", self.identifier], capture_output=True)
        subprocess.run(["umount", self.folder / "rootfs"], capture_output=True)
