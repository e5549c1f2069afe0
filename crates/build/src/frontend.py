"""Builds a wheel of a project, in a container that has nothing else to lose (PEP 517).

One argument: a JSON object with `source` (a folder or a tar archive), `subdirectory`, `backend`, `backend_path`,
`requires` (what was installed for the build) and `out`, the folder that the wheel goes into. If the backend needs more
than was installed, the folder gets a list of that instead.
"""

import ctypes
import importlib
import json
import os
import shutil
import sys
import tarfile
import tempfile

given = json.loads(sys.argv[1])


def leave_the_network() -> None:
    """Goes on without the network, where the kernel lets a process leave it: what a build needs was fetched before."""
    new_user, new_network = 0x10000000, 0x40000000
    if ctypes.CDLL(None).unshare(new_user | new_network) == 0:
        for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


leave_the_network()
top = os.path.join(tempfile.mkdtemp(), "project")
if os.path.isdir(given["source"]):
    shutil.copytree(given["source"], top, symlinks=True)
else:
    with tarfile.open(given["source"]) as archive:
        archive.extractall(top, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    names = os.listdir(top)
    if len(names) == 1:
        top = os.path.join(top, names[0])
project = os.path.join(top, given["subdirectory"] or ".")
os.chdir(project)

sys.path[:] = [os.path.join(project, path) for path in given["backend_path"]] + [path for path in sys.path if path]
module, _, attributes = given["backend"].partition(":")
backend = importlib.import_module(module)
for name in filter(None, attributes.split(".")):
    backend = getattr(backend, name)

asked = getattr(backend, "get_requires_for_build_wheel", lambda: [])()
missing = [line for line in asked if line not in given["requires"]]
if missing:
    with open(os.path.join(given["out"], "requires.json"), "w") as file:
        json.dump(missing, file)
else:
    backend.build_wheel(given["out"])
