"""Mutants: classic bugs that are put into the kernel one by one.  The explorer finds each by a short trace.

A property that no bug violates shows nothing.  Each mutant names the model that finds it, the properties of which it
must violate one, and the maximum length of the trace.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve, frozen

from tenure import failure, records, scheduling
from tenure.check import search
from tenure.check.session import ordering_oracle
from tenure.check.session.configs import (
    BARRIER,
    CANCEL,
    DEAD,
    DEBOUNCE,
    DELAY,
    EDITS,
    FAILURE,
    INTERRUPT,
    INTERRUPTS,
    KEYS,
    LEASE,
    NEXT_ORDER,
    ORDER,
    PUBLISHING,
    RETRY,
    ROLLBACK,
    STEERING,
    STEERING_CALLS,
    STEERING_STOP,
    STEERING_WAKE,
    STOP,
)
from tenure.check.session.configs_frames import BLOBS, FRAMES
from tenure.check.session.configs_import import IMPORT
from tenure.check.session.configs_waiting import (
    APPROVAL,
    CHILDREN,
    JOIN,
    WAITING,
    WAITING_ANY,
    WAITING_INPUT,
)
from tenure.check.session.model import NO_LATE_RETRY, ONCE
from tenure.check.session.states import ModelConfig
from tenure.check.session.steering_properties import TAKES_ALL
from tenure.check.session.transitions import (
    NO_ASSERTION_ERROR,
    NO_HOT_LOOP,
    REPLAYED,
    WORK_IS_DUE,
)
from tenure.commands import (
    admit,
    begin,
    cancel,
    commit,
    contributors,
    edit,
    grant,
    import_page,
    nodes,
    park,
    publish,
    readmit,
    settlement,
    states,
    steering,
    sweep,
    switch,
    withdraw,
    work_end,
)
from tenure.commands import (
    checkpoint as checkpoint,
)
from tenure.commands import (
    hints as hinting,
)
from tenure.commands import (
    holder as holder,
)
from tenure.commands import (
    transaction as transaction,
)
from tenure.machines import input as input_
from tenure.machines import lease
from tenure.machines import run as run_
from tenure.machines import ticket as ticket_
from tenure.machines.input import How, Ready
from tenure.outcome import Decided, Stepped, Update
from tenure.policy import LANES, Lane
from tenure.records import Contributor, Phase, Run
from tenure.replace import replace
from tenure.transcript import Form

Patch = Callable[[pytest.MonkeyPatch], None]


@frozen
class Mutant:
    name: str
    config: ModelConfig
    steps_max: int
    violates: tuple[str, ...]  # the beginnings of property names
    patch: Patch


@pytest.fixture(autouse=True)
def without_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


# -- the bugs


def oracle_agrees(patch: pytest.MonkeyPatch) -> None:
    """The oracle takes the due time from the kernel, so that the properties of order must find a bug."""

    def starts_at(session: Any, runs: Any, queue_entries: Any, now_ms: int | None) -> int | None:
        unfinished = {run.run_id: run for run in runs if not isinstance(run.state, run_.Done)}
        ready: dict[Lane, list[Any]] = {lane: [] for lane in LANES}
        for entry in queue_entries:
            if isinstance(entry.state, Ready):
                ready[entry.lane].append(entry)
        for entries in ready.values():
            entries.sort(key=lambda e: (-e.state.mark, e.priority, e.state.ready_rank))
        step = scheduling.next_work(session, unfinished, ready, now_ms)
        return step.due_at_ms if isinstance(step, scheduling.Wait) else 0

    patch.setattr(ordering_oracle, "starts_at", starts_at)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    for module in (checkpoint, commit, holder):
        patch.setattr(module, "check_fence", lambda session, fence, run_id: None)


def no_generation(patch: pytest.MonkeyPatch) -> None:
    step = lease.step

    def stuck(state: Any, command: Any) -> Any:
        outcome = step(state, command)
        if isinstance(command, lease.Acquire) and isinstance(outcome, Stepped):
            return replace(outcome, state=replace(outcome.state, generation=state.generation))
        return outcome

    patch.setattr(lease, "step", stuck)


def expires_early(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        lease,
        "live_at",
        lambda held, now: held.expires_at_ms - 2 * held.ttl_ms <= now < held.expires_at_ms,
    )


def future_lease_accepted(patch: pytest.MonkeyPatch) -> None:
    """A lease that expires too far in the future, because the clock was set back, counts as live."""
    patch.setattr(lease, "live_at", lambda held, now: now <= held.expires_at_ms)


def replay_by_number_alone(patch: pytest.MonkeyPatch) -> None:
    decide = checkpoint.Checkpoint.decide

    def mutated(self: Any, view: Any, now_ms: int) -> Any:
        if view.written:
            answer = checkpoint.Checkpointed(self.n + 1, view.run.tip)
            return Decided(answer, "JOURNAL-2", replayed=True)
        return decide(self, view, now_ms)

    patch.setattr(checkpoint.Checkpoint, "decide", mutated)


def due_not_computed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transaction, "due_at_ms", lambda session, *rest: session.due_at_ms)


def due_without_delayed(patch: pytest.MonkeyPatch) -> None:
    """The bug is in the kernel and in the oracle, so only a run that can begin and is not due shows it."""
    compute = scheduling.due_at_ms
    for module in (transaction, holder):
        patch.setattr(
            module, "due_at_ms", lambda s, runs, ready, delayed: compute(s, runs, ready, ())
        )
    patch.setattr("tenure.check.session.ordering_oracle.promotions", lambda session, entries: [])


def ahead_is_not_due(patch: pytest.MonkeyPatch) -> None:
    """A retry waits for its time, also if the clock was set back."""
    patch.setattr(run_, "backoff_is_over", lambda since, due, now: due is None or due <= now)


def since_not_stored(patch: pytest.MonkeyPatch) -> None:
    step = run_.step

    def without(state: Any, command: Any) -> Any:
        stepped = step(state, command)
        if isinstance(stepped, Stepped) and isinstance(stepped.state, run_.Rescheduled):
            return evolve(stepped, state=evolve(stepped.state, since_ms=None))
        return stepped

    patch.setattr(run_, "step", without)


def ahead_is_not_found(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transaction, "retry_from_ms", lambda session, *rest: None)


def due_as_first_written(patch: pytest.MonkeyPatch) -> None:
    """The first wording of the design: a ready input makes a session due, even after a run that holds."""
    compute, starts_at = scheduling.due_at_ms, ordering_oracle.starts_at

    def eager(session: Any, runs: Any, ready: Any, delayed: Any) -> int | None:
        vacant = isinstance(session.lease, lease.Vacant)
        return 0 if vacant and any(ready.values()) else compute(session, runs, ready, delayed)

    def eager_oracle(session: Any, runs: Any, queue_entries: Any, now_ms: int) -> int | None:
        entries = tuple(queue_entries)
        ready = any(isinstance(entry.state, Ready) for entry in entries)
        return 0 if ready else starts_at(session, runs, entries, now_ms)

    patch.setattr(transaction, "due_at_ms", eager)
    patch.setattr(ordering_oracle, "starts_at", eager_oracle)


def failure_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        holder,
        "decide_retry",
        lambda retry, failed, now, limits: failure.Retry(now + 250, retry, False, "FAIL-5"),
    )


def loss_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        transaction,
        "decide_after_loss",
        lambda run_id, retry, recorded, now, limits: failure.Retry(
            now + 250, retry, False, "FAIL-8"
        ),
    )


def limits_ignored(patch: pytest.MonkeyPatch) -> None:
    decide = failure.decide_retry
    patch.setattr(
        holder, "decide_retry", lambda retry, failed, now, limits: decide(retry, failed, now)
    )


def mark_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scheduling, "head", lambda session, ready, lane: ready[0] if ready else None)


def interrupt_without_flag(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cancel, "cancel_working", lambda *args: None)


def lapsed_lease_left(patch: pytest.MonkeyPatch) -> None:
    """The holder of a lapsed lease commits what an interrupt has taken back.  The kernel had this bug."""
    patch.setattr(cancel, "end_lapsed_lease", lambda *args: None)


def requeued(patch: pytest.MonkeyPatch) -> None:
    end_or_retry = transaction.Transaction.end_or_retry

    def back(self: Any, run: Any, verdict: Any, kind: Any, message: str) -> str:
        if message == "lost":
            self.split(run, message)
            return "split"
        return end_or_retry(self, run, verdict, kind, message)

    patch.setattr(transaction.Transaction, "end_or_retry", back)


def cancelled_run_waits(patch: pytest.MonkeyPatch) -> None:
    def ask(self: Any, run: Any, asked: Any) -> None:
        self.session = replace(self.session, cancel=asked)

    patch.setattr(transaction.Transaction, "ask_to_cancel", ask)


def cancelled_retried(patch: pytest.MonkeyPatch) -> None:
    """A cancelled run that fails is retried like any other run."""
    end_or_retry = transaction.Transaction.end_or_retry

    def without_cancel(self: Any, run: Any, verdict: Any, kind: Any, message: str) -> str:
        session, self.session = self.session, replace(self.session, cancel=None)
        verdict_text = end_or_retry(self, run, verdict, kind, message)
        self.session = replace(self.session, cancel=session.cancel)
        return verdict_text

    patch.setattr(transaction.Transaction, "end_or_retry", without_cancel)


def hold_ignored(patch: pytest.MonkeyPatch) -> None:
    first_of = scheduling._first_of

    def passing(candidates: Any, unfinished: int, now_ms: int | None) -> Any:
        awake = [
            c for c in candidates
            if not isinstance(c[2], Run) or not sleeping(c[2], now_ms)
        ]  # fmt: skip
        return first_of(awake or candidates, unfinished, now_ms)

    def sleeping(run: Any, now_ms: int | None) -> bool:
        due = run.state.due_at_ms
        return due is not None and (now_ms is None or due > now_ms)

    patch.setattr(scheduling, "_first_of", passing)
    oracle_agrees(patch)


def order_by_rank_alone(patch: pytest.MonkeyPatch) -> None:
    first_of = scheduling._first_of
    patch.setattr(
        scheduling,
        "_first_of",
        lambda candidates, *rest: first_of(sorted(candidates, key=lambda c: c[1]), *rest),
    )


def end_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        holder,
        "replay_or_fence",
        lambda session, run, fence: checkpoint.check_fence(session, fence, run.run_id),
    )


def begin_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(begin.Begin, "_replay", lambda self, view, session: None)


def nothing_left_to_sweep(patch: pytest.MonkeyPatch) -> None:
    """No sweep ends what a mark has taken back from a lost run."""
    patch.setattr(transaction.Transaction, "_left_over", lambda self, run: False)
    patch.setattr(sweep, "_kept", lambda drafted, run: True)


def withdrawn_under_a_live_lease(patch: pytest.MonkeyPatch) -> None:
    bound = withdraw.withdraw_bound

    def anyway(drafted: Any, run: Any, input_id: str, by: str) -> bool:
        session, drafted.session = drafted.session, replace(drafted.session, lease_run=None)
        done = bound(drafted, run, input_id, by)
        drafted.session = replace(drafted.session, lease_run=session.lease_run)
        return done

    patch.setattr(withdraw, "withdraw_bound", anyway)


def settled_wrongly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(run_, "settle", lambda termination, written: How.CONSUMED)


def next_without_order(patch: pytest.MonkeyPatch) -> None:
    """A commit that begins the next run takes a user's input first, against the order."""
    walk = scheduling.next_work

    def user_first(session: Any, runs: Any, ready: Any, now_ms: int | None) -> Any:
        lane = Lane.USER
        if isinstance(session.lease, lease.Held) and ready[lane]:
            return scheduling.NewRun(lane)
        return walk(session, runs, ready, now_ms)

    patch.setattr(scheduling, "next_work", user_first)


