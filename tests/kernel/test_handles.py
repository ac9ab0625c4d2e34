"""Grants move between sessions: in every order of transfers and of what a relay does, somebody sees the job."""

from __future__ import annotations

import itertools
from typing import Any

from tenure.commands import Grant, Open, Sent, Transfer
from tenure.commands.sent_commands import command_of
from tenure.outcome import Decided
from tenure.questions import Grantees, Grants
from tenure.records import JobGrant, Outbound
from tenure.world import EMPTY, World, ask
from tenure_drivers.testing.fixtures import decided

JOBS = ("j1", "j2")
STEPS = ("transfer b", "transfer c", "execute", "execute", "drop", "drop")


def do(world: World, command: Any) -> World:
    answer, after = decided(world, command, 1_000)
    assert isinstance(answer, Decided), answer
    return after


def start() -> World:
    world = EMPTY
    for session in ("a", "b", "c"):
        world = do(world, Open(session))
    return do(world, Grant("a", JOBS, "ann"))


def first(world: World) -> Outbound | None:
    rows = sorted(world.all(Outbound), key=lambda row: (row.session_id, row.number))
    return rows[0] if rows else None


def step(world: World, name: str) -> World:
    """Do one step.  A relay may execute a row again whose answer was lost."""
    row = first(world)
    match name:
        case "transfer b":
            return do(world, Transfer("b", "t1", "a", JOBS))
        case "transfer c":
            return do(world, Transfer("c", "t2", "b", JOBS))
        case "execute" if row is not None:
            return do(world, command_of(row))
        case "drop" if row is not None and not ask(Grants(row.to), world.answer):
            return do(world, Sent(row.session_id, row.number, row.to))
    return world


def test_somebody_sees_the_job_in_every_order() -> None:  # GRANT-7
    ends = set()
    for order in set(itertools.permutations(STEPS)):
        world = start()
        for name in order:
            world = step(world, name)
            for job in JOBS:
                assert ask(Grantees(job), world.answer), order
            held = {s: len(ask(Grants(s), world.answer)) for s in ("a", "b", "c")}
            assert set(held.values()) <= {0, 2}, "all of them or none"
        ends.add(tuple(sorted({row.session_id for row in world.all(JobGrant)})))
    assert ("c",) in ends  # both moves were done, and both revocations
