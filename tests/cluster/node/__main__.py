"""The node of the tests' control plane: a kubelet as far as Jobs need one, whose containers runc runs.

It is for root on Linux, and runs the pods of a cluster on this machine for real: images pulled with the pods' own
credentials, users, capabilities, volumes, limits of memory, deadlines and graceful ends as Kubernetes has them.
Containers are in the network of the machine, there are no init containers and no restarts, and seccomp profiles are not
applied.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from api import Api
from kubelet import Kubelet

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--server", required=True, help="the URL of the API server")
parser.add_argument("--name", default="node", help="the name of the node")
parser.add_argument("--certificates", required=True, type=Path, help="ca.crt, node.crt and node.key")
parser.add_argument("--folder", required=True, type=Path, help="where images and containers are kept")
parser.add_argument("--variable", action="append", default=[], help="NAME=VALUE that every container gets")
arguments = parser.parse_args()

files = [str(arguments.certificates / name) for name in ("ca.crt", "node.crt", "node.key")]
variables = dict(text.split("=", 1) for text in arguments.variable)
stop = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stop.set())
arguments.folder.mkdir(parents=True, exist_ok=True)
kubelet = Kubelet(Api(arguments.server, *files), arguments.name, arguments.folder.resolve(), variables)
kubelet.register(*files)
threading.Thread(target=kubelet.run, daemon=True).start()
stop.wait()
kubelet.close()
