"""One state of the explored turn: the world, the machine, and what has happened so far."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ... import commands as c
from ...machines import run as run_
from ...records import Run
from ...turn import machine as turn_
from ...turn import protocol
from ...world import World

S: Final = "s"


@frozen
class State:
    """`took`: once calls that took effect, each time it did; `answered`: the model's iterations that were recorded."""

    world: World
    machine: turn_.State | None = None
    under_way: tuple[protocol.Effect, ...] = ()
    begun: c.Begun | None = None
    n: int = 0
    took: tuple[str, ...] = ()
    crashes: int = 0
    lives: int = 0
    version: int = 1
    cancelled: bool = False
    notified: bool = False
    late: bool = False
    down: bool = False  # the model has failed once
    aborted: tuple[str, ...] = ()
    fault: str = ""  # a rule that a step has broken

    @property
    def run(self) -> Run:
        run: Run | None = self.world.tables[Run].by_key.get((S, "r"))
        assert run is not None
        return run

    @property
    def done(self) -> bool:
        return Run in self.world.tables and isinstance(self.run.state, run_.Done)