def two_runs(patch: pytest.MonkeyPatch) -> None:
    """A run begins although another turn is open."""
    walk = scheduling.next_work

    def beside(session: Any, runs: Any, ready: Any, now_ms: int | None) -> Any:
        return walk(replace(session, open_run=None), runs, ready, now_ms)

    patch.setattr(scheduling, "next_work", beside)
    oracle_agrees(patch)


def open_key_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transaction.Transaction, "release_key", lambda self, key, lane, mark: None)


def lapsed_lease_not_ended(patch: pytest.MonkeyPatch) -> None:
    """Begin does not end a lapsed lease."""
    patch.setattr(grant, "end_lapsed", lambda drafted, acquire: None)
    patch.setattr(begin, "end_lapsed", lambda drafted, acquire: None)


def no_hint_at_the_end_of_a_lease(patch: pytest.MonkeyPatch) -> None:
    """A bug that the kernel had: what was due after a short lease waited for a poll."""
    hints = hinting.hints_of

    def earlier_only(before: Any, after: Any, *named: str | None) -> Any:
        due = after.due_at_ms
        if before is not None and None not in (due, before.due_at_ms) and due >= before.due_at_ms:
            return ()
        return hints(before, after, *named)

    patch.setattr(transaction, "hints_of", earlier_only)


