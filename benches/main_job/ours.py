"""longshore: builds straight into its embedded registry."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from builder import Builder, Took
from process import Server, answers, free_port, run, seconds
from recipe import Bytecode, Wheels

if TYPE_CHECKING:
    from pathlib import Path

    from project import Project
    from recipe import Recipe

IMAGE = "bench/image:1"


class Longshore:
    """The program, and a data folder that holds what it made for another project: the parent image, unpacked.

    That is where the peers are too, which have pulled and unpacked the parent before they are measured.
    """

    def __init__(self, program: Path, work: Path, tools: Path) -> None:
        work.mkdir()
        self._tools = tools
        self.program = program
        self.work = work
        self.version = run([str(program), "--version"]).split()[-1]
        self.name = f"longshore {self.version}"
        self.with_parent = work / "with-parent"
        code = work / "other-project"
        code.mkdir()
        (code / "main.py").write_text("import six\n")
        argv = self.build_command(str(code), "--requirement", "six==1.16.0")
        run(argv, self.environment(self.with_parent))
        self.parent = self._parent()

    def _parent(self) -> str:
        """The image made from Debian packages: its name in the registry, without a host."""
        listed = run([str(self.program), "image", "list", "--output", "json"], self.environment(self.with_parent))
        for image in json.loads(listed):
            _, _, path = image["repository"].partition("/")
            if path.startswith("longshore/"):
                return f"{path}:{image['tag']}"
        raise LookupError(f"no parent image in the registry: {listed}")

    def build_command(self, *argv: str) -> list[str]:
        """The command of a build."""
        return [str(self.program), "build", "--tag", IMAGE, "--output", "json", *argv]

    def environment(self, home: Path) -> dict[str, str]:
        """Everything is kept in `home`, also what uv keeps; uv is the one that the peers run."""
        path = f"{self._tools}:{os.environ['PATH']}"
        return {"LONGSHORE_HOME": str(home), "UV_CACHE_DIR": str(home / "uv"), "PATH": path}

    def serve(self, home: Path) -> tuple[Server, str]:
        """Serves the registry in `home`; returns the server and its host."""
        host = f"127.0.0.1:{free_port()}"
        argv = [str(self.program), "registry", "serve", "--listen", host]
        server = Server(argv, self.work / "serve.log", self.environment(home))
        server.wait_until(lambda: answers(f"http://{host}/v2/"))
        return server, host


class Ours(Builder):
    """longshore with a recipe."""

    def __init__(self, longshore: Longshore, recipe: Recipe) -> None:
        self.name = longshore.name
        self._longshore = longshore
        self._recipe = recipe
        self.home = longshore.work / "home"
        self._start: Path | None = None

    def prepare(self, project: Project) -> None:
        """Starts from a data folder with the parent only; for warm wheels, also with the downloads of a build.

        What it remembers of layers, and the layers, are not there.
        """
        if self._start is None:
            self._start = self._longshore.with_parent
            if self._recipe.wheels is Wheels.WARM:
                self._start = self._with_wheels(project)
        _copy(self._start, self.home)

    def _with_wheels(self, project: Project) -> Path:
        _copy(self._longshore.with_parent, self.home)
        self.build(project)
        start = self._longshore.work / "with-wheels"
        _copy(self._longshore.with_parent, start)
        for folder in ("cache/downloads", "uv"):
            _copy(self.home / folder, start / folder)
        return start

    def command(self, project: Project) -> list[str]:
        """The command that builds a project."""
        options = ["--no-bytecode"] if self._recipe.bytecode is Bytecode.WITHOUT else []
        return self._longshore.build_command(str(project.code), "--requirements", str(project.requirements), *options)

    def build(self, project: Project) -> Took:
        return Took(seconds(self.command(project), self._longshore.environment(self.home)))


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    run(["cp", "--archive", "--reflink=auto", str(source), str(target)])
