"""Settings of steps on Vertex AI.

>>> VertexSettings(accelerator_type="NVIDIA_L4")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from longshore.component_settings import ComponentSettings

__all__ = ["VertexSettings"]


@dataclass(frozen=True)
class VertexSettings(ComponentSettings):
    """What a step is given on Vertex AI. All fields are given by name; an unknown one is an error.

    Processors and memory are `ResourceSettings`; without `machine_type`, Vertex AI chooses the machine that has them.
    """

    key: ClassVar[str] = "vertex"

    machine_type: str | None = None
    """The type of its machine, whatever `ResourceSettings` say of processors and memory: `"n1-highmem-8"`.
    The step runs in a custom job."""

    accelerator_type: str | None = None
    """Which accelerators, in place of `gpu_type` of `ResourceSettings`: `"NVIDIA_L4"`."""

    accelerator_count: int | None = None
    """How many, in place of `gpu`."""
