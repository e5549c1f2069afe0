"""The version of the package, which is that of the binary that ships with it."""

from __future__ import annotations

from typing import Final

# A literal, not read from the installed metadata: in a step's container there is none.
__version__: Final = "0.1.0"
