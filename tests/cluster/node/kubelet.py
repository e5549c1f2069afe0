"""A node: registers itself, says that it is ready, and sees to the pods that are bound to it."""

from __future__ import annotations

import http.client
import os
import platform
import sys
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable

from api import Api, ApiError
from container import forget_groups
from images import Images
from logs import serve
from pod import Pod, now

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]

BEAT = 10.0


class Kubelet:
    """The node."""

    def __init__(self, api: Api, name: str, folder: Path, variables: dict[str, str]) -> None:
        self.api, self.name, self.folder = api, name, folder
        self.images = Images(folder / "images")
        # In the network of this machine, the API server has no other address than the one that is used here.
        address = {"HOST": api.host, "PORT": str(api.port), "PORT_HTTPS": str(api.port)}
        self.variables = {**{f"KUBERNETES_SERVICE_{key}": value for key, value in address.items()}, **variables}
        self.pods: dict[str, Pod] = {}
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Writes to the node's own log."""
        print(f"{now()} {text}", file=sys.stderr, flush=True)

    def forget(self, uid: str) -> None:
        """A pod is gone."""
        with self._lock:
            self.pods.pop(uid, None)

    def close(self) -> None:
        """Ends all containers."""
        with self._lock:
            containers = [container for pod in self.pods.values() for container in pod.containers.values()]
        for container in containers:
            container.remove()
        forget_groups()

    def find(self, namespace: str, name: str, container: str) -> tuple[Path, Callable[[], bool]] | tuple[int, str]:
        """The log of a container."""
        with self._lock:
            pods = [pod for pod in self.pods.values() if (pod.namespace, pod.name) == (namespace, name)]
        if not pods:
            return 404, f'pod "{name}" not found'
        pod = pods[-1]
        found = pod.containers.get(container)
        if found is None:
            waiting = pod.states.get(container, {}).get("waiting", {})
            reason = waiting.get("reason", "ContainerCreating")
            return 400, f'container "{container}" in pod "{name}" is waiting to start: {reason}'
        return found.log.file, lambda: "running" in pod.states[container]

    def register(self, authority: str, certificate: str, key: str) -> None:
        """Makes the Node, and keeps it ready."""
        port = serve(self.find, authority, certificate, key)
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}, "spec": {}}
        try:
            self.api.insist("POST", "/api/v1/nodes", node)
        except ApiError as error:
            if error.code != 409:
                raise
        threading.Thread(target=self._beat, args=(port,), daemon=True).start()

    def _status(self, port: int) -> Object:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # The machine is busy with other things than pods: what it has is said to be more than it has.
        amounts = {"cpu": "16", "memory": str(memory), "pods": "110", "ephemeral-storage": "20Gi"}
        beat = {"lastHeartbeatTime": now()}
        pressures = ["MemoryPressure", "DiskPressure", "PIDPressure"]
        conditions = [{"type": kind, "status": "False", "reason": "Kubelet", **beat} for kind in pressures]
        conditions.append({"type": "Ready", "status": "True", "reason": "KubeletReady", **beat})
        return {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": self.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": "v1.34.4",
                "containerRuntimeVersion": "runc://1",
                "kernelVersion": platform.release(),
                "osImage": "Linux",
                **dict.fromkeys(("bootID", "machineID", "systemUUID", "kubeProxyVersion"), ""),
            },
        }

    def _beat(self, port: int) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while True:
            try:
                self.api.patch(f"/api/v1/nodes/{self.name}/status", {"status": self._status(port)})
                renewed = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": renewed}
                metadata = {"name": self.name, "namespace": "kube-node-lease"}
                lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
                try:
                    self.api.patch(f"{leases}/{self.name}", {"spec": spec})
                except ApiError as error:
                    if error.code != 404:
                        raise
                    self.api.insist("POST", leases, lease)
            except ApiError as error:
                self.say(f"heartbeat: {error}")
            time.sleep(BEAT)

    def run(self) -> None:
        """Sees to the pods of the node, for ever."""
        mine = {"fieldSelector": f"spec.nodeName={self.name}"}
        while True:
            try:
                found = self.api.insist("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.name}")
                uids = {pod["metadata"]["uid"] for pod in found["items"]}
                for pod in found["items"]:
                    self._take(pod)
                with self._lock:
                    gone = [pod for uid, pod in self.pods.items() if uid not in uids]
                for one in gone:
                    one.delete(0)
                version = found["metadata"]["resourceVersion"]
                for event in self.api.watch("/api/v1/pods", resourceVersion=version, **mine):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] == "DELETED":
                        with self._lock:
                            known = self.pods.get(event["object"]["metadata"]["uid"])
                        if known:
                            known.delete(0)
                    elif event["type"] != "BOOKMARK":
                        self._take(event["object"])
            except (OSError, http.client.HTTPException, ValueError, ApiError) as error:
                self.say(f"watching pods: {error}")
                time.sleep(0.5)

    def _take(self, pod: Object) -> None:
        metadata, ended = pod["metadata"], pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        with self._lock:
            known = self.pods.get(metadata["uid"])
            if known is None and not (ended and "deletionTimestamp" not in metadata):
                folder = self.folder / "pods" / metadata["uid"]
                known = self.pods[metadata["uid"]] = Pod(self, pod, folder)
        if known and "deletionTimestamp" in metadata:
            known.delete(metadata.get("deletionGracePeriodSeconds", 30))
