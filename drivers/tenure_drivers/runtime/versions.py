"""Versions of an agent: a run is worked on by the version that it began with, in every process.

Spec: specs/run.md, RUN-70 to RUN-73.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from tenure.failure import ErrorKind

from .errors import TurnFailed
from .turn import Turn

__all__ = ["Agent", "AgentRegistry", "AgentVersions"]


Agent = Callable[[Turn], object]  # async, or a function that runs in a thread
FORM = re.compile(r"[^@\s]+@[^@\s]+")


class AgentRegistry(Protocol):
    """Finds the agent of a version, such as `helper@7`."""

    @property
    def newest(self) -> str:
        """The resolution of new runs whose inputs ask for none."""
        ...

    def resolve(self, resolution: str, /) -> Agent:
        """Return the agent of a resolution.  Raises TurnFailed: `not_reconstructed` or `version_missing` (RUN-73)."""
        ...


class AgentVersions:
    """A registry of the versions that this process has, by ids such as `helper@7`.

    `newest` is the last one of `versions`, unless it is given.  Give it if a fleet has no worker yet that lacks it.
    """

    def __init__(self, versions: Mapping[str, Agent], newest: str | None = None) -> None:
        for name in versions:
            if FORM.fullmatch(name) is None:
                raise ValueError(f"version {name!r}: expected NAME@VERSION, such as helper@7")
        if not versions:
            raise ValueError("versions: expected at least one, such as {'helper@1': agent}")
        self.versions = dict(versions)
        self._newest = list(versions)[-1] if newest is None else newest
        if self._newest not in self.versions:
            raise ValueError(f"newest {newest!r}: expected one of {', '.join(self.versions)}")

    @property
    def newest(self) -> str:
        """The resolution of new runs whose inputs ask for none."""
        return self._newest

    def resolve(self, resolution: str) -> Agent:
        """RUN-73: return exactly this version, never another one.  Raises TurnFailed."""
        if FORM.fullmatch(resolution) is None:
            problem = f"resolution {resolution!r}: expected NAME@VERSION, such as helper@7"
            raise TurnFailed(ErrorKind.NOT_RECONSTRUCTED, problem)
        found = self.versions.get(resolution)
        if found is None:
            known = ", ".join(self.versions)
            problem = f"this worker has no {resolution}: it has {known}. Start one that has it"
            raise TurnFailed(ErrorKind.VERSION_MISSING, problem)
        return found
