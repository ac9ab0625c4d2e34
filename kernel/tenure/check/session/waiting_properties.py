"""Properties of tickets and of runs that wait for them.

Written from the design and over all rows, without the functions of `commands.tickets` and `scheduling`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ... import commands as c
from ...machines import lease as lease_
from ...machines import run as run_
from ...machines import ticket as ticket_
from ...records import Run, Ticket
from .ordering_oracle import left_behind, meets
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["WAITING_PROPERTIES", "WAITING_STATES"]


FOLDING: Final = ("user_input", "background")


def tickets_of(b: Snapshot) -> dict[str, Ticket]:
    return {each.ticket_id: each for each in rows_of(b.world, Ticket).values()}


def waiting_run(b: Snapshot) -> Run | None:
    found = [run for run in b.runs.values() if isinstance(run.state, run_.Waiting)]
    return found[0] if found else None


# -- of every state


def lists_agree(b: Snapshot) -> bool:
    """A run names its open tickets; the session counts them, and those of ended runs that Sweep has to settle."""
    open_ = {t.ticket_id: t for t in tickets_of(b).values() if isinstance(t.state, ticket_.Open)}
    left = set(open_)
    for run in b.unfinished():
        own = {each.ticket_id: each for each in run.open_tickets or ()}
        if own.keys() != {t.ticket_id for t in open_.values() if t.run_id == run.run_id}:
            return False
        if any(each.deadline_ms != open_[name].deadline_ms for name, each in own.items()):
            return False
        left -= own.keys()
    return (b.session.open_ticket_count or 0) == len(open_) and (not left or b.session.sweep)


def waits_for_something(b: Snapshot) -> bool:
    """A run that waits has a ticket that is open, or a reason for which what comes in next enters it."""
    run = waiting_run(b)
    if run is None:
        return True
    assert isinstance(run.state, run_.Waiting)
    open_ = {each.ticket_id for each in run.open_tickets or ()}
    if not set(run.state.tickets) <= open_:
        return False
    folds = run.state.cause.value in FOLDING and not run.open_calls
    return bool(run.state.tickets) or folds


def at_rest(b: Snapshot) -> bool:
    """A run that waits is the open turn, holds no lease, and was not asked to stop."""
    run, session = waiting_run(b), b.session
    if run is None:
        return True
    free = isinstance(session.lease, lease_.Vacant) or session.lease_run != run.run_id
    return session.open_run == run.run_id and free and session.cancel is None


def asks_people(b: Snapshot) -> bool:
    run, tickets = waiting_run(b), tickets_of(b)
    named = getattr(None if run is None else run.state, "tickets", ())
    person = any(tickets[name].offers for name in named)
    return (b.session.asking_since_ms is not None) is person


WAITING_STATES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "the open tickets of a run are those that it names and the session counts": lists_agree,
    "a run that waits has an open ticket or a reason that lets inputs in": waits_for_something,
    "a run that waits is the open turn, without a lease": at_rest,
    "a session asks people exactly while its run waits for them": asks_people,
}


# -- of every decision


def settled_once(t: Step) -> bool:
    """The first settlement wins for ever, and only an open ticket is settled."""
    if isinstance(t.command, c.Prune):
        return True  # NOTHING_LIVE
    before, after = tickets_of(t.before), tickets_of(t.after)
    return all(
        name in after and (isinstance(old.state, ticket_.Open) or after[name] == old)
        for name, old in before.items()
    )


def enough(before: Run, tickets: dict[str, Ticket]) -> bool:
    """Enough of the tickets that a run waits for are settled."""
    assert isinstance(before.state, run_.Waiting)
    settled = [isinstance(tickets[n].state, ticket_.Settled) for n in before.state.tickets]
    return bool(settled) and sum(settled) >= before.state.needs


def leaves_for_a_reason(t: Step) -> bool:
    """A run that waits goes on by a settlement, or by an input that enters it; an end needs who ends it."""
    before = waiting_run(t.before)
    if before is None:
        return True
    after = t.after.runs[before.run_id]
    match after.state:
        case run_.Waiting():
            return not enough(before, tickets_of(t.after))
        case run_.Rescheduled():
            return isinstance(t.command, c.Decide | c.Settle | c.Sweep) and enough(
                before, tickets_of(t.after)
            )
        case run_.Running():
            entered = after.contributors[len(before.contributors) :]
            return isinstance(t.command, c.Begin) and len(entered) == 1
    if isinstance(t.command, c.Begin):
        heads = t.before.queue_entries.values()
        return any(_ends(before, entry.input_id, t) for entry in heads)
    ends = c.RequestCancel | c.CancelInput | c.Interrupt | c.Stop | c.Reset | c.Destroy
    return isinstance(t.command, ends)


def _ends(run: Run, input_id: str, t: Step) -> bool:
    entry = t.after.queue_entries[input_id]
    before = t.before.queue_entries[input_id]
    waited = before.state.__class__.__name__ in ("Ready", "Delayed")  # Begin promotes first
    left = entry.state.__class__.__name__ == "Delayed" or left_behind(entry, ())
    return waited and not left and meets(run, before) == "ends"


def enters_by_the_table(t: Step) -> bool:
    """Begin folds only what enters, as the table says."""
    before = waiting_run(t.before)
    if before is None or not isinstance(t.command, c.Begin):
        return True
    after = t.after.runs[before.run_id]
    entered = after.contributors[len(before.contributors) :]
    entries = [t.before.queue_entries[each.input_id] for each in entered]
    return all(
        entry.state.__class__.__name__ != "Ready" or meets(before, entry) == "enters"
        for entry in entries
    )


def same_turn(t: Step) -> bool:
    """Entering again continues the turn: its number stays, and its checkpoints are counted on."""
    before = waiting_run(t.before)
    if before is None:
        return True
    after = t.after.runs[before.run_id]
    return after.turn == before.turn and after.next_checkpoint >= before.next_checkpoint


def parks_unanswered(t: Step) -> bool:
    """A run does not park if enough of its tickets are settled; else it waits for what is missing, and no more."""
    if not isinstance(t.command, c.Park):
        return True
    after, tickets = t.after.runs[t.command.run_id], tickets_of(t.after)
    state = after.state
    named = {*t.command.waits_for, *[new.ticket_id for new in t.command.tickets]}
    if not isinstance(state, run_.Waiting):
        return isinstance(t.decided.outcome, c.GoOn)
    settled = [isinstance(tickets[n].state, ticket_.Settled) for n in named]
    needed = len(named) if t.command.needs is None else t.command.needs
    return not named or 0 < state.needs == needed - sum(settled) <= len(state.tickets)


def ended_at_once(t: Step) -> bool:
    """A stop, a reset, a cancel and an interrupt of its lane end a run that waits, with no worker alive."""
    before = waiting_run(t.before)
    if before is None:
        return True
    ends = isinstance(t.command, c.Stop | c.Reset | c.Destroy) or (
        isinstance(t.command, c.RequestCancel) and t.command.run_id == before.run_id
    )
    ends = ends or (isinstance(t.command, c.Interrupt) and before.lane == "user")
    return not ends or isinstance(t.after.runs[before.run_id].state, run_.Done)


def newly(t: Step, *hows: ticket_.Action) -> list[str]:
    """Return the tickets that this decision has settled in one of these ways."""
    before = {name: _how(each) for name, each in tickets_of(t.before).items()}
    after = {name: _how(each) for name, each in tickets_of(t.after).items()}
    return [name for name, how in after.items() if how in hows and how != before.get(name)]


def _how(ticket: Ticket) -> ticket_.Action | None:
    return ticket.state.how if isinstance(ticket.state, ticket_.Settled) else None


def superseded_by_enough(t: Step) -> bool:
    """A ticket is superseded only by a Park that has enough without it, and then none of that wait is left open."""
    lost = newly(t, ticket_.Action.SUPERSEDED)
    if not lost:
        return True
    if not isinstance(t.command, c.Park) or t.command.rest is ticket_.Rest.KEEP:
        return False
    before, after, named = tickets_of(t.before), tickets_of(t.after), t.command.waits_for
    won = [name for name in named if before[name] == after[name]]
    settled = all(isinstance(after[name].state, ticket_.Settled) for name in named)
    needed = len(named) if t.command.needs is None else t.command.needs
    return settled and set(lost) <= set(named) and len(won) >= needed


def ends_settle_work(t: Step) -> bool:
    """Only a Settle settles a ticket by the end of work, and it moves nothing that was settled before."""
    ended = newly(t, *ticket_.ENDS)
    if not isinstance(t.command, c.Settle):
        return not ended
    return ended == [t.command.ticket_id] or t.before.world == t.after.world


WAITING_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "the first settlement of a ticket wins for ever": settled_once,
    "a run that waits goes on by an answer, a timeout or an input that enters": leaves_for_a_reason,
    "what enters a run that waits is what the table lets in": enters_by_the_table,
    "entering again continues the same turn": same_turn,
    "an answer that was given before parking is not lost": parks_unanswered,
    "a ticket is superseded only once its run has enough without it": superseded_by_enough,
    "the end of work settles its ticket, or changes nothing": ends_settle_work,
    "a wait blocks no interrupt, stop or cancel": ended_at_once,
}