def barrier_ignored(patch: pytest.MonkeyPatch) -> None:
    first_of = scheduling._first_of

    def passing(candidates: Any, unfinished: int, now_ms: int | None) -> Any:
        plain = [
            (*c[:2], c[2] if isinstance(c[2], Run) else without_barrier(c[2])) for c in candidates
        ]
        return first_of(plain, unfinished, now_ms)

    def without_barrier(entry: Any) -> Any:
        return replace(entry, state=replace(entry.state, barrier=None))

    patch.setattr(scheduling, "_first_of", passing)
    oracle_agrees(patch)


def coalesced_at_the_tail(patch: pytest.MonkeyPatch) -> None:
    state_of = admit._state_of
    patch.setattr(
        admit,
        "_state_of",
        lambda tx, new, policy, slot, rank, delayed: state_of(
            tx, new, policy, slot, None, delayed=delayed
        ),
    )


def replaced_and_kept(patch: pytest.MonkeyPatch) -> None:
    """The old input waits beside the new one, at the same place."""
    patch.setattr(edit, "end_for", lambda tx, old, how, new_id: None)


def reordered_by_halves(patch: pytest.MonkeyPatch) -> None:
    """The first input gets its new place, and the others keep theirs."""
    exchanged = edit._exchanged
    patch.setattr(edit, "_exchanged", lambda entries: [exchanged(entries)[0], *entries[1:]])


