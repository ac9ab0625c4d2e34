"""Properties of ends that are sent to tickets.  Written without the functions of `commands.work_end`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Final

from ... import commands as c
from ...machines import input as input_
from ...machines import run as run_
from ...machines.ticket import Action, Rest
from ...outbound_records import Outbound
from ...records import QueueEntry, Ticket
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["WORK_PROPERTIES"]


def settles_of(b: Snapshot) -> dict[str, QueueEntry]:
    """Return the inputs that have ended and settle a ticket."""
    return {
        name: entry
        for name, entry in rows_of(b.world, QueueEntry).items()
        if entry.settles is not None and isinstance(entry.state, input_.Ended)
    }


def ends_sent(t: Step) -> Counter[tuple[str, str]]:
    """Return the tickets that this decision tells of an end, and which one."""
    before = {row.number for row in t.before.world.all(Outbound)}
    texts = [
        json.loads(row.command) for row in t.after.world.all(Outbound) if row.number not in before
    ]
    fields = [text["fields"] for text in texts if text["command"] == "Settle"]
    return Counter((each["ticket_id"], each["how"]) for each in fields)


def expected(entry: QueueEntry, t: Step) -> str:
    """Return the end of the work of an input."""
    state = entry.state
    assert isinstance(state, input_.Ended)
    run = t.after.runs.get(state.run_id or "")
    match state.how:
        case input_.How.DEAD_LETTERED:
            return "failed"
        case input_.How.ABANDONED:
            return "abandoned"
        case input_.How.CONSUMED if run is not None and isinstance(run.state, run_.Done):
            ends = {run_.Termination.FINISHED: "completed", run_.Termination.ERROR: "failed"}
            return ends.get(run.state.termination, "cancelled")
    return "cancelled"


def told_once(t: Step) -> bool:
    """An input that settles a ticket tells it of its end, when it ends, and never again."""
    if isinstance(t.command, c.Prune | c.Resend):
        return True  # what was written before is removed, or written again by hand
    old, ended = settles_of(t.before), settles_of(t.after)
    due = Counter(
        (entry.settles.ticket_id, expected(entry, t))
        for name, entry in ended.items()
        if name not in old and entry.settles is not None
    )
    return ends_sent(t) == due


def cancelled_if_asked(t: Step) -> bool:
    """A Park cancels exactly the work of the tickets that it supersedes, if that is asked."""
    if not isinstance(t.command, c.Park):
        return True
    before = {row.number for row in t.before.world.all(Outbound)}
    rows = [row for row in t.after.world.all(Outbound) if row.number not in before]
    old, new = (rows_of(b.world, Ticket) for b in (t.before, t.after))
    lost = [
        each.awaits.done_by
        for name, each in new.items()
        if each.awaits is not None
        and getattr(each.state, "how", None) is Action.SUPERSEDED
        and (name not in old or old[name].state != each.state)
    ]
    asked = lost if t.command.rest is Rest.CANCEL else []
    return sorted(row.to for row in rows) == sorted(asked)


WORK_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "an input that settles a ticket tells it of its end, once, when it ends": told_once,
    "the work of tickets that are superseded is cancelled exactly if that is asked": cancelled_if_asked,
}
