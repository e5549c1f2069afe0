"""Settings of steps on Amazon SageMaker.

>>> SagemakerSettings(step_type="training", instance_type="ml.g5.2xlarge")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from longshore.component_settings import ComponentSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SagemakerSettings"]


@dataclass(frozen=True)
class SagemakerSettings(ComponentSettings):
    """What a step's job is like on SageMaker. All fields are given by name; an unknown one is an error.

    Without `instance_type`, an instance is chosen that has what `ResourceSettings` want.
    """

    key: ClassVar[str] = "sagemaker"

    step_type: str | None = None
    """What kind of job it is: `"processing"` (the default) or `"training"`."""

    instance_type: str | None = None
    """The type of its instance: `"ml.g5.2xlarge"`."""

    volume_size: int | None = None
    """The size of its volume, in GB. Default: 30."""

    role: str | None = None
    """The ARN of the role that it runs as, in place of the orchestrator's."""

    subnets: Sequence[str] | None = None
    """The subnets that it is in, in place of the orchestrator's. They go with `security_groups`."""

    security_groups: Sequence[str] | None = None
    """Its security groups."""

    tags: Mapping[str, str] | None = None
    """Tags of its job, besides the orchestrator's."""
