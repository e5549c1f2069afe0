"""Volumes of pods, as folders of this machine."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from api import Api, ApiError

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]


class MountError(Exception):
    """A volume that cannot be made, and why."""


def field(pod: Object, path: str) -> str:
    """A field of a pod, by its path: `metadata.labels['x']`, say."""
    if path.endswith("']"):
        where, key = path[:-2].split("['")
        return str(pod["metadata"].get(where.removeprefix("metadata."), {}).get(key, ""))
    known = {"status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1"}
    if path in known:
        return known[path]
    value: Any = pod
    for name in path.split("."):
        value = value.get(name, "")
    return str(value)


class Volumes:
    """What the volumes of one pod hold."""

    def __init__(self, api: Api, pod: Object, folder: Path) -> None:
        self.api, self.pod, self.folder = api, pod, folder
        self.namespace = pod["metadata"]["namespace"]

    def make(self, volume: Object) -> Path:
        """Makes a volume."""
        folder: Path = self.folder / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        if "emptyDir" in volume:
            pass
        elif "secret" in volume:
            self._object(folder, "secrets", {**volume["secret"], "name": volume["secret"]["secretName"]})
        elif "configMap" in volume:
            self._object(folder, "configmaps", volume["configMap"])
        elif "projected" in volume:
            for source in volume["projected"].get("sources", []):
                self._project(folder, source)
        else:
            kind = next((key for key in volume if key != "name"), "nothing")
            raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}": no volumes of type {kind} here')
        return folder

    def read(self, resource: str, name: str) -> Object:
        """A Secret or ConfigMap of the pod's namespace."""
        return self.api.insist("GET", f"/api/v1/namespaces/{self.namespace}/{resource}/{name}")

    def _object(self, folder: Path, resource: str, source: Object) -> None:
        try:
            found = self.read(resource, source["name"])
        except ApiError as error:
            if error.code == 404 and source.get("optional"):
                return
            raise MountError(f"MountVolume.SetUp failed for volume: {error}") from error
        plain = found.get("data") or {}
        encoded = plain if resource == "secrets" else found.get("binaryData") or {}
        content = {key: base64.b64decode(value) for key, value in encoded.items()}
        if resource == "configmaps":
            content.update({key: value.encode() for key, value in plain.items()})
        items = source.get("items") or [{"key": key, "path": key} for key in content]
        for item in items:
            if item["key"] not in content:
                raise MountError(f"references non-existent config key: {item['key']}")
            self._write(folder / item["path"], content[item["key"]])

    def _project(self, folder: Path, source: Object) -> None:
        if token := source.get("serviceAccountToken"):
            self._write(folder / token["path"], self._token(token).encode(), private=True)
        elif "configMap" in source:
            self._object(folder, "configmaps", source["configMap"])
        elif "secret" in source:
            self._object(folder, "secrets", source["secret"])
        elif "downwardAPI" in source:
            for item in source["downwardAPI"]["items"]:
                self._write(folder / item["path"], field(self.pod, item["fieldRef"]["fieldPath"]).encode())

    def _token(self, wanted: Object) -> str:
        account = self.pod["spec"].get("serviceAccountName", "default")
        metadata = self.pod["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"expirationSeconds": wanted.get("expirationSeconds", 3600), "boundObjectRef": bound}
        if "audience" in wanted:
            spec["audiences"] = [wanted["audience"]]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        try:
            body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
            return str(self.api.insist("POST", path, body)["status"]["token"])
        except ApiError as error:
            raise MountError(f"failed to fetch token: {error}") from error

    def _write(self, file: Path, content: bytes, private: bool = False) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o644)
        # As kubelets do: a token is its user's alone, where all containers run as the same.
        user = self.pod["spec"].get("securityContext", {}).get("runAsUser")
        if private and user is not None:
            os.chown(file, user, -1)
            file.chmod(0o600)
