"""Settings: how the image of a pipeline or a step is built.

>>> DockerSettings(requirements=["pandas==2.2.3"], apt_packages=["git"])
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, cast

from longshore.component_settings import ComponentSettings, ResourceSettings
from longshore.errors import UsageError, did_you_mean

__all__ = ["DockerSettings", "ResourceSettings", "Settings", "settings_document", "settings_of"]

_LAZY = ("estargz",)


@dataclass(frozen=True)
class DockerSettings:
    """How the image is built. All fields are given by name; an unknown one is an error.

    Given to a pipeline it holds for all its steps; given to a step, the fields that are set there take the
    place of the pipeline's.
    """

    parent_image: str | None = None
    """The image to build on, as `registry/repository:tag` or by digest. `None`: longshore makes one with
    Python from Debian packages."""

    requirements: None | str | os.PathLike[str] | Sequence[str] = None
    """Python packages: a list of requirements (PEP 508), or the path of a requirements file, relative to the
    folder of the pipeline's code."""

    apt_packages: Sequence[str] = ()
    """Debian packages to add."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables, set while the image is built and when it runs."""

    user: str | None = None
    """The user that the container runs as: a name or a number, with `:group` or without."""

    target_repository: str | None = None
    """The repository in the registry. `None`: the pipeline's name."""

    image_tag: str | None = None
    """The image's tag. `None`: the UTC time of the build."""

    compile_bytecode: bool = True
    """Whether the image holds the packages' bytecode. Without it, every import compiles anew."""

    allow_secrets: Sequence[str] = ()
    """Files and folders of code, relative to the folder of the pipeline's code, that may hold what looks like a key,
    a token or a password. All others that do are refused: who can read an image can read them."""
    lazy: Literal["estargz"] | None = None
    """`"estargz"`: what runs the image can fetch its layers file by file while the container already runs, if it
    knows eStargz, as containerd's stargz-snapshotter does. `None`: layers are fetched whole."""

    build_strategy: Literal["local"] = "local"
    """Who builds the image: `local` is longshore itself, on this machine."""

    _given: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)

    def __new__(cls, *args: object, **given: object) -> DockerSettings:
        """Refuses what is not a field before the constructor does, which would only say that it is unexpected."""
        known = [f.name for f in fields(cls) if f.init]
        for name in given:
            if name not in known:
                raise UsageError(f"DockerSettings has no field `{name}`{did_you_mean(name, known)}")
        if args:
            raise UsageError('DockerSettings takes its fields by name, as in DockerSettings(requirements=["pandas"])')
        self = object.__new__(cls)
        object.__setattr__(self, "_given", frozenset(given))
        return self

    def __post_init__(self) -> None:
        for name in ("parent_image", "user", "target_repository", "image_tag"):
            value: object = getattr(self, name)
            if value is not None:
                _require_text(name, value)
        requirements = cast("object", self.requirements)
        if isinstance(requirements, os.PathLike):
            object.__setattr__(self, "requirements", os.fspath(requirements))
        elif isinstance(requirements, str):
            _require_text("requirements", requirements)
        elif requirements is not None:
            hint = "a list of requirements or the path of a requirements file"
            object.__setattr__(self, "requirements", _texts("requirements", requirements, hint))
        packages = _texts("apt_packages", self.apt_packages, "a list of Debian packages")
        object.__setattr__(self, "apt_packages", packages)
        paths = _texts("allow_secrets", self.allow_secrets, "a list of paths")
        object.__setattr__(self, "allow_secrets", paths)
        object.__setattr__(self, "environment", _environment(self.environment))
        if type(self.compile_bytecode) is not bool:
            raise _wrong("compile_bytecode", self.compile_bytecode, "True or False")
        lazy = cast("object", self.lazy)
        if lazy is not None and lazy not in _LAZY:
            raise UsageError(f"DockerSettings: `lazy` cannot be {_shown(lazy)}{did_you_mean(str(lazy), _LAZY)}")
        if cast("object", self.build_strategy) != "local":
            raise UsageError(
                f"DockerSettings: `build_strategy` cannot be {self.build_strategy!r}; "
                'this version of longshore builds with "local"'
            )


