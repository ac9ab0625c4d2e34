"""A state of the turn model: the records, the machine, and what has happened so far."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ... import commands as c
from ...machines import run as run_
from ...records import Run, Ticket
from ...turn import machine as turn_
from ...turn import protocol
from ...world import World

__all__ = ["S", "State"]


S: Final = "s"


@frozen
class State:
    """A state of the turn model.

    `in_progress` holds effects that have not reported.  `took` names the once calls that took effect, once for each time.
    `lives` counts how often a worker began, `version` is that of the system prompt.  `notified`: the worker knows of the
    cancel.  `late`: the deadline has passed.  `down`: the model has failed once.  `went_on`: a Park was not needed.
    `fault` names a broken rule.
    """

    world: World
    machine: turn_.State | None = None
    in_progress: tuple[protocol.Effect, ...] = ()
    begun: c.Begun | None = None
    n: int = 0
    took: tuple[str, ...] = ()
    crashes: int = 0
    lives: int = 0
    version: int = 1
    cancelled: bool = False
    notified: bool = False
    late: bool = False
    down: bool = False
    aborted: tuple[str, ...] = ()
    went_on: bool = False
    fault: str = ""

    @property
    def run(self) -> Run:
        """The run of the turn."""
        run: Run | None = self.world.tables[Run].by_key.get((S, "r"))
        assert run is not None
        return run

    @property
    def waits(self) -> bool:
        """True if the run waits for decisions."""
        return Run in self.world.tables and isinstance(self.run.state, run_.Waiting)

    @property
    def asked(self) -> bool:
        """True if a ticket was opened."""
        return Ticket in self.world.tables

    @property
    def done(self) -> bool:
        """True if the run has ended."""
        return Run in self.world.tables and isinstance(self.run.state, run_.Done)
