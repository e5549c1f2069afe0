# What an image's Python is, and what it has installed: one line of JSON on standard output.

from __future__ import annotations

import json
import os
import site
import sys

METADATA = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}
# Name and version stand at the beginning.
HEAD = 8192
LONGEST = 1 << 20


def text(path: str, most: int) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(most)
    except OSError:
        return None


def installed(folder: str) -> list[dict[str, str | None]]:
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path, end = os.path.join(folder, name), os.path.splitext(name)[1]
        if end not in METADATA:
            continue
        is_file = os.path.isfile(path)
        metadata = text(path if is_file else os.path.join(path, METADATA[end]), HEAD)
        points = None if is_file else text(os.path.join(path, "entry_points.txt"), LONGEST)
        if metadata is not None:
            found.append({"folder": folder.lstrip("/"), "entry": name, "metadata": metadata, "entry_points": points})
    return found


version = ".".join(map(str, sys.version_info[:3]))
short = ".".join(map(str, sys.version_info[:2]))
# Of an environment in the image, it is the base that counts: the environment that is put into it is one of that too.
folders = [f"/opt/venv/lib/python{short}/site-packages", *site.getsitepackages([sys.base_prefix])]
libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
answer = {
    "version": version,
    "executable": os.path.realpath(sys.executable),
    "libc": libc,
    "folders": [folder.lstrip("/") for folder in folders],
    "installed": [each for folder in folders for each in installed(folder)],
}
sys.stdout.write(json.dumps(answer) + "\n")
