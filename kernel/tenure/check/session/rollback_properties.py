"""Properties of decisions about runs that are rolled back, and about what an interrupt must leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import commands as c
from ...machines import input as input_
from ...machines import run as run_
from ...policy import Lane
from ...records import EntryKind, Interrupted, JournalEntry
from .step import Step

__all__ = ["ROLLBACK_PROPERTIES"]


def _rolled_back(t: Step) -> list[str]:
    return [
        run.run_id
        for run in t.runs_ended()
        if isinstance(run.state, run_.Done)
        and run.state.termination is run_.Termination.ROLLED_BACK
    ]


def invisible(t: Step) -> bool:
    """The transcript after a rollback is the one before its run."""
    before, after = t.before.session, t.after.session
    return not _rolled_back(t) or (after.leaf, after.revision) == (before.leaf, before.revision)


def nothing_started(t: Step) -> bool:
    """A run that has started a once step is not rolled back."""
    started = {e.run_id for e in t.after.world.all(JournalEntry) if e.kind is EntryKind.START}
    return not started.intersection(_rolled_back(t))


def as_asked(t: Step) -> bool:
    """A run that is to be rolled back ends in no other way, unless its last input is withdrawn."""
    cancel = t.before.session.cancel
    ended = [run.run_id for run in t.runs_ended() if run.contributors]
    if cancel is None or not cancel.rollback or cancel.run_id not in ended:
        return True
    return cancel.run_id in _rolled_back(t)


def as_answered(t: Step) -> bool:
    """The answer says whether the run that was asked to stop is rolled back."""
    outcome = t.decided.outcome
    if not isinstance(t.command, c.Interrupt) or not isinstance(outcome, Interrupted):
        return True
    if not t.command.rollback:
        return outcome.rolled_back is None
    cancel, run_id = t.after.session.cancel, outcome.run_id
    flagged = cancel is not None and cancel.run_id == run_id and cancel.rollback
    return outcome.rolled_back is (run_id is not None and (flagged or run_id in _rolled_back(t)))


def system_kept(t: Step) -> bool:
    """Only a later input supersedes an input of lane SYSTEM: neither an interrupt nor a rollback does."""
    return all(
        after.lane is not Lane.SYSTEM
        or not isinstance(after.state, input_.Ended)
        or after.state.how is not input_.How.SUPERSEDED
        or after.state.by in t.after.queue_entries
        for _, after in t.moved()
    )


ROLLBACK_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "what a run that is rolled back wrote stays invisible": invisible,
    "a run that has started a once step is not rolled back": nothing_started,
    "a run that is to be rolled back ends in no other way": as_asked,
    "the answer to an interrupt says whether the run is rolled back": as_answered,
    "no input of lane SYSTEM is lost to an interrupt or a rollback": system_kept,
}
