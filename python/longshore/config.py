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

_WORDS = {
    "compression": ("gzip", "zstd"),
    "lazy": ("estargz",),
}
_PLATFORMS = ("linux/amd64", "linux/arm64")
_PATHS = ("requirements", "lock", "pyproject")
_MOST_LAYERS = 65535


@dataclass(frozen=True)
class DockerSettings:
    """How the image is built. All fields are given by name; an unknown one is an error.

    Given to a pipeline it holds for all its steps; given to a step, the fields that are set there take the
    place of the pipeline's. Dictionaries are put together instead: the step's entries win name by name.
    A field that is `None` is one that is not set.
    """

    parent_image: str | None = None
    """The image to build on, as `registry/repository:tag` or by digest. `None`: longshore makes one with
    Python from Debian packages."""

    apt_packages: Sequence[str] = ()
    """Debian packages to add."""

    skip_build: bool = False
    """Whether the parent image is used as it is: its tag is resolved to a digest, and nothing is built. It must
    have all that the steps need, their code and this version of longshore included."""

    requirements: None | str | os.PathLike[str] | Sequence[str] = None
    """Python packages: a list of requirements (PEP 508), or the path of a requirements file, relative to the
    folder of the pipeline's code."""

    lock: None | str | os.PathLike[str] = None
    """A lock file, relative to the folder of the pipeline's code, whose packages are installed exactly as it has
    them: `uv.lock`, `pylock.toml` or `pylock.NAME.toml`, `poetry.lock`, `Pipfile.lock`."""

    pyproject: None | str | os.PathLike[str] = None
    """A `pyproject.toml`, relative to the folder of the pipeline's code, whose dependencies are installed."""

    extras: Sequence[str] = ()
    """Extras of the project of `pyproject` or `lock` that are installed too."""

    groups: Sequence[str] = ()
    """Dependency groups (PEP 735) of the project of `pyproject` or `lock` that are installed too."""

    replicate_local_python_environment: bool = False
    """Whether the packages of the Python that the pipeline is started with are installed, in the same versions."""

    ignore_parent_packages: bool = False
    """Whether packages are installed although the parent image has them in the version that is wanted."""

    indexes: Mapping[str, str] = field(default_factory=dict)
    """Package indexes by name: URLs without credentials. The one named `default` takes the place of the public one."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    """Secrets of the build by name: where each is on this machine, as `env:NAME` or `file:PATH`. The secret that
    has the name of an index is its `user:password`, or its token. None gets into the image, its cache key or a log."""

    allow_secrets: Sequence[str] = ()
    """Files and folders of code, relative to the folder of the pipeline's code, that may hold what looks like a key,
    a token or a password. All others that do are refused: who can read an image can read them."""

    compile_bytecode: bool = True
    """Whether the image holds the packages' bytecode. Without it, every import compiles anew."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables, set while the image is built and when it runs."""

    runtime_environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the containers alone, set after all else: nothing of the build sees them."""

    user: str | None = None
    """The user that the container runs as: a name or a number, with `:group` or without."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the image."""

    target_repository: str | None = None
    """The repository in the registry. `None`: the pipeline's name."""

    image_tag: str | None = None
    """The image's tag. `None`: the UTC time of the build."""

    platform: None | str | Sequence[str] = None
    """The platforms that the image is for, `"linux/amd64"` or `"linux/arm64"` or a list of both. `None`: that of
    this machine."""

    layers: int | None = None
    """The most layers that the image may have, those of its parent included. `None`: as many as caching is best
    with."""

    compression: Literal["gzip", "zstd"] = "gzip"
    """How layers are compressed."""

    lazy: Literal["estargz"] | None = None
    """`"estargz"`: what runs the image can fetch its layers file by file while the container already runs, if it
    knows eStargz, as containerd's stargz-snapshotter does. `None`: layers are fetched whole."""

    prevent_build_reuse: bool = False
    """Whether the image is built anew although there is one of the same inputs."""

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
        for name, wanted in (
            ("apt_packages", "a list of Debian packages"),
            ("extras", "a list of names"),
            ("groups", "a list of names"),
            ("allow_secrets", "a list of paths"),
        ):
            object.__setattr__(self, name, _texts(name, getattr(self, name), wanted))
        for name in (
            "skip_build",
            "replicate_local_python_environment",
            "ignore_parent_packages",
            "compile_bytecode",
            "prevent_build_reuse",
        ):
            if type(getattr(self, name)) is not bool:
                raise _wrong(name, getattr(self, name), "True or False")
        for name in ("environment", "runtime_environment", "labels", "indexes", "secrets"):
            object.__setattr__(self, name, _by_name(name, getattr(self, name)))
        for name in self.indexes:
            _require_index(name, self.indexes[name])
        for name in self.secrets:
            _require_source(name, self.secrets[name])
        for name in _PATHS:
            object.__setattr__(self, name, _path(name, getattr(self, name)))
        object.__setattr__(self, "platform", _platforms(self.platform))
        layers = cast("object", self.layers)
        if layers is not None and (type(layers) is not int or not 1 <= layers <= _MOST_LAYERS):
            raise _wrong("layers", layers, f"a number from 1 to {_MOST_LAYERS}")
        for name, words in _WORDS.items():
            word: object = getattr(self, name)
            if word not in words and not (word is None and name == "lazy"):
                raise UsageError(f"DockerSettings: `{name}` cannot be {_shown(word)}{did_you_mean(str(word), words)}")
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
    """The fields that were set, as the pipeline spec has them. Paths of files on this machine become absolute."""
    document: dict[str, object] = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.name in settings._given and value is not None:
            document[item.name] = value
    for name in _PATHS:
        given = document.get(name)
        if not isinstance(given, str):
            continue
        path = os.path.normpath(os.path.join(source_root, given))
        if not os.path.isfile(path):
            hint = '; a requirement is given in a list, as in requirements=["pandas==2.2.3"]'
            raise UsageError(
                f"DockerSettings: `{name}` names the file {path}, which does not exist"
                f"{hint if name == 'requirements' else ''}"
            )
        document[name] = path
    if "secrets" in document:
        document["secrets"] = {name: _absolute(source, source_root) for name, source in settings.secrets.items()}
    return document


