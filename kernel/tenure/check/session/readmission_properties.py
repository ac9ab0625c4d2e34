"""Properties of decisions about dead letters: which are readmitted, how often, and as what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import commands as c
from ...machines import input as input_
from ...records import Input
from ...replace import replace
from .snapshot import rows_of
from .step import Step

__all__ = ["READMISSION_PROPERTIES"]


def readmitted_once(t: Step) -> bool:
    """Each dead letter and the one input that has its content name each other, unless one of them was pruned."""
    entries = t.after.queue_entries
    inputs = [row for row in rows_of(t.after.world, Input).values() if row.retry_of in entries]
    named = {new.retry_of: new.input_id for new in inputs if new.input_id in entries}
    again = {
        name: entry.state.readmitted_as
        for name, entry in entries.items()
        if isinstance(entry.state, input_.Ended) and entry.state.readmitted_as in entries
    }
    several = [new for new in inputs if new.input_id in entries]
    return named == again and len(named) == len(several)


def readmitted_whole(t: Step) -> bool:
    """Readmit changes one dead letter and adds one ready input, with its content and without its key."""
    if not isinstance(t.command, c.Readmit):
        return True
    name, new_id = t.command.input_id, t.command.new_id
    old, new = t.before.queue_entries[name].state, t.after.queue_entries[new_id].state
    if not isinstance(old, input_.Ended) or old.how is not input_.How.DEAD_LETTERED:
        return False
    if [after.state for _, after in t.moved()] != [replace(old, readmitted_as=new_id)]:
        return False
    by_id = {each.input_id: each for each in rows_of(t.after.world, Input).values()}
    was, now = by_id[name], by_id[new_id]
    content = replace(was, input_id=new_id, key_value=None, retry_of=name)
    return now == replace(content, admitted_at_ms=now.admitted_at_ms) and isinstance(
        new, input_.Ready
    )


READMISSION_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "a dead letter is readmitted at most once, and each names the other": readmitted_once,
    "Readmit adds one ready input with the content of one dead letter": readmitted_whole,
}