def readmitted_and_kept(patch: pytest.MonkeyPatch) -> None:
    """The dead letter stays in the list, so the next command readmits it again."""
    step = input_.step

    def unmarked(state: Any, command: Any) -> Any:
        if isinstance(command, input_.Readmit):
            return Stepped(state, "PLACE-31")
        return step(state, command)

    patch.setattr(input_, "step", unmarked)


def readmitted_in_front(patch: pytest.MonkeyPatch) -> None:
    admit_into = admit.admit_into
    patch.setattr(
        readmit, "admit_into", lambda tx, view, new, known: admit_into(tx, view, new, known, 0)
    )


def readmitted_again_when_sent_again(patch: pytest.MonkeyPatch) -> None:
    """The command leaves no row, so its repetition is refused instead of replayed."""
    patch.setattr(transaction.Transaction, "remember", lambda *given: None)


def rolled_back_after_a_once_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint.Checkpoint, "_reversible", lambda self, run: True)


def rolled_back_in_sight(patch: pytest.MonkeyPatch) -> None:
    """The leaf moves over what a run wrote that is rolled back."""
    close = transaction.Transaction.close

    def visible(self: Any, run: Any, asked: Any) -> None:
        if run.tip is not None:
            self.update(leaf=run.tip, revision=self.session.revision + 1)
        close(self, run, asked)

    patch.setattr(transaction.Transaction, "close", visible)


def lapse_forgets_the_rollback(patch: pytest.MonkeyPatch) -> None:
    end_or_retry = transaction.Transaction.end_or_retry

    def forgetful(self: Any, run: Any, verdict: Any, kind: Any, message: str) -> str:
        asked = self.session.cancel
        if asked is not None:
            self.update(cancel=replace(asked, rollback=False))
        return end_or_retry(self, run, verdict, kind, message)

    patch.setattr(transaction.Transaction, "end_or_retry", forgetful)


def rolled_back_by_a_commit_that_finishes(patch: pytest.MonkeyPatch) -> None:
    """The holder's commit ends the run as cancelled."""
    patch.setattr(
        transaction.Transaction,
        "close",
        lambda self, run, asked: self.finish(run, run_.Termination.CANCELLED, asked.by),
    )


# -- steering


def without_node(patch: pytest.MonkeyPatch) -> None:
    """What a checkpoint takes is named by no node."""
    append = nodes.append_nodes

    def appended(session: Any, run: Any, n: int, new: Any, contents: Any, *rest: Any) -> Any:
        own = [i for i, node in enumerate(new) if node.form is not Form.INPUTS]
        return append(
            session, run, n, tuple([new[i] for i in own]), [contents[i] for i in own], *rest
        )

    patch.setattr(checkpoint, "append_nodes", appended)


def mark_of_the_run(patch: pytest.MonkeyPatch) -> None:
    """An input that was taken has the lane and the mark of its run."""

    def contributor(*given: Any) -> Contributor:
        made = Contributor(*given)
        return made if made.checkpoint is None else replace(made, lane=None, mark=None)

    patch.setattr(contributors, "Contributor", contributor)


def taken_after_the_flag(patch: pytest.MonkeyPatch) -> None:
    def careless(session: Any, *rest: Any) -> Any:
        return steering.takeable(replace(session, cancel=None), *rest)

    patch.setattr(checkpoint, "takeable", careless)


def blocked_by_a_prompt(patch: pytest.MonkeyPatch) -> None:
    """A head that waits for the commit keeps its place before what names the run."""

    def blocked(session: Any, run: Any, calls: Any, boundary: Any, named: Any, heads: Any) -> Any:
        closed = [h[0].lane for h in heads.values() if h and h[0].state.delivery is None]
        free = tuple([tuple([e for e in found if e.lane not in closed]) for found in named])
        return steering.takeable(session, run, calls, boundary, free, heads)

    for module in (checkpoint, commit):
        patch.setattr(module, "takeable", blocked)


def taken_beside_a_call(patch: pytest.MonkeyPatch) -> None:
    def careless(session: Any, run: Any, calls: Any, *rest: Any) -> Any:
        return steering.takeable(session, run, (), *rest)

    patch.setattr(checkpoint, "takeable", careless)


