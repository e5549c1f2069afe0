"""A Kubernetes control plane on loopback: etcd, API server, controllers and scheduler, with a node that runs pods, a
registry, and an artifact store.

    python tests/cluster/control_plane.py COMMAND…

runs a command with `KUBECONFIG` and what `tests/cluster/run` reads in its environment, and ends everything when the
command ends. `COMPONENTS` names the program that tests/cluster/components is built to.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPONENTS = Path(os.environ.get("COMPONENTS", ROOT / "target/cluster/components"))
LONGSHORE = Path(os.environ.get("LONGSHORE_BIN", ROOT / "target/debug/longshore"))
# What the stand-in of S3 takes; it asks for some and looks at none.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class ControlPlane:
    """The components as processes. What they write is below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, list[str]] = {}
        (folder / "certificates").mkdir(parents=True)

    # Processes.

    def start(self, name: str, *command: str, **environment: str) -> None:
        """Starts a process, whose output goes to a file."""
        self._commands[name] = list(command)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
            )

    def stop(self, name: str) -> None:
        """Ends a process."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start_again(self, name: str) -> None:
        """Starts a process that was ended, as before."""
        self.start(name, *self._commands[name])

    def close(self) -> None:
        """Ends all processes, the last first."""
        for name in reversed(list(self._processes)):
            self.stop(name)
        # What was mounted below it was the node's.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "--lazy", mount])

    def until(self, name: str, answers: Any, seconds: float = 120) -> None:
        """Waits until a process answers."""
        end = time.monotonic() + seconds
        while True:
            try:
                if answers():
                    return
            except OSError:
                pass
            log = self.folder / f"{name}.log"
            assert self._processes[name].poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < end, log.read_text()[-4000:]
            time.sleep(0.1)

    # Who may ask.

    def certificate(self, name: str, subject: str) -> None:
        """Makes a certificate by the control plane's authority; the first is the authority's own."""
        folder = self.folder / "certificates"
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        signed = []
        if (folder / "ca.crt").exists():
            names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"
            signed = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-addext", names]
            signed += ["-addext", "basicConstraints=CA:FALSE"]
        command = ["openssl", "req", "-x509", *key, "-subj", subject, *signed, *files]
        subprocess.run(command, check=True, capture_output=True)

    def kubeconfig(self, user: str, groups: tuple[str, ...] = (), namespace: str = "default") -> Path:
        """A kubeconfig for a user of these groups."""
        folder = self.folder / "certificates"
        name = user.replace(":", "-")
        if not (folder / f"{name}.crt").exists():
            self.certificate(name, "".join(f"/O={group}" for group in groups) + f"/CN={user}")
        cluster = {"server": self.url, "certificate-authority": str(folder / "ca.crt")}
        who = {"client-certificate": str(folder / f"{name}.crt"), "client-key": str(folder / f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": who}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user, "namespace": namespace}}],
            "current-context": "tests",
        }
        file = self.folder / f"{name}-{namespace}.kubeconfig"
        file.write_text(json.dumps(config))  # JSON is YAML
        return file

    # The components.

    def open(self) -> None:
        """Starts a control plane with one node."""
        certificates = self.folder / "certificates"
        self.certificate("ca", "/CN=tests")
        self.certificate("server", "/CN=kube-apiserver")
        self.certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
        self.certificate("node", "/O=system:nodes/CN=system:node:node")
        self._accounts_key()
        self._etcd()
        self.start("kube-apiserver", *self._apiserver())
        self.until("kube-apiserver", self.is_ready)
        config = ["--leader-elect=false", "--secure-port=0", "--kubeconfig"]
        scheduler = self.kubeconfig("system:kube-scheduler")
        self.start("kube-scheduler", str(COMPONENTS), "kube-scheduler", *config, str(scheduler))
        controllers = self.kubeconfig("system:kube-controller-manager")
        keys = [
            "--use-service-account-credentials",
            f"--root-ca-file={certificates}/ca.crt",
            f"--service-account-private-key-file={certificates}/accounts.key",
        ]
        self.start(
            "kube-controller-manager", str(COMPONENTS), "kube-controller-manager", *keys, *config, str(controllers)
        )

    def _accounts_key(self) -> None:
        key = str(self.folder / "certificates/accounts.key")
        generate = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key]
        subprocess.run(generate, check=True, capture_output=True)
        public = ["openssl", "pkey", "-in", key, "-pubout", "-out", key.replace(".key", ".pub")]
        subprocess.run(public, check=True, capture_output=True)

    def _etcd(self) -> None:
        self.etcd = f"http://127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        options = [f"--data-dir={self.folder}/etcd", f"--listen-client-urls={self.etcd}", "--unsafe-no-fsync"]
        options += [f"--advertise-client-urls={self.etcd}", f"--listen-peer-urls={peers}", "--log-level=warn"]
        options += [f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}"]
        self.start("etcd", str(COMPONENTS), "etcd", *options)

    def _apiserver(self) -> list[str]:
        certificates = self.folder / "certificates"
        options = {
            "etcd-servers": self.etcd,
            "bind-address": "127.0.0.1",
            "secure-port": str(self.port),
            "tls-cert-file": f"{certificates}/server.crt",
            "tls-private-key-file": f"{certificates}/server.key",
            "client-ca-file": f"{certificates}/ca.crt",
            "kubelet-client-certificate": f"{certificates}/kubelet-client.crt",
            "kubelet-client-key": f"{certificates}/kubelet-client.key",
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": f"{certificates}/accounts.pub",
            "service-account-signing-key-file": f"{certificates}/accounts.key",
            "service-cluster-ip-range": "10.0.0.0/24",
            # Endpoints on loopback are not valid ones.
            "endpoint-reconciler-type": "none",
            "authorization-mode": "Node,RBAC",
            # The second as clusters have it where owners of objects are checked.
            "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
        }
        return [str(COMPONENTS), "kube-apiserver", *(f"--{name}={value}" for name, value in options.items())]

    def is_ready(self) -> bool:
        """Whether the API server answers."""
        tls = ssl.create_default_context(cafile=str(self.folder / "certificates/ca.crt"))
        with urllib.request.urlopen(f"{self.url}/readyz", context=tls, timeout=5) as answer:
            return bool(answer.status == 200)

    def node(self, **variables: str) -> None:
        """Starts a node, whose containers get these variables."""
        command = [sys.executable, str(HERE / "node"), "--server", self.url, "--folder", str(self.folder / "node")]
        command += ["--certificates", str(self.folder / "certificates")]
        for name, value in variables.items():
            command += ["--variable", f"{name}={value}"]
        self.start("node", *command)

    def registry(self, home: Path) -> str:
        """Starts longshore's own registry. What the names of its images begin with is returned."""
        port = free_port()
        self.start(
            "registry", str(LONGSHORE), "registry", "serve", f"--listen=127.0.0.1:{port}", LONGSHORE_HOME=str(home)
        )
        self.until("registry", lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/").status == 200)
        return f"127.0.0.1:{port}"

    def bucket(self) -> str:
        """Starts a stand-in of S3, with the bucket `runs`. Its URL is returned."""
        url = f"http://127.0.0.1:{free_port()}"
        self.start("s3", "moto_server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2])
        self.until("s3", lambda: urllib.request.urlopen(f"{url}/moto-api/").status == 200)
        urllib.request.urlopen(urllib.request.Request(f"{url}/runs", method="PUT"))
        return url


@contextmanager
def control_plane() -> Iterator[tuple[ControlPlane, dict[str, str]]]:
    """A control plane with all that runs need, and the environment that names it."""
    if os.geteuid() != 0:
        raise SystemExit("the node runs containers: start this as root")
    for program in ("skopeo", "umoci", "runc", "openssl", "moto_server"):
        if shutil.which(program) is None:
            raise SystemExit(f"missing: {program}")
    folder = Path(tempfile.mkdtemp(prefix="longshore-control-plane."))
    plane = ControlPlane(folder)
    try:
        plane.open()
        store, registry = plane.bucket(), plane.registry(folder / "registry")
        plane.node(**CREDENTIALS)
        (folder / "bin").mkdir()
        kubectl = folder / "bin/kubectl"
        kubectl.write_text(f'#!/bin/sh\nexec {COMPONENTS} kubectl "$@"\n')
        kubectl.chmod(0o755)
        yield (
            plane,
            {
                **CREDENTIALS,
                "PATH": f"{folder}/bin:{os.environ['PATH']}",
                "KUBECONFIG": str(plane.kubeconfig("admin", ("system:masters",))),
                "LONGSHORE_BIN": str(LONGSHORE),
                "LONGSHORE_CLUSTER_REGISTRY": f"{registry}/tests",
                "LONGSHORE_CLUSTER_STORE": "s3://runs",
                "LONGSHORE_CLUSTER_ENDPOINT": store,
                "LONGSHORE_CLUSTER_LOCAL": "true",
            },
        )
    finally:
        plane.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    with control_plane() as (_, environment):
        done = subprocess.run(sys.argv[1:], env={**os.environ, **environment})
    sys.exit(done.returncode)
