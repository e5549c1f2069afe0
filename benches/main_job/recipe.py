"""The Dockerfile with which the peers make the same image as longshore does."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Installer(enum.Enum):
    """What installs the requirements in a peer's build."""

    UV = "uv"
    PIP = "pip"


class Bytecode(enum.Enum):
    """Whether compiled bytecode is in the image."""

    WITHOUT = "without bytecode"
    WITH = "with bytecode"


class Wheels(enum.Enum):
    """Where the wheels are when a cold build starts."""

    REGISTRY = "wheels from the package registry"
    WARM = "wheels in each side's package cache"


@dataclass(frozen=True)
class Recipe:
    """How the requirements get into the image."""

    installer: Installer
    bytecode: Bytecode
    wheels: Wheels

    def dockerfile(self, parent: str, tools: str) -> str:
        """The Dockerfile on an image `parent`; uv, pip and the CA bundle are mounted from an image `tools`."""
        mounts = [
            f"--mount=type=bind,from={tools},source=/,target=/tools",
            "--mount=type=bind,source=requirements.txt,target=/requirements.txt",
        ]
        if self.wheels is Wheels.WARM:
            mounts.append("--mount=type=cache,target=/package-cache")
        return f"""\
FROM {parent}
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV VIRTUAL_ENV=/opt/venv PYTHONPATH=/app
RUN {" ".join(mounts)} export SSL_CERT_FILE=/tools/ca.crt PIP_CERT=/tools/ca.crt && \\
    /tools/uv venv --quiet --no-cache --system-site-packages --python /usr/bin/python3 /opt/venv && \\
    {self._install()}
WORKDIR /app
COPY code/ /app/
"""

    def _install(self) -> str:
        warm = self.wheels is Wheels.WARM
        if self.installer is Installer.UV:
            cache = "--cache-dir /package-cache/uv --link-mode copy" if warm else "--no-cache"
            compile_ = "--compile-bytecode" if self.bytecode is Bytecode.WITH else ""
            return f"/tools/uv pip install --quiet {cache} {compile_} -r /requirements.txt"
        cache = "--cache-dir /package-cache/pip" if warm else "--no-cache-dir"
        compile_ = "--compile" if self.bytecode is Bytecode.WITH else "--no-compile"
        return (
            "python3 /tools/pip.whl/pip --disable-pip-version-check --python /opt/venv/bin/python "
            f"install --quiet {cache} {compile_} -r /requirements.txt"
        )
