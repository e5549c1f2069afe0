"""Settings of steps on Apache Airflow.

>>> AirflowSettings(pool="training", node_selector={"pool": "gpu"})
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from longshore.component_settings import ComponentSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["AirflowSettings"]


@dataclass(frozen=True)
class AirflowSettings(ComponentSettings):
    """What a step's task and container are like on Airflow. All fields are given by name; an unknown one is an error.

    Processors, memory and accelerators are `ResourceSettings`; retries and the time limit are the step's own.
    """

    key: ClassVar[str] = "airflow"

    pool: str | None = None
    """The pool that its task takes a slot of."""

    queue: str | None = None
    """The queue of workers that its task runs on."""

    priority_weight: int | None = None
    """What it has before other tasks that wait."""

    retry_delay: int | None = None
    """Seconds between its tries."""

    namespace: str | None = None
    """The namespace of its pod."""

    service_account: str | None = None
    """The service account of its pod."""

    node_selector: Mapping[str, str] | None = None
    """Labels that its node must have."""

    tolerations: Sequence[Mapping[str, object]] | None = None
    """Taints of nodes that it bears: `[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]`."""

    labels: Mapping[str, str] | None = None
    """Labels of its pod."""

    annotations: Mapping[str, str] | None = None
    """Annotations of its pod."""

    image_pull_secrets: Sequence[str] | None = None
    """Kubernetes Secrets that its image is pulled with."""

    secret_environment: Mapping[str, str] | None = None
    """Environment variables that are keys of Kubernetes Secrets: `{"HF_TOKEN": "huggingface/token"}`."""

    startup_timeout: int | None = None
    """How long its pod may take to start, in seconds. Default: 600."""

    network_mode: str | None = None
    """The network of its container, with the operator docker."""
