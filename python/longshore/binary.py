"""Where the program `longshore` is, which is installed with this package."""

from __future__ import annotations

import os
import sys
import sysconfig
from typing import TYPE_CHECKING

from longshore.errors import BinaryNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT_NAME = "LONGSHORE_BIN"
_FILE = "longshore" + (sysconfig.get_config_var("EXE") or "")


def find_binary() -> str:
    """The program's path. Raises `BinaryNotFound`."""
    chosen = os.environ.get(ENVIRONMENT_NAME)
    if chosen:
        if not _is_program(chosen):
            raise BinaryNotFound(
                f"{ENVIRONMENT_NAME} is set to {chosen}, which is not a program; correct it or unset it"
            )
        return chosen
    searched = []
    for folder in _folders():
        path = os.path.join(folder, _FILE)
        if _is_program(path):
            return path
        if folder not in searched:
            searched.append(folder)
    raise BinaryNotFound(
        "the program `longshore`, which builds the image and runs the pipeline, is not installed; "
        "`pip install longshore` puts it beside this Python. Searched: " + ", ".join(searched)
    )


def _folders() -> Iterator[str]:
    # The one of the environment that runs: a virtual environment, or the system's.
    yield sysconfig.get_path("scripts")
    # The interpreter that the environment was made from: `--system-site-packages`.
    yield sysconfig.get_path("scripts", vars={"base": sys.base_prefix})
    package = os.path.dirname(os.path.abspath(__file__))
    site_packages = os.path.dirname(package)
    # `pip install --target DIR` puts programs into DIR/bin.
    yield os.path.join(site_packages, "bin")
    # `pip install --prefix DIR`: the package is in DIR/lib/python3.x/site-packages, programs in DIR/bin.
    prefix = os.path.dirname(os.path.dirname(os.path.dirname(site_packages)))
    yield os.path.join(prefix, os.path.basename(sysconfig.get_path("scripts")))
    # `pip install --user`.
    if sys.version_info >= (3, 10):
        scheme = sysconfig.get_preferred_scheme("user")
    else:
        scheme = f"{os.name}_user"
    yield sysconfig.get_path("scripts", scheme)
    yield from filter(None, os.environ.get("PATH", "").split(os.pathsep))


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
