"""The pipeline's code and requirements that every builder turns into an image."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REQUIREMENTS = ["pandas==2.2.3", "scikit-learn==1.5.2", "requests==2.32.3"]
CODE_FILES = 40

_edits = itertools.count()


class Project:
    """A folder with `code/` and `requirements.txt`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = folder / "code"
        self.requirements = folder / "requirements.txt"
        self.code.mkdir(parents=True)
        for number in range(CODE_FILES):
            lines = [f"def part_{number}_{line}(value):\n    return value + {line}\n" for line in range(30)]
            (self.code / f"part_{number:02}.py").write_text("\n\n".join(lines))
        self.pin_requests("2.32.3")

    def edit_a_line(self) -> None:
        """Makes the code what it never was before, by one line of one file."""
        (self.code / "part_00.py").write_text(f"EDITION = {next(_edits)}\n")

    def pin_requests(self, version: str) -> None:
        """Changes the pin of the smallest requirement, in a file as it never was before."""
        pins = [f"requests=={version}" if pin.startswith("requests==") else pin for pin in REQUIREMENTS]
        self.requirements.write_text("\n".join([f"# edition {next(_edits)}", *pins, ""]))