def _absolute(source: str, source_root: str) -> str:
    kind, _, place = source.partition(":")
    return f"file:{os.path.normpath(os.path.join(source_root, place))}" if kind == "file" else source


def _by_name(field_name: str, given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        # What is in the place of secrets may be one.
        shown = type(given).__name__ if field_name == "secrets" else _shown(given)
        raise UsageError(f"DockerSettings: `{field_name}` must be a dictionary of text to text, not {shown}")
    variables = field_name.endswith("environment")
    for name, value in given.items():
        if not isinstance(name, str) or not name or "\0" in name or (variables and "=" in name):
            without = ", without `=`" if variables else ""
            raise UsageError(
                f"DockerSettings: `{field_name}` has the name {name!r}; a name is text, not empty{without}"
            )
        if not isinstance(value, str) or "\0" in value:
            shown = type(value).__name__ if field_name == "secrets" else _shown(value)
            raise UsageError(f"DockerSettings: `{field_name}[{name!r}]` must be text, not {shown}")
    return dict(given)


def _require_index(name: str, value: str) -> None:
    from urllib.parse import urlsplit

    try:
        url = urlsplit(value)
        host = url.hostname
    except ValueError:
        url, host = urlsplit(""), None
    if url.scheme not in ("http", "https") or not host:
        # It is not repeated: it may hold a password.
        raise UsageError(
            f"DockerSettings: `indexes[{name!r}]` must be an http or https URL such as "
            "https://packages.example.com/simple"
        )
    if "@" in url.netloc:
        raise UsageError(
            f"DockerSettings: `indexes[{name!r}]` has credentials in its URL, which everyone who sees the settings "
            f'would see; name them in `secrets`, as in secrets={{{name!r}: "env:VARIABLE"}}'
        )


def _require_source(name: str, value: str) -> None:
    kind, _, place = value.partition(":")
    variable = kind == "env" and place.isidentifier() and place.isascii()
    if not variable and not (kind == "file" and place):
        # It is not repeated: it may be the secret.
        raise UsageError(
            f"DockerSettings: `secrets[{name!r}]` must say where the secret is, as env:NAME or file:PATH; "
            "the secret itself is not written here"
        )


def _path(name: str, given: object) -> None | str | list[str]:
    if given is None:
        return None
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, str):
        _require_text(name, given)
        return given
    if name == "requirements":
        return _texts(name, given, "a list of requirements or the path of a requirements file")
    raise _wrong(name, given, "the path of a file")


def _platforms(given: object) -> None | str | list[str]:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else _texts("platform", given, 'a platform such as "linux/amd64"')
    for name in names:
        if name not in _PLATFORMS:
            raise UsageError(f"DockerSettings: `platform` cannot be {name!r}{did_you_mean(name, _PLATFORMS)}")
    if not names or len(set(names)) < len(names):
        what = "has one twice" if names else "is an empty list"
        raise UsageError(f"DockerSettings: `platform` {what}; name each platform that the image is for once")
    return given if isinstance(given, str) else names


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