def commit_that_never_yields(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(commit.Commit, "_steered", lambda self, session, run, view: None)


def replay_without_inputs(patch: pytest.MonkeyPatch) -> None:
    again = checkpoint.Checkpoint._again
    patch.setattr(
        checkpoint.Checkpoint,
        "_again",
        lambda *given: replace(again(*given), inputs=(), more=False),
    )


def target_that_counts_at_rest(patch: pytest.MonkeyPatch) -> None:
    """Nothing ends an input whose target has ended: its lane waits for it."""
    patch.setattr(transaction.Transaction, "end_abandoned", lambda self, limit: 0)


def target_left_out_of_due(patch: pytest.MonkeyPatch) -> None:
    """A head that has ended with its target makes no session due, as if the lane were empty."""
    walk = scheduling.next_work

    def blind(session: Any, runs: Any, ready: Any, now_ms: int | None) -> Any:
        if now_ms is None:
            ready = {
                lane: [e for e in found if not scheduling.target_ended(e, runs)]
                for lane, found in ready.items()
            }
        return walk(session, runs, ready, now_ms)

    patch.setattr(scheduling, "next_work", blind)


def parked_without_a_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(park.Park, "_has_enough", lambda self, view: False)


def settled_before_counts_not(patch: pytest.MonkeyPatch) -> None:
    """A Park waits for as many as it needs, whatever has come before."""
    missing = park.Park._missing

    def all_of_them(self: Any, view: Any) -> int:
        left = missing(self, view)
        return left if left <= 0 else self.needs or self._count

    patch.setattr(park.Park, "_missing", all_of_them)


def superseded_too_early(patch: pytest.MonkeyPatch) -> None:
    """A Park goes on without the rest as soon as one ticket is settled."""
    patch.setattr(park.Park, "_has_enough", lambda self, view: self._missing(view) < 2)


def a_loser_settles_again(patch: pytest.MonkeyPatch) -> None:
    """The end of work settles a ticket that was superseded."""
    patch.setattr(settlement, "settlement_of", lambda ticket, view: ticket_.Open())
    patch.setattr(ticket_, "step", lambda state, command: Stepped(command.settlement, "TICKET-1"))


def goes_on_with_whatever_comes(patch: pytest.MonkeyPatch) -> None:
    """Whatever settles a ticket makes its run go on."""
    step = run_.step

    def any_(state: Any, command: Any) -> Any:
        if isinstance(state, run_.Waiting) and isinstance(command, run_.Settle):
            return Stepped(run_.Rescheduled(), "RUN-62")
        return step(state, command)

    patch.setattr(run_, "step", any_)


def withdrawn_without_a_word(patch: pytest.MonkeyPatch) -> None:
    """The withdrawal of an input that a run has bound tells no ticket."""
    patch.setattr(
        withdraw, "write_end", lambda tx, queue_entry, run=None: tx.write(Update(queue_entry))
    )


def the_rest_works_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(park, "cancel_of", lambda ticket, by: None)


def every_end_is_a_success(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(work_end, "how_ended", lambda state, run: ticket_.Action.COMPLETED)


def folded_at_admission(patch: pytest.MonkeyPatch) -> None:
    """Only an input that comes while the run waits enters it."""
    meet = scheduling._meet

    def meets(session: Any, run: Any, runs: Any, ready: Any, now_ms: Any) -> Any:
        last = {
            lane: [e for e in entries if e.state.ready_rank == session.next_rank - 1]
            for lane, entries in ready.items()
        }
        return meet(session, run, runs, last, now_ms)

    patch.setattr(scheduling, "_meet", meets)


def due_by_deadline_alone(patch: pytest.MonkeyPatch) -> None:
    meet = scheduling._meet

    def meets(session: Any, run: Any, runs: Any, ready: Any, now_ms: Any) -> Any:
        ready = ready if now_ms is not None else {lane: [] for lane in LANES}
        return meet(session, run, runs, ready, now_ms)

    patch.setattr(scheduling, "_meet", meets)


def another_turn_at_re_entry(patch: pytest.MonkeyPatch) -> None:
    take_up = grant.take_up

    def next_turn(tx: Any, run: Any) -> Any:
        found = take_up(tx, run)
        if not found.last_end:
            found = replace(found, turn=found.turn + 1, next_checkpoint=0)
            tx.write_run(found)
        return found

    patch.setattr(begin, "take_up", next_turn)


def entered_at_the_first_of_all(patch: pytest.MonkeyPatch) -> None:
    step = run_.step

    def any_(state: Any, command: Any) -> Any:
        if isinstance(state, run_.Waiting) and isinstance(command, run_.Settle):
            state = replace(state, needs=1)
        return step(state, command)

    patch.setattr(run_, "step", any_)


def flagged_while_it_waits(patch: pytest.MonkeyPatch) -> None:
    def ask_to_cancel(self: Any, run: Any, flag: Any) -> None:
        if self.session.cancel is None:
            self.update(cancel=flag)

    patch.setattr(transaction.Transaction, "ask_to_cancel", ask_to_cancel)


def tickets_of_ended_runs_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweep.Sweep, "_settle_tickets", lambda self, tx, view: None)


def published_by_the_slowest(patch: pytest.MonkeyPatch) -> None:
    decide = publish.Publish.decide

    def forget(self: Any, view: Any, now_ms: int) -> Any:
        if (view.session.published or 0) > self.through:
            view = replace(view, session=replace(view.session, published=None))
        return decide(self, view, now_ms)

    patch.setattr(publish.Publish, "decide", forget)


def published_as_it_is_due(patch: pytest.MonkeyPatch) -> None:
    """A session is due while it has unpublished events."""
    due = scheduling.due_at_ms

    def too_early(session: Any, *rows: Any) -> Any:
        waits = session.published is not None and session.published < session.next_event - 1
        return 0 if waits else due(session, *rows)

    patch.setattr(transaction, "due_at_ms", too_early)
    patch.setattr(ordering_oracle, "due_of", too_early)


def published_all_that_there_is(patch: pytest.MonkeyPatch) -> None:
    """Publish marks what was committed meanwhile too."""
    decide = publish.Publish.decide

    def all_(self: Any, view: Any, now_ms: int) -> Any:
        return decide(replace(self, through=view.session.next_event - 1), view, now_ms)

    patch.setattr(publish.Publish, "decide", all_)


def unpublished_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transaction, "unpublished_since_ms", lambda session, added, now_ms: None)


