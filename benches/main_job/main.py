"""Measures longshore and its peers at the main job: code and requirements become an image in a registry."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import footprint
import machine
from buildah import Buildah
from builder import Builder, Engine, Images, Peer
from buildkit import BuildKit, Compression
from content import Content
from crane import Crane
from debian_root import DebianRoot
from docker import Docker
from ours import IMAGE, Longshore, Ours
from process import run
from project import Project
from recipe import Bytecode, Installer, Recipe, Wheels
from registry import Registry
from samples import Case, Samples, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

# Builds that take a fraction of a second are repeated this often for each cold one.
REPEATS_OF_SMALL = 5


class Bench:
    """Everything that is started for the measurements."""

    def __init__(self, program: Path, peers: Path, work: Path) -> None:
        self.work = work
        self._root = DebianRoot(peers / "sid", work)
        self._registry = Registry(self._root, work / "registry")
        self.crane = Crane(peers / "bin")
        self.longshore = Longshore(program, work / "longshore", peers / "tools")
        self.images = self._put_images(peers)
        self.parent_layers = len(self.crane.layer_sizes(self.images.parent))
        self.engines: list[Engine] = []

    def _put_images(self, peers: Path) -> Images:
        """Copies the parent that longshore made into the peers' registry, and what their recipes mount."""
        host = self._registry.host
        images = Images(host, f"{host}/parent:1", f"{host}/tools:1")
        server, ours = self.longshore.serve(self.longshore.with_parent)
        try:
            self.crane.copy(f"{ours}/{self.longshore.parent}", images.parent)
        finally:
            server.stop()
        tar = self.work / "tools.tar"
        run(["tar", "-C", str(peers / "tools"), "-cf", str(tar), "uv", "pip.whl", "ca.crt"])
        self.crane.put_alone(images.tools, tar)
        return images

    def start_engines(self, peers: Path, names: list[str]) -> None:
        """Starts the engines and lets them get the parent."""
        makers: dict[str, Callable[[], Engine]] = {
            "buildkit": lambda: BuildKit(peers / "bin", self.work / "buildkit", self.images.host, Compression.GZIP),
            "buildkit-zstd": lambda: BuildKit(peers / "bin", self.work / "zstd", self.images.host, Compression.ZSTD),
            "docker": lambda: Docker(self._root.command, self.work / "docker"),
            "docker-of-system": lambda: Docker(_of_system, self.work / "docker-of-system"),
            "buildah": lambda: Buildah(self._root, self.work / "buildah"),
        }
        for name in names:
            engine = makers[name]()
            self.engines.append(engine)
            for image in (self.images.parent, self.images.tools):
                engine.pull(image)

    def stop(self) -> None:
        """Ends everything."""
        for engine in self.engines:
            engine.stop()
        self._registry.stop()
        self._root.stop()


def _of_system(*argv: str) -> list[str]:
    # The daemon's mounts go with it.
    apart = ["unshare", "--mount", "--propagation", "private"]
    return [*apart, *argv] if argv[0].endswith("dockerd") else list(argv)


