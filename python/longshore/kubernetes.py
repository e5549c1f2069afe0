"""Settings of steps on Kubernetes.

>>> KubernetesSettings(service_account="trainer", node_selector={"pool": "gpu"})
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from longshore.component_settings import ComponentSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KubernetesSettings"]


@dataclass(frozen=True)
class KubernetesSettings(ComponentSettings):
    """What a step's pod is like on Kubernetes. All fields are given by name; an unknown one is an error.

    What Kubernetes has a type for is written as in a manifest: `{"key": "spot", "operator": "Exists"}`.
    """

    key: ClassVar[str] = "kubernetes"

    service_account: str | None = None
    """The service account that the step runs as, for example one that a cloud's identity is bound to."""

    automount_service_account_token: bool | None = None
    """Whether the service account's token is in the container. Default: it is not."""

    node_selector: Mapping[str, str] | None = None
    """Labels that a node must have."""

    tolerations: Sequence[Mapping[str, Any]] | None = None
    """Taints of nodes that do not keep the pod away, each a `Toleration`."""

    affinity: Mapping[str, Any] | None = None
    """Where the pod runs, relative to nodes and other pods: an `Affinity`."""

    labels: Mapping[str, str] | None = None
    """Labels of the Job and its pods."""

    annotations: Mapping[str, str] | None = None
    """Annotations of the Job and its pods."""

    priority_class: str | None = None
    """The name of a PriorityClass."""

    volumes: Sequence[Mapping[str, Any]] | None = None
    """Volumes of the pod, each a `Volume`."""

    volume_mounts: Sequence[Mapping[str, Any]] | None = None
    """Where the container sees them, each a `VolumeMount`."""

    env: Mapping[str, str] | None = None
    """Environment variables of the container."""

    image_pull_secrets: Sequence[str] | None = None
    """Names of Secrets with which the image is pulled, besides longshore's own."""

    security_context: Mapping[str, Any] | None = None
    """What the container's processes may do: a `SecurityContext`."""