def last_page_without_digest(patch: pytest.MonkeyPatch) -> None:
    refuse = import_page._refuse_opening
    patch.setattr(
        import_page,
        "_refuse_opening",
        lambda progress, so_far, calls: refuse(progress, progress.digest, calls),
    )


def opened_with_open_calls(patch: pytest.MonkeyPatch) -> None:
    refuse = import_page._refuse_opening
    patch.setattr(
        import_page,
        "_refuse_opening",
        lambda progress, so_far, calls: refuse(progress, progress.digest, ()),
    )


def page_not_known_again(patch: pytest.MonkeyPatch) -> None:
    decide = import_page.ImportPage.decide

    def anew(self: Any, view: Any, now_ms: int) -> Any:
        return decide(self, replace(view, page=None), now_ms)

    patch.setattr(import_page.ImportPage, "decide", anew)


def node_met_again_replaced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(import_page, "_unmet", lambda new, stored: new)


def begins_while_importing(patch: pytest.MonkeyPatch) -> None:
    phases = scheduling.BEGINNING_PHASES | {Phase.IMPORTING}
    patch.setattr(scheduling, "BEGINNING_PHASES", phases)
    patch.setattr(scheduling, "UNLEASED_PHASES", scheduling.UNLEASED_PHASES - phases)


DUE = "due_at_ms agrees"


def state_of_a_frame_dropped(patch: pytest.MonkeyPatch) -> None:
    """A state that is replaced is dropped, although a frame holds it."""
    original = states._repoint

    def repoint(session: Any, *rest: Any) -> Any:
        current = session.current_frame
        if current is not None:
            session = evolve(session, current_frame=evolve(current, shared=()))
        return original(session, *rest)

    patch.setattr(states, "_repoint", repoint)


def holders_never_let_go(patch: pytest.MonkeyPatch) -> None:
    """A frame that is entered again still counts as a holder of its states."""
    original = switch.count_holders

    def count(session_id: Any, holders: Any, taken: Any, given: Any) -> Any:
        return original(session_id, holders, taken, ())

    patch.setattr(switch, "count_holders", count)


def shared_by_the_row_alone(patch: pytest.MonkeyPatch) -> None:
    """A Switch forgets which blobs frames hold too."""
    original = switch._enter

    def enter(tx: Any, move: Any, count: Any, holders: Any) -> None:
        original(tx, move, count, {})

    patch.setattr(switch, "_enter", enter)


def entered_with_the_states_of_the_other(patch: pytest.MonkeyPatch) -> None:
    """A frame that is entered again goes on with the states of the frame that is left."""
    original = switch._back

    def back(session: Any, wanted: Any, target: Any, left: Any) -> Any:
        return evolve(original(session, wanted, target, left), states=states.states_of(session))

    patch.setattr(switch, "_back", back)


def path_of_its_own_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = switch._back

    def back(session: Any, wanted: Any, target: Any, left: Any) -> Any:
        return evolve(original(session, wanted, target, left), leaf=session.leaf)

    patch.setattr(switch, "_back", back)


def switch_not_stamped(patch: pytest.MonkeyPatch) -> None:
    """A repeated commit does not know what its Switch did."""
    original = records.Stamp
    patch.setattr(commit, "Stamp", lambda *values: original(*values[:5]))


