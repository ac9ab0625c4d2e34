"""Ask a run to stop; take back what a user has said.  Spec: specs/cancel.md."""

from __future__ import annotations

from attrs import frozen

from ..event import Happening
from ..indexes import BY_KEY, SLOT
from ..machines import lease as lease_
from ..machines import run as run_
from ..machines.input import How
from ..outcome import Decided, Insert, Refusal, Refused
from ..policy import Lane
from ..queries import Command, Each, First, Get, Reads, read
from ..records import Cancel, Executed, Input, Phase, Raise, Run
from ..replace import replace
from ..scheduling import outdated
from .admit import Ingress, admit_into, look_up, open_key_holders, slots_of
from .executed import misused
from .session_view import Desk, desk
from .submission import HowAdmitted, NewInput, Receipt
from .transaction import Draft


@frozen
class CancelRequested:
    """`ended`: the run is over in this transaction; else its holder, or the next one, closes it."""

    run_id: str
    ended: bool


@frozen
class Stopping(Desk):
    run: Run | None
    executed: Executed | None


@frozen
class RequestCancel(Command[Stopping, CancelRequested]):
    """Ask exactly this run to stop.  Touches at most 64 places and a handful.  Refusals: UNKNOWN_RUN, ENDED."""

    session_id: str
    command_id: str
    run_id: str

    def reads(self) -> Reads[Stopping]:
        s = self.session_id
        return read(
            Stopping, *desk(s), Get(Run, (s, self.run_id)), Get(Executed, (s, self.command_id))
        )

    def decide(self, view: Stopping, now_ms: int) -> Decided[CancelRequested] | Refused:
        session, run, executed = view.session, view.run, view.executed
        if refused := misused("request_cancel", self.command_id, executed):
            return refused
        if executed is not None:
            answer = CancelRequested(self.run_id, executed.flag)
            return Decided(answer, "CANCEL-1", replayed=True)
        if session is None or run is None:
            return Refused(Refusal.UNKNOWN_RUN, "CANCEL-2", self.run_id)
        if isinstance(run.state, run_.Done):
            return Refused(Refusal.ENDED, "CANCEL-4", run.state)
        draft = Draft.on(view, session, now_ms, self.command_id)
        if taken_back(draft, run):
            return Refused(Refusal.ENDED, "CANCEL-11", session.mark(run.lane))
        cancel = Cancel(self.run_id, self.command_id)
        ended = self._stop(draft, run, cancel)
        draft.writes.append(
            Insert(
                Executed(
                    self.session_id, self.command_id, "request_cancel", now_ms,
                    self.run_id, flag=ended,
                )
            )
        )  # fmt: skip
        return draft.decided(CancelRequested(self.run_id, ended), "CANCEL-5")

    def _stop(self, draft: Draft, run: Run, cancel: Cancel) -> bool:
        session, lease = draft.session, draft.session.lease
        if isinstance(lease, lease_.Held) and session.lease_run == run.run_id:
            if lease_.live_at(lease, draft.now_ms):
                draft.ask_to_cancel(run, cancel)
                return False
            draft.say(Happening.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
            draft.session = replace(session, cancel=cancel)
            draft.lose_lease(lease_.step(lease, lease_.End(draft.now_ms)))
            left = draft.runs.get(run.run_id)
            if left is not None and left.state != run_.Rescheduled():
                draft.reschedule(left, None)  # whatever it has been through: to be closed at once
            return left is None
        if run.progress:
            draft.ask_to_cancel(run, cancel)
            return False
        draft.say(Happening.CANCEL_REQUESTED, run.run_id, detail=cancel.by)
        draft.end_cancelled(run, cancel.how, cancel.by)
        return True


def taken_back(draft: Draft, run: Run) -> bool:
    """CANCEL-11: superseded by a mark for every reader, and nothing keeps it alive."""
    session, lease = draft.session, draft.session.lease
    live = isinstance(lease, lease_.Held) and lease_.live_at(lease, draft.now_ms)
    return outdated(session, run) and not (live and session.lease_run == run.run_id)


def end_if_over(draft: Draft, lanes: tuple[Lane, ...]) -> None:
    """LEASE-10: who takes a run's inputs back needs its lease to be over; a holder that was cut off must not go on."""
    lease, run = draft.session.lease, draft.runs.get(draft.session.lease_run or "")
    if isinstance(lease, lease_.Held) and run is not None and run.lane in lanes:
        outcome = lease_.step(lease, lease_.End(draft.now_ms))
        if not isinstance(outcome, Refused) and not run.progress:
            draft.lose_lease(outcome)


def raise_mark(draft: Draft, lane: Lane, how: How, by: str) -> int:
    """CANCEL-6: what the lane admitted so far ends like this, from now on, for every reader."""
    end_if_over(draft, (lane,))
    session = draft.session
    mark = session.mark(lane) + 1
    if lane is Lane.USER:
        draft.session = replace(session, user_mark=mark, sweep=True)
    else:
        draft.session = replace(session, system_mark=mark, sweep=True)
    draft.writes.append(Insert(Raise(session.session_id, lane, mark, how, by)))
    return mark


def cancel_working(draft: Draft, how: How, by: str, lanes: tuple[Lane, ...]) -> str | None:
    """CANCEL-7: the run under the lease, or the open turn, gets the flag and ends its inputs itself."""
    session = draft.session
    run = draft.runs.get(session.open_run or session.lease_run or "")
    if run is None or run.lane not in lanes or session.cancel is not None:
        return None
    live = isinstance(session.lease, lease_.Held) and lease_.live_at(session.lease, draft.now_ms)
    if not run.progress and not live:
        return None  # the mark alone takes it back
    draft.ask_to_cancel(run, Cancel(run.run_id, by, how))
    return run.run_id


# -- interrupt


@frozen
class Interrupted:
    """`run_id`: the run that was asked to stop.  `replacement`: what was admitted in its place."""

    mark: int
    run_id: str | None
    replacement: Receipt | None


@frozen
class Interjection(Ingress):
    executed: Executed | None


@frozen
class Interrupt(Command[Interjection, Interrupted]):
    """Supersede what lane USER admitted so far, ask its work to stop, and admit a replacement, all or nothing.

    What was promised to somebody else (lane SYSTEM) is never lost to an interrupt.  Touches a handful of rows.
    Refusals: UNKNOWN_SESSION, and those of Admit for the replacement.
    """

    session_id: str
    command_id: str
    replacement: NewInput | None = None

    def reads(self) -> Reads[Interjection]:
        s = self.session_id
        new = () if self.replacement is None else (self.replacement,)
        keys = [n.key for n in new if n.key is not None]
        return read(
            Interjection,
            *desk(s, ready=2),
            Each(tuple([Get(Input, (s, n.input_id)) for n in new])),
            Each(tuple([First(BY_KEY, (s, key), 1) for key in keys])),
            Each(open_key_holders(s, new)),
            Each(tuple([First(SLOT, (s, slot), 1, backwards=True) for slot in slots_of(new)])),
            Get(Executed, (s, self.command_id)),
        )

    def decide(self, view: Interjection, now_ms: int) -> Decided[Interrupted] | Refused:
        session, executed = view.session, view.executed
        if refused := misused("interrupt", self.command_id, executed):
            return refused
        if executed is not None:
            answer = Interrupted(executed.counts[0], executed.run_id, self._receipt(executed))
            return Decided(answer, "CANCEL-8", replayed=True)
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "CANCEL-9", self.session_id)
        if session.phase is Phase.DESTROYED:
            return Refused(Refusal.PHASE, "CANCEL-12", session.phase.value)
        draft = Draft.on(view, session, now_ms, self.command_id)
        mark = raise_mark(draft, Lane.USER, How.SUPERSEDED, self.command_id)
        run_id = cancel_working(draft, How.SUPERSEDED, self.command_id, (Lane.USER,))
        draft.say(Happening.INTERRUPTED, run_id, detail=str(mark))
        receipt = None
        if self.replacement is not None:
            known = look_up(draft.session, view, (self.replacement,))
            if isinstance(known, Refused):
                return known
            admitted = admit_into(draft, view, (self.replacement,), known)
            if isinstance(admitted, Refused):
                return admitted
            receipt = admitted.receipts[0]
        text = "" if receipt is None else f"{receipt.how.value} {receipt.input_id}"
        draft.writes.append(
            Insert(
                Executed(
                    self.session_id, self.command_id, "interrupt", now_ms, run_id,
                    counts=(mark,), text=text,
                )
            )
        )  # fmt: skip
        return draft.decided(Interrupted(mark, run_id, receipt), "CANCEL-10")

    def _receipt(self, executed: Executed) -> Receipt | None:
        if not executed.text:
            return None
        how, _, input_id = executed.text.partition(" ")
        return Receipt(input_id, HowAdmitted(how))
