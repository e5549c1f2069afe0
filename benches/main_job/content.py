"""What is in the images, to see that both sides made the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crane import Crane


@dataclass(frozen=True)
class Content:
    """The files below /opt/venv and /app, and the compressed bytes of the layers on the parent."""

    files: frozenset[str]
    bytecode: frozenset[str]
    compressed: int

    @classmethod
    def of(cls, crane: Crane, image: str, parent_layers: int) -> Content:
        """Reads an image of a registry."""
        names = [name for name in crane.file_names(image) if name.startswith(("opt/venv/", "app/"))]
        return cls(
            frozenset(name for name in names if not name.endswith(".pyc")),
            frozenset(name for name in names if name.endswith(".pyc")),
            sum(crane.layer_sizes(image)[parent_layers:]),
        )