class Comparison:
    """All builders with wheels and bytecode alike."""

    def __init__(self, bench: Bench, wheels: Wheels, bytecode: Bytecode) -> None:
        self.bench = bench
        self.wheels = wheels
        self.bytecode = bytecode
        self.samples = Samples()
        self.ours = Ours(bench.longshore, Recipe(Installer.UV, bytecode, wheels))
        self.peers = [
            Peer(engine, Recipe(installer, bytecode, wheels), bench.images)
            for engine in bench.engines
            # pip without bytecode is never faster than uv without it.
            for installer in (Installer if bytecode is Bytecode.WITH else [Installer.UV])
        ]

    def run(self, runs: int) -> None:
        """Measures in turns, so that a busy moment of the machine hits every builder."""
        print(f"## Wheels {self.wheels.value}, {self.bytecode.value}\n", flush=True)
        builders: list[Builder] = [self.ours, *self.peers]
        folder = Path(tempfile.mkdtemp(dir=self.bench.work))
        projects = {builder.name: Project(folder / str(number)) for number, builder in enumerate(builders)}
        for _ in range(runs):
            for builder in builders:
                self._measure(builder, projects[builder.name])
            self._measure_crane(projects[self.peers[0].name])
        print_table(self.samples.table())
        self._print_content()

    def _measure(self, builder: Builder, project: Project) -> None:
        def build(case: Case) -> None:
            self.samples.add(builder.name, case, builder.build(project).total)

        project.pin_requests("2.32.3")
        builder.prepare(project)
        build(Case.COLD)
        for _ in range(REPEATS_OF_SMALL):
            build(Case.NOTHING)
        for _ in range(REPEATS_OF_SMALL):
            project.edit_a_line()
            build(Case.LINE)
        project.pin_requests("2.32.4")
        build(Case.PIN)

    def _measure_crane(self, project: Project) -> None:
        image = self.peers[0].image
        self.bench.crane.append_code(project, image, f"{image}-crane", self.bench.work / "code.tar")
        for _ in range(REPEATS_OF_SMALL):
            project.edit_a_line()
            took = self.bench.crane.append_code(project, image, f"{image}-crane", self.bench.work / "code.tar")
            self.samples.add("crane append", Case.LINE, took)

    def _print_content(self) -> None:
        crane, layers = self.bench.crane, self.bench.parent_layers
        server, host = self.bench.longshore.serve(self.ours.home)
        try:
            ours = Content.of(crane, f"{host}/{IMAGE}", layers)
        finally:
            server.stop()
        rows = [["on the parent", "MB compressed", "files", "bytecode files", "only ours", "only theirs"]]
        for name, content in [
            (self.ours.name, ours),
            *((peer.name, Content.of(crane, peer.image, layers)) for peer in self.peers),
        ]:
            rows.append(
                [
                    name,
                    f"{content.compressed / 1e6:.1f}",
                    str(len(content.files)),
                    str(len(content.bytecode)),
                    str(len(ours.files - content.files)),
                    str(len(content.files - ours.files)),
                ]
            )
        print_table(rows)


def print_footprint(bench: Bench, comparison: Comparison) -> None:
    """Memory and start of longshore."""
    project = Project(Path(tempfile.mkdtemp(dir=bench.work)) / "project")
    rows = [["memory in MB", "largest process", "all together"]]
    comparison.ours.prepare(project)
    for title in ("cold build", "the same again"):
        used = footprint.memory(comparison.ours.command(project), bench.longshore.environment(comparison.ours.home))
        rows.append([title, f"{used.largest_process:.0f}", f"{used.together:.0f}"])
    print_table(rows)
    median, least = footprint.start(bench.longshore.program)
    print(f"longshore --version: {median * 1e3:.1f} ms (least {least * 1e3:.1f})\n")


def main() -> None:
    """Parses the command line, measures, prints."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    peers = os.environ.get("LONGSHORE_BENCH_PEERS") or Path(cache) / "longshore-bench"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the longshore that is measured")
    parser.add_argument("--peers", type=Path, default=peers, help="what the script `peers` fetched")
    parser.add_argument("--runs", type=int, default=3, help="cold builds of each builder (default: 3)")
    parser.add_argument("--engines", default="buildkit,docker,buildah", help="which peers (default: %(default)s)")
    parser.add_argument("--wheels", choices=[each.name.lower() for each in Wheels], help="only this state of wheels")
    parser.add_argument("--bytecode", choices=[each.name.lower() for each in Bytecode], help="only this")
    chosen = parser.parse_args()

    # Also when it is ended from outside, what it started is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    work = Path(tempfile.mkdtemp(prefix="longshore-bench-", dir="/var/tmp"))
    bench = Bench(chosen.program.resolve(), Path(chosen.peers), work)
    try:
        bench.start_engines(Path(chosen.peers), chosen.engines.split(","))
        for sentence in machine.describe(work):
            print(sentence)
        versions = [f"{engine.name} ({engine.version})" for engine in bench.engines]
        print(f"longshore {bench.longshore.version}; {', '.join(versions)}; crane {bench.crane.version}\n", flush=True)
        comparisons = []
        for wheels in Wheels:
            for bytecode in Bytecode:
                if chosen.wheels in (None, wheels.name.lower()) and chosen.bytecode in (None, bytecode.name.lower()):
                    comparisons.append(Comparison(bench, wheels, bytecode))
                    comparisons[-1].run(chosen.runs)
        print_footprint(bench, comparisons[-1])
    finally:
        bench.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
