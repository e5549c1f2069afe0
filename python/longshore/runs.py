"""A run, as its pipeline's call returns it, and what its steps have made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longshore.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Artifact:
    """What a step returned, in the artifact store."""

    uri: str

    def load(self) -> object:
        """The value. Raises `ArtifactError` if it is damaged or needs a package that is not installed here."""
        from longshore.artifacts import load

        return load(self.uri)


@dataclass(frozen=True)
class Build:
    """The images of a pipeline."""

    images: Mapping[str, str]
    """The image of each step, as `repository@sha256:…`."""


@dataclass(frozen=True)
class Run:
    """One execution of a pipeline."""

    id: str
    status: str
    """`succeeded`, where it was waited for: a run that fails raises `RunFailed`. Else `running`,
    `scheduled`, or `planned` where nothing was run."""
    image: str | None
    """The image as `repository@sha256:…`; `None` where the steps ran without one."""
    outputs: Mapping[str, Mapping[str, Artifact]]
    """The artifacts by step and output."""

    def wait(self) -> Run:
        """Follows the run to its end, if it has not ended, and returns what it is then. Raises `RunFailed`."""
        if not self.id or self.status not in ("running", "pending"):
            return self
        from longshore.launch import wait

        return wait(self.id)

    def load(self, step: str, output: str | None = None) -> object:
        """The value that `step` returned; `output` says which one if it has several."""
        if not self.id:
            # A worker process of a step, which imports the script that calls the pipeline.
            return None
        if step not in self.outputs:
            raise UsageError(f"run {self.id} has no step `{step}`{did_you_mean(step, self.outputs)}")
        artifacts = self.outputs[step]
        if output is None:
            if len(artifacts) != 1:
                raise UsageError(
                    f"step `{step}` has {len(artifacts)} outputs; say which one to load{did_you_mean('', artifacts)}"
                )
            output = next(iter(artifacts))
        if output not in artifacts:
            raise UsageError(f"step `{step}` has no output `{output}`{did_you_mean(output, artifacts)}")
        return artifacts[output].load()
