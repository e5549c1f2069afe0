"""A pod on the node, from the moment that it is bound to its end."""

from __future__ import annotations

import base64
import shutil
import signal
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from api import ApiError
from container import ConfigError, Container, expand
from images import Image, PullError, auths_of
from volumes import MountError, Volumes, field

if TYPE_CHECKING:
    from pathlib import Path

    from kubelet import Kubelet

Object = dict[str, Any]


def now() -> str:
    """The time, as objects have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Gone(Exception):
    """The pod is being deleted, or has had its time."""


class Pod:
    """Sees to one pod, in a thread of its own."""

    def __init__(self, node: Kubelet, pod: Object, folder: Path) -> None:
        self.node, self.pod, self.folder = node, pod, folder
        metadata = pod["metadata"]
        self.namespace, self.name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.volumes = Volumes(node.api, pod, folder / "volumes")
        self.started = time.time()
        self.containers: dict[str, Container] = {}
        self.states: dict[str, Object] = {}
        self._grace: int | None = None
        self._deleted = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def delete(self, grace: int) -> None:
        """The pod is to end within so many seconds."""
        if self._grace is None:
            self._grace = grace
            self._deleted.set()

    # What the API server is told.

    def _report(self, phase: str, **more: str) -> None:
        specs = self.pod["spec"]["containers"]
        running = all("running" in self.states.get(spec["name"], {}) for spec in specs)
        statuses = []
        for spec in specs:
            state = self.states.setdefault(spec["name"], {"waiting": {"reason": "ContainerCreating"}})
            statuses.append(
                {
                    "name": spec["name"],
                    "image": spec["image"],
                    "imageID": spec["image"] if spec["name"] in self.containers else "",
                    "ready": "running" in state,
                    "started": "running" in state,
                    "restartCount": 0,
                    "state": {kind: state.get(kind) for kind in ("waiting", "running", "terminated")},
                }
            )
        ready = "True" if running else "False"
        reason = {"reason": "PodCompleted"} if phase == "Succeeded" else {}
        conditions = [
            {"type": "Initialized", "status": "True"},
            {"type": "PodReadyToStartContainers", "status": "True" if self.containers else "False"},
            {"type": "Ready", "status": ready, **reason},
            {"type": "ContainersReady", "status": ready, **reason},
        ]
        start = datetime.fromtimestamp(self.started, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        address = {"hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        status = {
            "phase": phase,
            "conditions": conditions,
            "startTime": start,
            **address,
            "containerStatuses": statuses,
        }
        try:
            self.node.api.patch(f"{self.path}/status", {"metadata": {"uid": self.uid}, "status": {**status, **more}})
        except ApiError as error:
            if error.code not in (404, 409):
                self.node.say(f"{self.name}: {error}")

    def _event(self, kind: str, reason: str, message: str) -> None:
        involved = {"kind": "Pod", "apiVersion": "v1", "namespace": self.namespace, "name": self.name, "uid": self.uid}
        event = {
            "metadata": {"generateName": f"{self.name}.", "namespace": self.namespace},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": "kubelet", "host": self.node.name},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        try:
            self.node.api.insist("POST", f"/api/v1/namespaces/{self.namespace}/events", event)
        except ApiError as error:
            # The namespace may be on its way out.
            self.node.say(f"{self.name}: {error}")

    # What becomes of it.

    def _run(self) -> None:
        try:
            self._live()
        except Gone:
            self._end_early()
        except Exception as error:
            self.node.say(f"{self.name}: {error!r}")
            for spec in self.pod["spec"]["containers"]:
                ended = {"exitCode": 128, "reason": "ContainerCannotRun", "message": repr(error), "finishedAt": now()}
                self.states[spec["name"]] = {"terminated": ended}
            self._report("Failed")
        for container in self.containers.values():
            container.remove()
        shutil.rmtree(self.folder / "volumes", ignore_errors=True)
        self._deleted.wait()
        try:
            body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
            self.node.api.insist("DELETE", self.path, body)
        except ApiError as error:
            if error.code not in (404, 409):
                self.node.say(f"{self.name}: {error}")
        self.node.forget(self.uid)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _left(self) -> float:
        """The seconds until the pod has had its time."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        return float("inf") if limit is None else self.started + limit - time.time()

    def _pause(self, seconds: float) -> None:
        if self._deleted.wait(min(seconds, max(0.0, self._left()))) or self._left() <= 0:
            raise Gone

    def _live(self) -> None:
        self._report("Pending")
        mounts = self._volumes()
        for spec in self.pod["spec"]["containers"]:
            image = self._pull(spec)
            self._start(spec, image, mounts)
        self._report("Running")
        self._event("Normal", "Started", f"Started containers {', '.join(self.containers)}")
        left = dict(self.containers)
        while left:
            self._pause(0)
            for name, container in list(left.items()):
                if container.wait(0.1):
                    self._ended(name, container)
                    del left[name]
                    if left:
                        self._report("Running")
        codes = [state["terminated"]["exitCode"] for state in self.states.values()]
        self._report("Failed" if any(codes) else "Succeeded")

    def _ended(self, name: str, container: Container) -> None:
        begun = self.states[name]["running"]["startedAt"]
        self.states[name] = {"terminated": {**container.ended(), "startedAt": begun, "finishedAt": now()}}

    def _end_early(self) -> None:
        overdue = self._left() <= 0 and not self._deleted.is_set()
        grace = self._grace if self._grace is not None else self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        running = {name: self.containers[name] for name, state in self.states.items() if "running" in state}
        for container in running.values():
            container.signal(signal.SIGTERM)
        end = time.monotonic() + grace
        for name, container in running.items():
            if not container.wait(max(0.0, end - time.monotonic())):
                container.signal(signal.SIGKILL)
                container.wait(30)
            self._ended(name, container)
        for spec in self.pod["spec"]["containers"]:
            if "terminated" not in self.states.get(spec["name"], {}):
                ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": now()}
                ended["message"] = "The container could not be located when the pod was terminated"
                self.states[spec["name"]] = {"terminated": ended}
        codes = [state["terminated"]["exitCode"] for state in self.states.values()]
        if overdue:
            said = "Pod was active on the node longer than the specified deadline"
            self._report("Failed", reason="DeadlineExceeded", message=said)
        else:
            self._report("Failed" if any(codes) else "Succeeded")

    def _waits(self, spec: Object, reason: str, message: str) -> None:
        self.states[spec["name"]] = {"waiting": {"reason": reason, "message": message}}
        self._report("Pending")

    def _volumes(self) -> dict[str, str]:
        made = {}
        for volume in self.pod["spec"].get("volumes", []):
            while True:
                try:
                    made[volume["name"]] = str(self.volumes.make(volume))
                    break
                except MountError as error:
                    self._event("Warning", "FailedMount", str(error))
                    self._pause(2)
        return made

    def _pull(self, spec: Object) -> Image:
        reference, pause = spec["image"], 2.0
        while True:
            auths: Object = {}
            for secret in self.pod["spec"].get("imagePullSecrets", []):
                try:
                    auths.update(auths_of(self.volumes.read("secrets", secret["name"])))
                except ApiError as error:
                    self._event("Warning", "FailedToRetrieveImagePullSecret", f"{secret['name']}: {error}")
            try:
                return self.node.images.get(reference, spec.get("imagePullPolicy", "IfNotPresent"), auths)
            except PullError as error:
                self._event("Warning", "Failed", f'Failed to pull image "{reference}": {error}')
                self._waits(spec, "ErrImagePull", str(error))
                self._pause(1)
                self._event("Normal", "BackOff", f'Back-off pulling image "{reference}"')
                self._waits(spec, "ImagePullBackOff", f'Back-off pulling image "{reference}": ErrImagePull: {error}')
                self._pause(pause)
                pause = min(pause * 2, 60)

    def _start(self, spec: Object, image: Image, volumes: dict[str, str]) -> None:
        mounts = []
        for mount in spec.get("volumeMounts", []):
            source = volumes[mount["name"]] + ("/" + mount["subPath"] if "subPath" in mount else "")
            mode = "ro" if mount.get("readOnly") else "rw"
            options = ["rbind", mode]
            mounts.append({"destination": mount["mountPath"], "type": "bind", "source": source, "options": options})
        identifier = f"{spec['name']}-{self.uid}"
        container = Container(self.folder / spec["name"], identifier, self.pod, spec, image)
        while True:
            try:
                container.check()
                variables = self._variables(spec)
                break
            except ConfigError as error:
                self._event("Warning", "Failed", f"Error: {error}")
                self._waits(spec, "CreateContainerConfigError", str(error))
                self._pause(2)
        container.start(variables, mounts)
        self.containers[spec["name"]] = container
        self.states[spec["name"]] = {"running": {"startedAt": now()}}

    def _variables(self, spec: Object) -> dict[str, str]:
        variables = dict(self.node.variables)
        for one in spec.get("env", []):
            source = one.get("valueFrom", {})
            if "fieldRef" in source:
                value = field(self.pod, source["fieldRef"]["fieldPath"])
            elif "secretKeyRef" in source or "configMapKeyRef" in source:
                found = self._key(source)
                if found is None:
                    continue
                value = found
            else:
                value = expand(one.get("value", ""), variables)
            variables[one["name"]] = value
        return variables

    def _key(self, source: Object) -> str | None:
        resource, noun = ("secrets", "secret") if "secretKeyRef" in source else ("configmaps", "configmap")
        wanted = source.get("secretKeyRef") or source["configMapKeyRef"]
        try:
            data = self.volumes.read(resource, wanted["name"]).get("data") or {}
        except ApiError as error:
            if wanted.get("optional"):
                return None
            # A node is told nothing of what no pod of it names, nor of what does not exist.
            raise ConfigError(f'{noun} "{wanted["name"]}" not found' if error.code == 404 else str(error)) from error
        if wanted["key"] not in data:
            if wanted.get("optional"):
                return None
            raise ConfigError(f"couldn't find key {wanted['key']} in {noun} {self.namespace}/{wanted['name']}")
        value = str(data[wanted["key"]])
        return base64.b64decode(value).decode() if resource == "secrets" else value
