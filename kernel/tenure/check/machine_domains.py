"""The machines that are tables, each with a small domain in which every row fires.  Spec: specs/README.md.

`survey` enumerates a domain: exactly one row is enabled in every case.  `draw` draws the machine from it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import field, frozen

from ..job_runner import machine as job_runner_
from ..job_runner.answers import classify as classify_job
from ..machines import input as input_
from ..machines import job as job_
from ..machines import lease as lease_
from ..machines import outbound as outbound_
from ..machines import run as run_
from ..machines import subscription as subscription_
from ..machines import ticket as ticket_
from ..outbound_records import Behind, Due, Undeliverable
from ..outcome import Refused
from ..publisher import machine as publisher_
from ..relay import machine as relay_
from ..rules import Row, Table
from ..runner import machine as runner_
from ..runner.answers import classify
from ..worker import machine as worker_
from . import job_runner_domain, publisher_domain, relay_domain, runner_domain, worker_domain

__all__ = [
    "LEASE",
    "MACHINES",
    "OUTBOUND",
    "PUBLISHER",
    "QUEUE_ENTRY",
    "RELAY",
    "RUN",
    "RUNNER",
    "SUBSCRIPTION",
    "TICKET",
    "WORKER",
    "Machine",
    "draw",
    "survey",
]


def _none(state: Any) -> tuple[Any, ...]:
    return ()


def _unchanged(state: Any, command: Any) -> Any:
    return command


@frozen(eq=False)
class Machine:
    """A table and the states and commands of its domain.

    `commands_in` returns further commands that only this state can receive.  `classify` returns the event for the table;
    None: the command is answered before the table.  `without_row` gives the reason for each pair without a row.
    """

    name: str
    table: Table[Any]
    states: tuple[Any, ...]
    commands: tuple[Any, ...]
    without_row: dict[tuple[type, type], str] = field(factory=dict)
    commands_in: Callable[[Any], tuple[Any, ...]] = _none
    classify: Callable[[Any, Any], Any] = _unchanged
    loops: bool = True  # draw also the transitions that keep the state

    def received(self, state: Any) -> tuple[Any, ...]:
        """Return every command that this state can receive."""
        return (*self.commands, *self.commands_in(state))

    def inputs(self) -> Iterator[tuple[Any, Any]]:
        """Yield every state with every command that reaches the table."""
        for state in self.states:
            for command in self.received(state):
                event = self.classify(state, command)
                if event is not None:
                    yield state, event

    def cases(self) -> Iterator[tuple[Any, Any]]:
        """Yield the inputs that have rows."""
        for state, command in self.inputs():
            if (state.__class__, command.__class__) in self.table.index:
                yield state, command

    def pairs(self) -> set[tuple[type, type]]:
        """Return the types of all inputs."""
        return {(s.__class__, c.__class__) for s, c in self.inputs()}


@frozen
class Survey:
    """The result of the enumeration of a domain.

    `wrong` has the cases in which not exactly one row is enabled.  `fired` has every row with its results, in the order
    in which they occurred: a type of state, or a refusal.
    """

    cases: int
    wrong: tuple[tuple[Any, Any, tuple[str, ...]], ...]
    fired: tuple[tuple[Row[Any, Any, Any], type | str], ...]


@functools.cache
def survey(machine: Machine) -> Survey:
    """Enumerate the domain of a machine."""
    cases, wrong = 0, []
    fired: dict[tuple[Row[Any, Any, Any], type | str], None] = {}
    for state, command in machine.cases():
        cases += 1
        rows = machine.table.enabled(state, command)
        if len(rows) != 1:
            wrong.append((state, command, tuple(row.clause for row in rows)))
            continue
        outcome = rows[0].then(state, command, rows[0].clause)
        refused = isinstance(outcome, Refused)
        fired[rows[0], outcome.reason.value if refused else outcome.state.__class__] = None
    return Survey(cases, tuple(wrong), tuple(fired))


# -- domains

OWNERS: Final = (lease_.Owner("a", "a.1"), lease_.Owner("a", "a.2"), lease_.Owner("b", "b.1"))
TIMES: Final = range(7)  # before, at and after an expiry, and earlier than two ttls before it
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

QUEUE_ENTRY: Final = Machine(
    "queue_entry",
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
        input_.Ended(input_.How.DEAD_LETTERED, "x", "r", "new"),
    ),
    (
        *[input_.Promote(1, t) for t in range(4)],
        *[input_.Bind("r", 0, m) for m in MARKS],
        *[input_.Apply("r", 1, m, 0) for m in MARKS],
        *[input_.Return(hold, 1) for hold in (False, True)],
        *[input_.End(how, "x") for how in input_.How],
        input_.Readmit("new"),
    ),
    {
        (input_.Delayed, input_.Bind): "only ready inputs are read for binding",
        (input_.Delayed, input_.Apply): "only ready inputs are read for binding",
        (
            input_.Delayed,
            input_.Return,
        ): "only a run returns inputs, and only those that it had bound",
        (input_.Ready, input_.Promote): "only delayed inputs are read for promotion",
        (
            input_.Ready,
            input_.Return,
        ): "only a run returns inputs, and only those that it had bound",
        **{
            (kind, input_.Readmit): "only a dead letter is read for a readmission"
            for kind in (input_.Delayed, input_.Ready, input_.Bound)
        },
        (input_.Bound, input_.Promote): "only delayed inputs are read for promotion",
        (input_.Bound, input_.Bind): "only ready inputs are read for binding",
        (input_.Bound, input_.Apply): "only ready inputs are read for binding",
    },
)

_DONE: Final = (
    "a run that is done is neither open nor under a lease, so no command reads it for a step"
)

RUN: Final = Machine(
    "run",
    run_.RULES,
    (
        *[run_.Running(g, recorded) for g in GENERATIONS for recorded in (False, True)],
        *[run_.Rescheduled(due, hold) for due in (None, 1) for hold in (False, True)],
        *[
            run_.Waiting(run_.WaitReason.TOOL, tickets, needs, None, "w")
            for tickets in ((), ("t",), ("t", "u"), ("t", "u", "v"))
            for needs in range(min(len(tickets), 1), len(tickets) + 1)
        ],
        *map(run_.Done, run_.Termination),
    ),
    (
        run_.Wait(run_.Waiting(run_.WaitReason.TOOL, ("t",), 1, None, "w")),
        *map(run_.Settle, ("t", "v")),
        *map(run_.TakeUp, GENERATIONS),
        run_.Record(),
        *[run_.Reschedule(due, hold) for due in (None, 1) for hold in (False, True)],
        *map(run_.Finish, run_.Termination),
    ),
    {
        (run_.Running, run_.TakeUp): "Begin takes up a run only if there is no lease on the row",
        (
            run_.Rescheduled,
            run_.Record,
        ): "a checkpoint must present the fence of a lease on the run",
        (run_.Done, run_.TakeUp): _DONE,
        (run_.Done, run_.Record): _DONE,
        (run_.Done, run_.Reschedule): _DONE,
        (run_.Done, run_.Finish): _DONE,
        (run_.Done, run_.Wait): _DONE,
        (run_.Done, run_.Settle): _DONE,
        (run_.Rescheduled, run_.Wait): "only the holder of a lease parks its run",
        (run_.Waiting, run_.Wait): "only the holder of a lease parks its run",
        (run_.Waiting, run_.Record): "a checkpoint must present the fence of a lease on the run",
        (run_.Waiting, run_.Reschedule): "a cancel ends a run that waits",
    },
)

TICKET: Final = Machine(
    "ticket",
    ticket_.RULES,
    (ticket_.Open(), ticket_.Settled(ticket_.Action.APPROVE)),
    (ticket_.Settle(ticket_.Settled(ticket_.Action.REJECT)),),
)

GONE = "relays name only rows that are to be sent (OUTBOUND-33)"
UNDELIVERED: Final = Undeliverable(5, "phase", "INBOX-6", "destroyed")
OUTBOUND: Final = Machine(
    "outbound",
    outbound_.RULES,
    (Due(0), Due(7), Behind(), UNDELIVERED),
    (outbound_.Delay(9), outbound_.Line(), outbound_.Promote(), outbound_.Refuse(UNDELIVERED)),
    {
        (Behind, outbound_.Delay): "only the first row of a route is sent (OUTBOUND-31)",
        (Behind, outbound_.Refuse): "only the first row of a route is sent (OUTBOUND-31)",
        (Behind, outbound_.Line): "LineUp names only rows that are due (OUTBOUND-36)",
        (Undeliverable, outbound_.Delay): GONE,
        (Undeliverable, outbound_.Line): GONE,
        (Undeliverable, outbound_.Promote): "Resend writes a new row (OUTBOUND-42)",
        (Undeliverable, outbound_.Refuse): GONE,
    },
)

_ABANDONED: Final = job_.Ended(job_.How.ABANDONED, "a", 1)

JOB: Final = Machine(
    "job",
    job_.RULES,
    (
        job_.Waiting(),
        job_.Held(1),
        job_.Started(1),
        job_.Started(2, True),
        _ABANDONED,
    ),
    (
        job_.Take(2),
        job_.Start(1),
        job_.Start(2),
        job_.Record(),
        job_.LetGo(None),
        job_.End(_ABANDONED),
        job_.End(job_.Ended(job_.How.COMPLETED, "c", 2)),
    ),
)

SUBSCRIPTION: Final = Machine(
    "subscription",
    subscription_.RULES,
    (
        subscription_.ABSENT,
        subscription_.Live(1, 2),
        subscription_.Live(1, 2, False),
        subscription_.Deleted(1, 2),
    ),
    (
        subscription_.Register(),
        subscription_.Register(same=True),
        *[
            change(expected)
            for change in (
                subscription_.Update,
                subscription_.Enable,
                subscription_.Disable,
                subscription_.Delete,
                subscription_.Revive,
            )
            for expected in (1, 2)
        ],
    ),
)

RUNNER: Final = Machine(
    "runner",
    runner_.RULES,
    runner_domain.STATES,
    runner_domain.EVENTS,
    commands_in=runner_domain.answers,
    classify=classify,
    loops=False,
)

JOB_RUNNER: Final = Machine(
    "job_runner",
    job_runner_.RULES,
    job_runner_domain.STATES,
    job_runner_domain.EVENTS,
    commands_in=job_runner_domain.answers,
    classify=classify_job,
    loops=False,
)

WORKER: Final = Machine(
    "worker",
    worker_.RULES,
    worker_domain.STATES,
    worker_domain.EVENTS,
    commands_in=worker_domain.stops,
    classify=lambda state, event: None if worker_.is_ignored(state, event) else event,
)

PUBLISHER: Final = Machine(
    "publisher",
    publisher_.RULES,
    publisher_domain.STATES,
    publisher_domain.EVENTS,
    commands_in=publisher_domain.ends,
    classify=lambda state, event: None if publisher_.is_ignored(state, event) else event,
)

RELAY: Final = Machine(
    "relay",
    relay_.RULES,
    relay_domain.STATES,
    relay_domain.EVENTS,
    commands_in=relay_domain.ends,
    classify=lambda state, event: None if relay_.is_ignored(state, event) else event,
)

MACHINES: Final = (
    *(JOB, JOB_RUNNER, LEASE, OUTBOUND, PUBLISHER, QUEUE_ENTRY),
    *(RELAY, RUN, RUNNER, SUBSCRIPTION, TICKET, WORKER),
)


# -- drawing


def draw(machine: Machine) -> str:
    """Return the machine as a Mermaid state diagram, and its refusals as a table."""
    edges: dict[tuple[str, str], dict[str, None]] = {}
    refused: dict[str, tuple[str, set[str], dict[str, None]]] = {}
    for row, result in survey(machine).fired:
        before, event = row.state.__name__, row.command.__name__
        if isinstance(result, str):
            at = refused.setdefault(row.clause, (result, set(), {}))
            at[1].add(before)
            at[2][event] = None
        elif machine.loops or result is not row.state:
            edge = (before, result.__name__)
            edges.setdefault(edge, {})[f"{event} {row.clause}"] = None
    lines = ["```mermaid", "stateDiagram-v2"]
    for (before, after), labels in edges.items():
        lines.append(f"    {before} --> {after}: {', '.join(labels)}")
    lines.append("```")
    if refused:
        lines += ["", "| refused | in | event |", "|---|---|---|"]
    for clause, (reason, befores, events) in refused.items():
        named = ", ".join(sorted(befores))
        lines.append(f"| {clause} `{reason}` | {named} | {', '.join(events)} |")
    return "\n".join(lines)
