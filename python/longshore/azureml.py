"""Settings of steps on Azure Machine Learning.

>>> AzureMLSettings(instance_type="Standard_NC4as_T4_v3", shm_size="2g")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from longshore.component_settings import ComponentSettings

__all__ = ["AzureMLSettings"]


@dataclass(frozen=True)
class AzureMLSettings(ComponentSettings):
    """What a step is given on Azure Machine Learning. All fields are given by name; an unknown one is an error."""

    key: ClassVar[str] = "azureml"

    compute: str | None = None
    """The compute that it runs on, in place of the orchestrator's; `"serverless"` for none."""

    instance_type: str | None = None
    """Its machine: a size on serverless compute (`"Standard_NC4as_T4_v3"`), an instance type on Kubernetes."""

    shm_size: str | None = None
    """How much memory its processes share: `"2g"`."""
