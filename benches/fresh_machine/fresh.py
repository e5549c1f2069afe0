"""Measures longshore and BuildKit on machines with an empty disk: the registry has everything, a line or a pin changed."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

import machine
from buildkit import BuildKit, Compression
from crane import Crane
from process import run, seconds
from project import Project
from recipe import Bytecode, Installer, Recipe, Wheels
from registry import Registry
from relay import Relay
from samples import print_table

PROJECTS = {
    "pandas + scikit-learn": ["pandas==2.2.3", "scikit-learn==1.5.2", "requests==2.32.3"],
    "a large wheel": ["nvidia-cublas-cu12==12.6.4.1", "requests==2.32.3"],
}


class Measured:
    """Seconds and bytes by builder and case."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[tuple[float, int]]]] = {}

    def add(self, builder: str, case: str, took: float, moved: int) -> None:
        """One more measurement."""
        self._rows.setdefault(builder, {}).setdefault(case, []).append((took, moved))

    def table(self) -> list[list[str]]:
        """Medians, and how many times the first builder's."""
        cases = list(dict.fromkeys(case for cases in self._rows.values() for case in cases))
        first = next(iter(self._rows.values()))
        rows = [["seconds, bytes moved", *cases]]
        for name, measured in self._rows.items():
            row = [name]
            for case in cases:
                if case not in measured:
                    row.append("-")
                    continue
                took = statistics.median(took for took, _ in measured[case])
                moved = statistics.median(moved for _, moved in measured[case])
                own = statistics.median(took for took, _ in first[case])
                ratio = "" if measured is first else f" ({took / own:.1f}x)"
                row.append(f"{took:.3f}{ratio}, {moved / 1000:.1f} kB")
            rows.append(row)
        return rows


class ThisSystem:
    """Programs that are installed here."""

    def command(self, *argv: str) -> list[str]:
        """The command itself."""
        return list(argv)


