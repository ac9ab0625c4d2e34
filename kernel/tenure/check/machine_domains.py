"""The machines that are tables, each with a small domain in which all its cases occur.  Spec: specs/README.md.

Enumerating a domain shows that exactly one row is enabled in every case, and draws the machine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from attrs import frozen

from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Refused
from ..rules import Row, Table


@frozen
class Machine:
    """`unasked`: pairs of state and command without a row, and why nobody asks."""

    name: str
    table: Table[Any]
    states: tuple[Any, ...]
    commands: tuple[Any, ...]
    unasked: dict[tuple[type, type], str]

    def cases(self) -> Iterator[tuple[Any, Any]]:
        """Every pair of a state and a command of the domain that has rows."""
        for state, command in itertools.product(self.states, self.commands):
            if (state.__class__, command.__class__) in self.table.index:
                yield state, command

    def pairs(self) -> set[tuple[type, type]]:
        return {(s.__class__, c.__class__) for s in self.states for c in self.commands}


# -- domains

OWNERS: Final = (lease_.Owner("a", "a.1"), lease_.Owner("a", "a.2"), lease_.Owner("b", "b.1"))
TIMES: Final = range(7)  # before, at and after an expiry, and further back than two ttls
GENERATIONS: Final = (1, 2)
LEASE_IDS: Final = ("L1", "L2")

LEASE: Final = Machine(
    "lease",
    lease_.RULES,
    (
        *map(lease_.Vacant, (0, 1, 2)),
        *itertools.starmap(
            lease_.Held, itertools.product(GENERATIONS, LEASE_IDS, OWNERS, (0, 1, 2), (2, 4, 5))
        ),
    ),
    (
        *itertools.starmap(lease_.Acquire, itertools.product(LEASE_IDS, OWNERS, (0, 2), TIMES)),
        *itertools.starmap(lease_.Renew, itertools.product(GENERATIONS, LEASE_IDS, TIMES)),
        *itertools.starmap(lease_.Use, itertools.product(GENERATIONS, LEASE_IDS)),
        *itertools.starmap(lease_.Release, itertools.product(GENERATIONS, LEASE_IDS)),
        *map(lease_.End, TIMES),
        *itertools.starmap(
            lease_.Reclaim, itertools.product(GENERATIONS, LEASE_IDS, lease_.Evidence, TIMES)
        ),
        lease_.Revoke(),
        *map(lease_.FenceOff, (1, 3)),
    ),
    {},
)

MARKS: Final = (0, 1, 2)

PLACE: Final = Machine(
    "place",
    input_.RULES,
    (
        *[input_.Delayed(m, t, g, False, 1) for m in MARKS for t in (1, 2) for g in (None, "g")],
        *[
            input_.Ready(m, 1, g, False, 1, k)
            for m in MARKS
            for g in (None, "g")
            for k in (None, "k")
        ],
        *[input_.Bound(m, "r", 0, 1, k) for m in MARKS for k in (None, "k")],
        *[input_.Ended(how, "x") for how in input_.How],
    ),
    (
        *[input_.Promote(1, t) for t in range(4)],
        *[input_.Bind("r", 0, m) for m in MARKS],
        *[input_.Return(hold, 1) for hold in (False, True)],
        *[input_.End(how, "x") for how in input_.How],
    ),
    {
        (input_.Delayed, input_.Bind): "only ready inputs are read to be bound",
        (input_.Delayed, input_.Return): "only a run gives back, and only what it had bound",
        (input_.Ready, input_.Promote): "only delayed inputs are read to be promoted",
        (input_.Ready, input_.Return): "only a run gives back, and only what it had bound",
        (input_.Bound, input_.Promote): "only delayed inputs are read to be promoted",
        (input_.Bound, input_.Bind): "only ready inputs are read to be bound",
    },
)

_OVER: Final = (
    "a run that is done is neither open nor under a lease: no command finds it to step it"
)

RUN: Final = Machine(
    "run",
    run_.RULES,
    (
        *[run_.Running(g, recorded) for g in GENERATIONS for recorded in (False, True)],
        *[run_.Rescheduled(due, hold) for due in (None, 1) for hold in (False, True)],
        *map(run_.Done, run_.Termination),
    ),
    (
        *map(run_.TakeUp, GENERATIONS),
        run_.Record(),
        *[run_.Reschedule(due, hold) for due in (None, 1) for hold in (False, True)],
        *map(run_.Finish, run_.Termination),
    ),
    {
        (run_.Running, run_.TakeUp): "Begin takes up only when no lease is on the row",
        (
            run_.Rescheduled,
            run_.Record,
        ): "a checkpoint must present the fence of a lease on the run",
        (run_.Done, run_.TakeUp): _OVER,
        (run_.Done, run_.Record): _OVER,
        (run_.Done, run_.Reschedule): _OVER,
        (run_.Done, run_.Finish): _OVER,
    },
)

MACHINES: Final = (LEASE, PLACE, RUN)


# -- drawing


def draw(machine: Machine) -> str:
    """The machine as a Mermaid state diagram, and what it refuses as a table."""
    edges: dict[tuple[str, str], dict[str, None]] = {}
    refused: dict[str, tuple[str, set[str], dict[str, None]]] = {}
    for state, command in machine.cases():
        row = _row(machine, state, command)
        outcome = row.then(state, command, row.clause)
        before, asked = state.__class__.__name__, command.__class__.__name__
        if isinstance(outcome, Refused):
            at = refused.setdefault(row.clause, (outcome.reason.value, set(), {}))
            at[1].add(before)
            at[2][asked] = None
        else:
            edge = (before, outcome.state.__class__.__name__)
            edges.setdefault(edge, {})[f"{asked} {row.clause}"] = None
    lines = ["```mermaid", "stateDiagram-v2"]
    for (before, after), labels in edges.items():
        lines.append(f"    {before} --> {after}: {', '.join(labels)}")
    lines.append("```")
    if refused:
        lines += ["", "| refused | in | asked |", "|---|---|---|"]
    for clause, (reason, befores, asked_) in refused.items():
        named = ", ".join(sorted(befores))
        lines.append(f"| {clause} `{reason}` | {named} | {', '.join(asked_)} |")
    return "\n".join(lines)


def _row(machine: Machine, state: Any, command: Any) -> Row[Any, Any, Any]:
    (row,) = machine.table.enabled(state, command)
    return row