MUTANTS = (
    Mutant("a last page without the digest", IMPORT, 4, ("an import is whole",), last_page_without_digest),
    Mutant("an import that ends with open calls", IMPORT, 4, ("a node follows", "an import is whole"), opened_with_open_calls),
    Mutant("a page that is not known again", IMPORT, 1, (REPLAYED,), page_not_known_again),
    Mutant("a node of an import written twice", IMPORT, 3, (NO_ASSERTION_ERROR,), node_met_again_replaced),
    Mutant("a run begins during an import", IMPORT, 1, (DUE, WORK_IS_DUE), begins_while_importing),
    Mutant("no fence check", LEASE, 6, ("no write lands with a stale fence", NO_ASSERTION_ERROR), no_fence),
    Mutant("no generation bump", LEASE, 2, ("each new lease",), no_generation),
    Mutant("a lease that ends a millisecond early", LEASE, 2, (WORK_IS_DUE,), expires_early),
    Mutant("a lease from the future is live", DELAY, 8, (NO_HOT_LOOP,), future_lease_accepted),
    Mutant("a replay recognised by its number alone", LEASE, 10, (ONCE, REPLAYED), replay_by_number_alone),
    Mutant("due not recomputed", LEASE, 1, (DUE,), due_not_computed),
    Mutant("due without delayed inputs", DELAY, 2, (WORK_IS_DUE,), due_without_delayed),
    Mutant("a retry of a clock that was ahead waits", DELAY, 5, (NO_HOT_LOOP,), ahead_is_not_due),
    Mutant("when a retry was scheduled is not stored", DELAY, 5, (NO_LATE_RETRY,), since_not_stored),
    Mutant("a retry of a clock that was ahead is not found", DELAY, 5, ("retry_from_ms agrees",), ahead_is_not_found),
    Mutant("due while a run holds", ORDER, 5, (NO_HOT_LOOP,), due_as_first_written),
    Mutant("a failure not counted", FAILURE, 3, ("a failure, an outage",), failure_not_counted),
    Mutant("a loss not counted", LEASE, 4, ("a failure, an outage",), loss_not_counted),
    Mutant("limits of an input ignored", RETRY, 7, ("a run is given up",), limits_ignored),
    Mutant("a mark ignored", INTERRUPTS, 4, ("nothing is begun", NO_ASSERTION_ERROR, NO_HOT_LOOP), mark_ignored),
    Mutant("an interrupt without its flag", INTERRUPT, 3, ("an interrupt or stop",), interrupt_without_flag),
    Mutant("a lapsed lease left to its holder", INTERRUPT, 4, ("an interrupt or stop",), lapsed_lease_left),
    Mutant("requeue instead of resume", LEASE, 5, ("the inputs of a run", "a failure"), requeued),
    Mutant("a cancelled run sits out its backoff", CANCEL, 7, ("a run that was asked", "a cancel"), cancelled_run_waits),
    Mutant("a cancelled run is retried", CANCEL, 4, ("a run that was asked", "a cancel"), cancelled_retried),
    Mutant("hold ignored", ORDER, 5, ("nothing is begun", "a run that holds"), hold_ignored),
    Mutant("priority ignored", ORDER, 3, ("nothing is begun",), order_by_rank_alone),
    Mutant("last_end ignored", LEASE, 3, (REPLAYED,), end_forgotten),
    Mutant("Begin is not replayed", LEASE, 2, (REPLAYED, NO_ASSERTION_ERROR), begin_forgotten),
    Mutant("nothing left to sweep", INTERRUPT, 5, ("a superseded",), nothing_left_to_sweep),
    Mutant("withdrawn under a live lease", CANCEL, 3, ("nothing is withdrawn", "at most one run"), withdrawn_under_a_live_lease),
    Mutant("every input is consumed", FAILURE, 3, ("the inputs of a run",), settled_wrongly),
    Mutant("the next run out of order", NEXT_ORDER, 5, ("nothing is begun",), next_without_order),
    Mutant("an open turn beside another", STOP, 8, ("nothing is begun",), two_runs),
    Mutant("an open key kept", KEYS, 3, ("an open key",), open_key_kept),
    Mutant("no hint at the end of a lease", LEASE, 4, ("a hint says",), no_hint_at_the_end_of_a_lease),
    Mutant("a barrier ignored", BARRIER, 5, ("nothing is begun", "a barrier begins"), barrier_ignored),
    Mutant("coalesced at the tail", DEBOUNCE, 2, ("a new input stands",), coalesced_at_the_tail),
    Mutant("replaced and kept", EDITS, 2, ("Reorder and Replace",), replaced_and_kept),
    Mutant("reordered by halves", EDITS, 3, ("Reorder and Replace", "ranks are unique"), reordered_by_halves),
    Mutant("readmitted and kept", DEAD, 4, ("a dead letter is readmitted",), readmitted_and_kept),
    Mutant("readmitted in front", DEAD, 4, ("a new input stands",), readmitted_in_front),
    Mutant("a readmission not remembered", DEAD, 5, (REPLAYED, "a command"), readmitted_again_when_sent_again),
    Mutant("rolled back after a once step", ROLLBACK, 5, ("a run that has started",), rolled_back_after_a_once_step),
    Mutant("rolled back in sight", ROLLBACK, 6, ("what a run",), rolled_back_in_sight),
    Mutant("a lapse forgets the rollback", ROLLBACK, 5, ("a run that is to be", "a run that was asked"), lapse_forgets_the_rollback),
    Mutant("a rollback that is a cancel", ROLLBACK, 5, ("a run that is to be",), rolled_back_by_a_commit_that_finishes),
    Mutant("no node for what is taken", STEERING_WAKE, 5, ("what was taken",), without_node),
    Mutant("the mark of the run", STEERING_WAKE, 5, ("a run's contributors",), mark_of_the_run),
    Mutant("taken after the flag", STEERING_STOP, 6, ("a run that was asked to stop takes",), taken_after_the_flag),
    Mutant("blocked by a prompt", STEERING_CALLS, 6, (TAKES_ALL,), blocked_by_a_prompt),
    Mutant("taken beside a call", STEERING_CALLS, 6, (NO_ASSERTION_ERROR,), taken_beside_a_call),
    Mutant("a commit that never yields", STEERING, 5, (TAKES_ALL,), commit_that_never_yields),
    Mutant("a replay without its inputs", STEERING, 5, (REPLAYED,), replay_without_inputs),
    Mutant("a target that counts at rest", STEERING_STOP, 6, (NO_HOT_LOOP, "a Begin that finds"), target_that_counts_at_rest),
    Mutant("a target left out of due", STEERING_STOP, 6, (DUE,), target_left_out_of_due),
    Mutant("parked without a look", WAITING_ANY, 5, ("an answer that was given",), parked_without_a_look),
    Mutant("folded at admission", WAITING_INPUT, 6, (DUE,), folded_at_admission),
    Mutant("due by deadline alone", WAITING_INPUT, 6, (DUE, WORK_IS_DUE), due_by_deadline_alone),
    Mutant("another turn at re-entry", APPROVAL, 11, (ONCE,), another_turn_at_re_entry),
    Mutant("entered at the first of all", WAITING, 5, ("a run that waits goes on",), entered_at_the_first_of_all),
    Mutant("what has come before counts not", JOIN, 6, ("an answer that was given",), settled_before_counts_not),
    Mutant("superseded too early", JOIN, 5, ("a ticket is superseded",), superseded_too_early),
    Mutant("a loser settles again", JOIN, 8, ("the first settlement",), a_loser_settles_again),
    Mutant("whatever comes is enough", JOIN, 5, ("a run that waits goes on",), goes_on_with_whatever_comes),
    Mutant("withdrawn without a word", CHILDREN, 5, ("an input that settles",), withdrawn_without_a_word),
    Mutant("the rest works on", JOIN, 7, ("the work of tickets",), the_rest_works_on),
    Mutant("every end is a success", CHILDREN, 4, ("an input that settles",), every_end_is_a_success),
    Mutant("a flag instead of an end", WAITING, 5, ("a wait blocks no interrupt", "a run that waits is"), flagged_while_it_waits),
    Mutant("tickets left to nobody", WAITING, 6, (NO_HOT_LOOP,), tickets_of_ended_runs_left),
    Mutant("published by the slowest", PUBLISHING, 6, ("the cursor only grows",), published_by_the_slowest),
    Mutant("published as it is due", PUBLISHING, 3, (NO_HOT_LOOP, DUE), published_as_it_is_due),
    Mutant("published all that there is", PUBLISHING, 5, ("what is published was given",), published_all_that_there_is),
    Mutant("unpublished events forgotten", PUBLISHING, 4, ("unpublished_since_ms is set",), unpublished_forgotten),
    Mutant("a state dropped that a frame holds", BLOBS, 10, ("every blob is held",), state_of_a_frame_dropped),
    Mutant("holders never let go", FRAMES, 6, ("every blob is held",), holders_never_let_go),
    Mutant("shared by the row alone", FRAMES, 5, ("every blob is held",), shared_by_the_row_alone),
    Mutant("entered with other states", FRAMES, 8, ("states are those",), entered_with_the_states_of_the_other),
    Mutant("a path of its own forgotten", BLOBS, 8, ("a Switch leaves the leaf",), path_of_its_own_forgotten),
    Mutant("a Switch not stamped", FRAMES, 4, (REPLAYED,), switch_not_stamped),
    Mutant("a lapsed lease is not ended", LEASE, 2, (WORK_IS_DUE,), lapsed_lease_not_ended),
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_explorer_finds_the_bug(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.patch(monkeypatch)

    found = search(evolve(mutant.config, probes=False), first_only=True).explored

    short = [trace for trace in found.traces() if len(trace.lines) <= mutant.steps_max]
    violated = [trace.violated for trace in short]
    assert any(name.startswith(mutant.violates) for name in violated), "\n".join(
        trace.text() for trace in found.traces()
    )
