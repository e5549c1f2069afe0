"""Pushes and pulls one image through a registry on loopback, in turns, with each client."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import layers
import machine
from process import CommandFailed, Server, answers, free_port

_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: {quiet}}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{host}"}}
"""


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall: float
    cpu: float
    peak: float
    """In MB, of the largest process."""


@dataclass(frozen=True)
class Client:
    """A program that moves images between a layout folder and a registry."""

    name: str
    program: str

    def push(self, layout: Path, reference: str) -> list[str]:
        """The command that pushes."""
        if self.name == "skopeo":
            return [self.program, "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}"]
        if self.name == "crane":
            return [self.program, "push", "--insecure", str(layout), reference]
        return [self.program, "push", str(layout), reference]

    def pull(self, reference: str, layout: Path) -> list[str]:
        """The command that pulls."""
        if self.name == "skopeo":
            return [self.program, "copy", "-q", "--src-tls-verify=false", f"docker://{reference}", f"oci:{layout}"]
        if self.name == "crane":
            return [self.program, "pull", "--insecure", "--format=oci", reference, str(layout)]
        return [self.program, "pull", reference, str(layout)]


class Registry:
    """`docker-registry` on loopback, with its data in a folder of its own."""

    def __init__(self, folder: Path, *, quiet: bool = True) -> None:
        self.folder = folder
        folder.mkdir()
        self.host = f"127.0.0.1:{free_port()}"
        config = folder / "config.yml"
        config.write_text(_CONFIG.format(folder=folder / "data", host=self.host, quiet=str(quiet).lower()))
        argv = ["docker-registry", "serve", str(config)]
        self._server = Server(argv, folder / "log", {"OTEL_TRACES_EXPORTER": "none"})
        self._server.wait_until(lambda: answers(f"http://{self.host}/v2/"))

    def requests(self) -> int:
        """How many requests the log has."""
        return sum(' HTTP/1.1" ' in line for line in self._server.log.read_text().splitlines())

    def stop(self) -> None:
        """Ends it and removes its data."""
        self._server.stop()
        shutil.rmtree(self.folder)


def measure(argv: list[str]) -> Cost:
    """Runs a command to its end."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        ended = threading.Event()
        peaks = [0]
        watch = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
        watch.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        ended.set()
        watch.join()
        if process.returncode != 0:
            output.seek(0)
            raise CommandFailed(f"{argv} ended with {process.returncode}:\n{output.read()[-3000:].decode()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, max(peaks) * 1024 / 1e6)


def _watch(pid: int, ended: threading.Event, peaks: list[int]) -> None:
    """Reads the high-water mark in KiB. `ru_maxrss` would count what this process had when it forked."""
    while not ended.wait(0.02):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        peaks += [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]


def clients(program: str) -> list[Client]:
    """Ours first; of the others those that are there."""
    found = [Client("longshore", program)]
    for name in ("skopeo", "crane"):
        path = os.environ.get(f"{name.upper()}_BIN") or shutil.which(name)
        if path:
            found.append(Client(name, path))
    return found


def version(client: Client) -> str:
    """The first line of what a program says of itself."""
    if client.name == "longshore":
        return "longshore, this source"
    argv = [client.program, "version" if client.name == "crane" else "--version"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return said if client.name in said else f"{client.name} {said}"


def one_round(client: Client, layout: Path, work: Path) -> tuple[Cost, Cost]:
    """A push into an empty registry, and a pull of that into an empty folder."""
    registry = Registry(work / "registry")
    pulled = work / "pulled"
    try:
        reference = f"{registry.host}/app:1"
        pushed = measure(client.push(layout, reference))
        return pushed, measure(client.pull(reference, pulled))
    finally:
        registry.stop()
        shutil.rmtree(pulled, ignore_errors=True)
        os.sync()


def requests_when_there(client: Client, layout: Path, work: Path) -> dict[str, int]:
    """How many requests a second push takes: under the same tag, and under another."""
    registry = Registry(work / "registry", quiet=False)
    counts = {}
    try:
        measure(client.push(layout, f"{registry.host}/app:1"))
        for what, tag in (("same tag", "1"), ("another tag", "2")):
            time.sleep(0.2)
            before = registry.requests()
            measure(client.push(layout, f"{registry.host}/app:{tag}"))
            time.sleep(0.2)
            counts[what] = registry.requests() - before
    finally:
        registry.stop()
    return counts


def table(what: str, costs: dict[str, list[Cost]]) -> list[str]:
    """Medians, with ours as parts of each other's."""
    lines = [f"| {what} | wall s (min-max) | CPU s | peak MB | our wall | our CPU |", "|---|---|---|---|---|---|"]
    ours = costs["longshore"]
    for name, measured in costs.items():
        walls = [cost.wall for cost in measured]
        wall, cpu = statistics.median(walls), statistics.median(cost.cpu for cost in measured)
        peak = max(cost.peak for cost in measured)
        row = f"| {name} | {wall:.2f} ({min(walls):.2f}-{max(walls):.2f}) | {cpu:.2f} | {peak:.0f} |"
        if name == "longshore":
            row += " | |"
        else:
            row += f" {statistics.median(cost.wall for cost in ours) / wall:.2f}x |"
            row += f" {statistics.median(cost.cpu for cost in ours) / cpu:.2f}x |"
        lines.append(row)
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="the example `transfer` of longshore-client")
    parser.add_argument("--runs", type=int, default=3, help="rounds with each client (default %(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="the size of the image (default %(default)s)")
    parser.add_argument("--layers", type=int, default=20, help="its layers (default %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="longshore-registry-client.") as folder:
        work = Path(folder)
        print("\n".join(machine.describe(work)), flush=True)
        layout = work / "image"
        size = arguments.mib * 2**20 // arguments.layers
        # In a process of its own: what this one holds when it starts another counts as that one's peak.
        subprocess.run([sys.executable, layers.__file__, str(layout), str(arguments.layers), str(size)], check=True)
        found = clients(arguments.program)
        print("; ".join(version(client) for client in found), flush=True)
        pushes: dict[str, list[Cost]] = {client.name: [] for client in found}
        pulls: dict[str, list[Cost]] = {client.name: [] for client in found}
        for turn in range(arguments.runs):
            # Each is the first as often as the others, as far as that goes.
            for client in found[turn % len(found) :] + found[: turn % len(found)]:
                pushed, pulled = one_round(client, layout, work)
                pushes[client.name].append(pushed)
                pulls[client.name].append(pulled)
                print(f"{client.name}: push {pushed}, pull {pulled}", file=sys.stderr, flush=True)
        print("\n".join(["", *table("push", pushes), "", *table("pull", pulls), ""]))
        for client in found:
            counts = requests_when_there(client, layout, work)
            print(f"{client.name}: requests when everything is there: {counts}")


if __name__ == "__main__":
    main()