class Settings(dict[str, "DockerSettings | ComponentSettings | Mapping[str, object]"]):
    """What a `settings={…}` argument holds once it is checked: settings by their key."""


_KEYS = ("docker", "resources", "kubernetes", "kubeflow", "vertex", "sagemaker", "azureml", "airflow")


def settings_of(owner: str, given: object) -> Settings:
    """Checks a `settings={…}` argument. `owner` names whom it belongs to, as in "step `train`"."""
    settings = Settings()
    if given is None:
        return settings
    if not isinstance(given, Mapping):
        raise UsageError(
            f'{owner}: `settings` must be a dictionary such as {{"docker": DockerSettings(…)}}, not {_shown(given)}'
        )
    for key, value in given.items():
        if key not in _KEYS:
            raise UsageError(f"{owner}: no settings are called `{key}`{did_you_mean(str(key), _KEYS)}")
        settings[key] = _settings(owner, key, value)
    return settings


def _settings(owner: str, key: str, value: object) -> DockerSettings | ComponentSettings | Mapping[str, object]:
    kind = {"docker": DockerSettings, "resources": ResourceSettings}.get(key)
    if isinstance(value, Mapping):
        values = {str(name): item for name, item in value.items()}
        # The fields of an orchestrator's settings are known to the program, which checks them.
        return values if kind is None else kind(**values)
    if kind is not None and not isinstance(value, kind):
        raise UsageError(f"{owner}: settings[{key!r}] must be a {kind.__name__}, not {_shown(value)}")
    if kind is None and not (isinstance(value, ComponentSettings) and value.key == key):
        raise UsageError(f"{owner}: settings[{key!r}] must be the settings of {key}, not {_shown(value)}")
    return cast("DockerSettings | ComponentSettings", value)


def settings_document(settings: Settings, source_root: str) -> dict[str, object]:
    """Settings as the pipeline spec has them."""
    documents: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, DockerSettings):
            documents[key] = docker_document(value, source_root)
        elif isinstance(value, ComponentSettings):
            documents[key] = value.document()
        else:
            documents[key] = dict(value)
    return documents


def docker_document(settings: DockerSettings, source_root: str) -> dict[str, object]:
    """The fields that were set, as the pipeline spec has them. A requirements file becomes an absolute path."""
    document: dict[str, object] = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name in settings._given and value is not None:
            document[item.name] = value
    requirements = document.get("requirements")
    if isinstance(requirements, str):
        path = os.path.normpath(os.path.join(source_root, requirements))
        if not os.path.isfile(path):
            raise UsageError(
                f"DockerSettings: `requirements` names the file {path}, which does not exist; "
                'a requirement is given in a list, as in requirements=["pandas==2.2.3"]'
            )
        document["requirements"] = path
    return document


def _environment(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise _wrong("environment", given, "a dictionary of text to text")
    for name, value in given.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise UsageError(
                f"DockerSettings: `environment` has the name {name!r}; a name is text, not empty, without `=`"
            )
        if not isinstance(value, str) or "\0" in value:
            raise UsageError(f"DockerSettings: `environment[{name!r}]` must be text, not {_shown(value)}")
    return dict(given)


def _texts(name: str, given: object, wanted: str) -> list[str]:
    if isinstance(given, str):
        raise UsageError(f"DockerSettings: `{name}` must be {wanted}, not text; write {name}=[{given!r}]")
    if not isinstance(given, (list, tuple)):
        raise _wrong(name, given, wanted)
    for position, item in enumerate(given):
        _require_text(f"{name}[{position}]", item)
    return list(given)


def _require_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    if not value.strip():
        raise UsageError(f"DockerSettings: `{name}` is empty; leave it out or give it a value")


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"DockerSettings: `{name}` must be {wanted}, not {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) > 40:
        text = text[:37] + "…"
    return f"{text} ({type(value).__name__})"
