"""Settings of steps on Kubeflow.

>>> KubeflowSettings(node_selector={"pool": "gpu"}, volumes={"/data": "datasets"})
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from longshore.component_settings import ComponentSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KubeflowSettings"]


@dataclass(frozen=True)
class KubeflowSettings(ComponentSettings):
    """What a step's pod is like on Kubeflow. All fields are given by name; an unknown one is an error."""

    key: ClassVar[str] = "kubeflow"

    node_selector: Mapping[str, str] | None = None
    """Labels that its node must have."""

    tolerations: Sequence[Mapping[str, str | int]] | None = None
    """Taints of nodes that it bears: `{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}`, with `value` and
    `toleration_seconds` where they are needed."""

    labels: Mapping[str, str] | None = None
    """Labels of its pod."""

    annotations: Mapping[str, str] | None = None
    """Annotations of its pod."""

    image_pull_secrets: Sequence[str] | None = None
    """Kubernetes Secrets, in the run's namespace, that its image is pulled with, besides those of the orchestrator."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When its image is pulled."""

    secret_environment: Mapping[str, str] | None = None
    """Environment variables that are keys of Kubernetes Secrets: `{"HF_TOKEN": "huggingface/token"}`."""

    secret_volumes: Mapping[str, str] | None = None
    """Kubernetes Secrets that are mounted as folders: `{"/etc/keys": "keys"}`."""

    volumes: Mapping[str, str] | None = None
    """Persistent volume claims that are mounted: `{"/data": "datasets"}`."""

    run_as_user: int | None = None
    """The number of the user that it runs as, in place of the image's."""

    run_as_group: int | None = None
    """The number of the group that it runs as."""