class Bench:
    """A registry behind a relay, and what builds into it."""

    def __init__(self, program: Path, peers: Path, work: Path) -> None:
        self.program, self.peers, self.work = program, peers, work
        self._registry = Registry(ThisSystem(), work / "registry")
        self.relay = Relay(self._registry.host)
        self.crane = Crane(peers / "bin")
        self._count = itertools.count()
        self.parent = f"{self.relay.host}/parent:1"
        self.tools = f"{self.relay.host}/tools:1"
        self._put_images()

    def _put_images(self) -> None:
        """The parent, made from Debian packages by longshore, and what the peer's recipe mounts."""
        code = self.work / "base"
        code.mkdir()
        (code / "base.py").write_text("BASE = 1\n")
        home = self.home("base")
        self.longshore(home, code, "base:1")
        listed = json.loads(run([str(self.program), "image", "list", "-o", "json"], {"LONGSHORE_HOME": str(home)}))
        [made] = [image for image in listed if "/longshore/debian" in image["repository"]]
        name = f"{made['repository']}:{made['tag']}"
        run([str(self.program), "image", "copy", name, self.parent], {"LONGSHORE_HOME": str(home)})
        tar = self.work / "tools.tar"
        run(["tar", "-C", str(self.peers / "tools"), "-cf", str(tar), "uv", "pip.whl", "ca.crt"])
        self.crane.put_alone(self.tools, tar)

    def home(self, name: str) -> Path:
        """An empty disk."""
        return self.work / f"{name}-{next(self._count)}"

    def longshore(self, home: Path, code: Path, image: str, *options: str) -> float:
        """Builds and pushes with longshore."""
        path = f"{self.peers / 'tools'}:{os.environ['PATH']}"
        environment = {"LONGSHORE_HOME": str(home), "UV_CACHE_DIR": str(home / "uv"), "PATH": path}
        build = [str(self.program), "build", str(code), "--tag", f"{self.relay.host}/{image}", "-o", "json", *options]
        return seconds(build, environment)

    def buildkit(self, project: Project, image: str, recipe: Recipe) -> tuple[float, int]:
        """Builds and pushes with a new BuildKit, whose cache is in the registry; the daemon's start is not counted."""
        engine = BuildKit(self.peers / "bin", self.home("buildkit"), self.relay.host, Compression.GZIP)
        try:
            dockerfile = recipe.dockerfile(self.parent, self.tools)
            # With `--link` the code's layer does not depend on those below it, which then need not be pulled.
            dockerfile = dockerfile.replace("COPY code/", "COPY --link code/")
            (project.folder / "Dockerfile").write_text(dockerfile)
            name = f"{self.relay.host}/{image}"
            cache = f"type=registry,ref={name.rsplit(':', 1)[0]}:cache"
            self.relay.taken()
            took = seconds(
                [
                    *engine.client, "build", "--progress=quiet", "--frontend=dockerfile.v0",
                    "--local", f"context={project.folder}", "--local", f"dockerfile={project.folder}",
                    "--export-cache", f"{cache},mode=max", "--import-cache", cache,
                    "--output", f"type=image,name={name},push=true",
                ]
            )  # fmt: skip
            return took, self.relay.taken()
        finally:
            engine.stop()

    def compare(self, title: str, requirements: list[str], runs: int, bytecode: Bytecode) -> None:
        """Measures both, in turns."""
        measured = Measured()
        slug = title.replace(" ", "-").replace("+", "and")
        recipe = Recipe(Installer.UV, bytecode, Wheels.REGISTRY)
        ours, theirs = (Project(self.work / f"{slug}-{side}") for side in ("ours", "theirs"))
        options = ["--parent", self.parent] + (["--no-bytecode"] if bytecode is Bytecode.WITHOUT else [])

        def build_ours(project: Project, image: str) -> tuple[float, int]:
            self.relay.taken()
            home = self.home("longshore")
            took = self.longshore(home, project.code, image, "--requirements", str(project.requirements), *options)
            moved = self.relay.taken()
            shutil.rmtree(home, ignore_errors=True)
            return took, moved

        for project, build, name in (
            (ours, build_ours, "longshore"),
            (theirs, lambda project, image: self.buildkit(project, image, recipe), "BuildKit, registry cache, uv"),
        ):
            project.requirements.write_text("\n".join([*requirements, ""]))
            build(project, f"{name[:4].lower()}-{slug}:first")
            for _ in range(runs):
                measured.add(name, "nothing changed", *build(project, f"{name[:4].lower()}-{slug}:same"))
            for number in range(runs):
                project.edit_a_line()
                image = f"{name[:4].lower()}-{slug}:line-{number}"
                measured.add(name, "one code line changed", *build(project, image))
            changed = [pin.replace("requests==2.32.3", "requests==2.32.4") for pin in requirements]
            project.requirements.write_text("\n".join([*changed, ""]))
            measured.add(name, "one pin changed", *build(project, f"{name[:4].lower()}-{slug}:pin"))
        print(f"## {title}, {bytecode.value}\n", flush=True)
        print_table(measured.table())

    def stop(self) -> None:
        """Ends everything."""
        self.relay.stop()
        self._registry.stop()


def main() -> None:
    """Parses the command line, measures, prints."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    peers = os.environ.get("LONGSHORE_BENCH_PEERS") or Path(cache) / "longshore-bench"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="the longshore that is measured")
    parser.add_argument("--peers", type=Path, default=peers, help="what main_job/peers fetched")
    parser.add_argument("--runs", type=int, default=3, help="builds of each kind (default: 3)")
    parser.add_argument("--project", choices=list(PROJECTS), help="only this project")
    parser.add_argument("--bytecode", choices=[each.name.lower() for each in Bytecode], default="without")
    chosen = parser.parse_args()
    # Also when it is ended from outside, what it started is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    work = Path(tempfile.mkdtemp(prefix="longshore-bench-", dir="/var/tmp"))
    bench = Bench(chosen.program.resolve(), Path(chosen.peers), work)
    try:
        for sentence in machine.describe(work):
            print(sentence)
        for title, requirements in PROJECTS.items():
            if chosen.project in (None, title):
                bench.compare(title, requirements, chosen.runs, Bytecode[chosen.bytecode.upper()])
    finally:
        bench.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
