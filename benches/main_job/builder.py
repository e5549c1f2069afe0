"""What the benchmark asks of every builder, and what its peers have in common."""

from __future__ import annotations

import abc
import enum
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from project import Project
    from recipe import Recipe


@dataclass(frozen=True)
class Took:
    """The seconds of a build, and those of the push where that is a command of its own."""

    build: float
    push: float = 0.0

    @property
    def total(self) -> float:
        """From the start of the first command to the end of the last."""
        return self.build + self.push


class Builder(abc.ABC):
    """Something that makes an image of a project and puts it into a registry."""

    name: str

    @abc.abstractmethod
    def prepare(self, project: Project) -> None:
        """Makes the next build cold: the parent image is at hand, the wheels perhaps, nothing else."""

    @abc.abstractmethod
    def build(self, project: Project) -> Took:
        """Builds and pushes."""


class StepCache(enum.Enum):
    """Whether an engine may take a step's result from an earlier build."""

    IGNORED = enum.auto()
    USED = enum.auto()


class Engine(abc.ABC):
    """A program that builds Dockerfiles."""

    name: str
    version: str

    @abc.abstractmethod
    def pull(self, image: str) -> None:
        """Gets an image ahead of the builds that need it."""

    @abc.abstractmethod
    def build(self, folder: Path, image: str, cache: StepCache) -> Took:
        """Builds `folder` and pushes the result as `image`."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Ends what it started."""


@dataclass(frozen=True)
class Images:
    """The registry on loopback, and the images in it on which the peers' Dockerfiles stand."""

    host: str
    parent: str
    tools: str


class Peer(Builder):
    """An engine with a recipe."""

    _numbers = itertools.count()

    def __init__(self, engine: Engine, recipe: Recipe, images: Images) -> None:
        self.name = f"{engine.name}, {recipe.installer.value}"
        self._engine = engine
        self._recipe = recipe
        self._images = images
        self._cache = StepCache.IGNORED
        self._has_built = False
        self.image = ""

    def prepare(self, project: Project) -> None:
        """The next build makes every step again and pushes to a repository of its own.

        Layers carry the time of their making, so none is in the registry already. A first build, before all that are
        measured, unpacks the parent and fills the package cache if the recipe has one.
        """
        self.image = f"{self._images.host}/image/{next(self._numbers)}:latest"
        self._cache = StepCache.IGNORED
        if not self._has_built:
            self._has_built = True
            self.build(project)
            self.prepare(project)

    def build(self, project: Project) -> Took:
        dockerfile = self._recipe.dockerfile(self._images.parent, self._images.tools)
        (project.folder / "Dockerfile").write_text(dockerfile)
        took = self._engine.build(project.folder, self.image, self._cache)
        self._cache = StepCache.USED
        return took
