"""The turn machine: a model and its tools, over the journal of a run.  Spec: specs/turn.md.

Theory of operation

A turn asks a model, runs the tools that the model calls, asks again, and ends in a commit.  The machine is pure.
`step(state, event)` returns the next state and effects.  A host carries the effects out and feeds what they report:

    state = prepare(loaded, limits)                  # from the question LoadTurn
    events = deque([Begin()])
    while not isinstance(state, Finished):
        outcome = step(state, events.popleft())      # or wait for the next event
        if not isinstance(outcome, Refused):         # a report that came too late is refused
            state = outcome.state
            for effect in outcome.effects: ...       # start it; it reports by an event with its key

The last effect is a `TurnEnd`, which is committed, or a `Fail`.  A commit that is refused because the run was cancelled
is answered by `CancelSeen`: the turn then commits the same content as cancelled (TURN-53).  One that is refused as
steered is answered by `CommitSteered`: the turn goes on (TURN-83).

*Durability.*  Whatever a later effect depends on is recorded first.  At most one record is in progress; what arrives
meanwhile goes into the next one (TURN-9).  The record of a reply comes before its calls, and the start mark of a once
call before the call.  The final reply is only in the commit.

*Replay.*  After a crash `prepare` reads the journal into an index.  `advance` (loop.py) walks through it iteration by
iteration, with the same functions that run the turn, and stops at the first request or call that has no report.  So a
turn is a fold over its journal, and a report that is recorded is not requested again.

*Events before the table.*  `step` does two things before it looks for a row.  A report whose effect is not in progress
is refused (`is_awaited`, TURN-60).  A report whose content decides between rows is replaced by an event whose type does
(`classify`), so that a reply or an environment is examined once.

*Approvals.*  A call whose tool needs them is checked first.  When all other calls have their results, `Park` ends the
attempt; a later one replays the journal, and the tickets say what was decided (approvals.py, parking.py).

*Stopping.*  A cancel or the deadline may arrive in every state.  Without a record in progress the turn ends at once;
otherwise it ends when the record is answered, and `stop` in the state remembers why.  Every open call gets a result.

*The table.*  One row is enabled in every case; a test enumerates them.  The comment of a row names the state that
follows; "any" is any state but the first two.  A test compares it with the states that the actions return.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ..failure import ErrorKind, Failure
from ..machines.ticket import Settled
from ..outcome import Refusal, Refused
from ..records import Input
from ..rules import Row, Table, always
from ..turn_end import TurnEnd
from .cancellation import (
    commit_as_cancelled,
    end_after_checkpoint,
    end_unrecorded_checkpoint,
    end_unrecorded_tools,
    fail_refused,
    keep_state,
    stop_after_checkpoint,
    stop_after_record,
    stop_before_effects,
    stop_environment,
    stop_model,
    stop_tools,
)
from .chat_policy import (
    DEFAULT_CHAT_POLICY,
    Answer,
    CallTools,
    ChatPolicy,
    InvalidReply,
    ReplyKind,
    StopTurn,
    messages_of_inputs,
    project,
)
from .environment import environment_changes, with_environment
from .loading import LoadedTurn
from .loop import (
    EnvironmentChanged,
    EnvironmentUnchanged,
    RequestOverflowed,
    ask_shortened,
    clear,
    commit_answer,
    commit_stopped,
    continue_after_checkpoint,
    continue_after_record,
    fail_environment,
    fail_model,
    fail_overflow,
    note_changes,
    note_question,
    record_answer,
    record_reply,
    refuse_changes,
    refuse_journal,
    replay_journal,
    request_environment,
    retry_later,
    retry_now,
    take_decisions,
    take_result,
    take_unknown,
    withhold_calls,
)
from .protocol import (
    DEADLINE,
    LIMITS,
    REPORTS,
    ApprovalChecked,
    Begin,
    Cancelled,
    CancelSeen,
    CommitSteered,
    DeadlinePassed,
    EnvironmentFailed,
    EnvironmentReady,
    Event,
    Failed,
    Limits,
    ModelFailed,
    ModelReplied,
    NotRecorded,
    Probed,
    Recorded,
    RetryDue,
    TicketsSettled,
    ToolReported,
)
from .replay import read_journal
from .states import (
    AwaitingCheckpoint,
    AwaitingEnvironment,
    AwaitingModel,
    AwaitingTools,
    Checking,
    Core,
    Finished,
    Outcome,
    Preparing,
    Probing,
    Running,
    Settling,
    State,
    TurnSetup,
    WaitingForRetry,
    add_usage,
)
from .tool_calls import is_once, policy_of

# -- before the table


def prepare(
    loaded: LoadedTurn,
    limits: Limits = LIMITS,
    policy: ChatPolicy = DEFAULT_CHAT_POLICY,
    *,
    strict: bool = False,
) -> Preparing:
    """Return the first state of a turn, with its journal read.  `strict`: fail if the environment has changed."""
    opening = (*project(loaded.lines), *messages_of_inputs(loaded.inputs))
    setup = TurnSetup(
        loaded.run_id, loaded.turn, tuple([i.input_id for i in loaded.inputs]), loaded.leaf,
        opening, loaded.frame, hand_offs(loaded.inputs), limits, strict, policy, loaded.taken,
    )  # fmt: skip
    settled = {t.ticket_id: t.state for t in loaded.tickets if isinstance(t.state, Settled)}
    replay = read_journal(loaded.entries, loaded.nodes, loaded.environment, loaded.turn, settled)
    return Preparing(Core(setup, replay))


def hand_offs(inputs: tuple[Input, ...]) -> int:
    """Return how many hand-offs in a row led to these inputs."""
    counts = [i.source.removeprefix("hand_off:") for i in inputs if i.kind == "hand_off"]
    return max([int(count) for count in counts if count.isdecimal()], default=0)


def step(state: State, event: Event) -> Outcome:
    """Return the next state and its effects, or refuse a report whose effect is not in progress (TURN-60)."""
    if isinstance(event, REPORTS) and not is_awaited(state, event):
        return Refused(Refusal.STALE, "TURN-60", getattr(event, "key", None))
    return RULES.step(*classify(state, event))


def is_awaited(s: State, e: Event) -> bool:
    """True if the effect that a report answers is in progress."""
    match s:
        case Preparing():
            return isinstance(e, Begin)
        case AwaitingEnvironment(core):
            prepared = isinstance(e, EnvironmentReady | EnvironmentFailed)
            return prepared and getattr(e, "key", None) == core.key("environment")
        case AwaitingModel(core):
            return isinstance(e, ModelReplied | ModelFailed) and e.key == core.model_key
        case AwaitingCheckpoint(key=key):
            return isinstance(e, Recorded | NotRecorded) and e.key == key
        case AwaitingTools(batch=batch, stop=stop):
            match e:
                case Recorded(key) | NotRecorded(key):
                    pending = batch.pending
                    recorded = isinstance(e, Recorded)
                    return (
                        pending is not None
                        and pending.key == key
                        and not (recorded and pending.parks)
                    )
                case TicketsSettled(key):
                    if isinstance(s.stage_of(key), Settling):
                        return True
                    return (
                        batch.pending is not None
                        and batch.pending.parks
                        and batch.pending.key == key
                    )
                case ApprovalChecked(key):
                    return isinstance(s.stage_of(key), Checking)
                case ToolReported(key, attempt):
                    return s.stage_of(key) == Running(attempt)
                case RetryDue(key, attempt):
                    return stop is None and s.stage_of(key) == WaitingForRetry(attempt)
                case Probed(key):
                    return s.stage_of(key) == Probing()
        case Finished(last=last):
            return isinstance(e, CommitSteered) and isinstance(last, TurnEnd) and last.yields
    return False


Classified: TypeAlias = (
    Event | ReplyKind | EnvironmentUnchanged | EnvironmentChanged | RequestOverflowed
)


def classify(s: State, e: Event) -> tuple[State, Classified]:
    """Replace a report whose content decides by an event whose type does; the state takes what the report brings."""
    match s, e:
        case AwaitingEnvironment(core), EnvironmentReady(_, environment):
            core = with_environment(core, environment)
            changes = environment_changes(core)
            known = EnvironmentChanged(changes) if changes else EnvironmentUnchanged()
            return AwaitingEnvironment(core), known
        case AwaitingModel(core), ModelReplied(_, reply):
            kind = core.setup.policy.classify(reply, core.environment.window, core.iteration)
            return AwaitingModel(add_usage(core, reply.usage)), overflow_or(kind)
        case AwaitingModel(core), ModelFailed(_, failure, usage) if is_overflow(failure):
            return AwaitingModel(add_usage(core, usage)), RequestOverflowed(failure)
    return s, e


def overflow_or(kind: ReplyKind) -> ReplyKind | RequestOverflowed:
    """Return what a reply means, with an event of its own for a request that did not fit the context."""
    if isinstance(kind, InvalidReply) and is_overflow(kind.failure):
        return RequestOverflowed(kind.failure)
    return kind


def is_overflow(failure: Failure) -> bool:
    """True if the request did not fit the context."""
    return failure.kind is ErrorKind.CONTEXT_OVERFLOW


# -- guards


def is_readable(s: Preparing, e: Begin) -> bool:
    """The journal could be read."""
    return s.core.replay.invalid is None


def is_unreadable(s: Preparing, e: Begin) -> bool:
    """The journal could not be read."""
    return s.core.replay.invalid is not None


def is_strict(s: AwaitingEnvironment, e: EnvironmentChanged) -> bool:
    """The turn accepts no change."""
    return s.core.setup.strict


def is_lenient(s: AwaitingEnvironment, e: EnvironmentChanged) -> bool:
    """The turn notes changes."""
    return not s.core.setup.strict


def is_grace(s: AwaitingModel, e: CallTools) -> bool:
    """This is the grace iteration."""
    return s.core.grace


def is_not_grace(s: AwaitingModel, e: CallTools) -> bool:
    """This is an iteration with tools."""
    return not s.core.grace


def can_shorten(s: AwaitingModel, e: RequestOverflowed) -> bool:
    """The request may be shortened, and was not shortened in this iteration."""
    return s.core.setup.limits.shortens and s.core.overflowed < s.core.iteration


def cannot_shorten(s: AwaitingModel, e: RequestOverflowed) -> bool:
    """The request was shortened already, or the agent does not shorten requests."""
    return not can_shorten(s, e)


Recording: TypeAlias = AwaitingCheckpoint | AwaitingTools


def is_continuing(s: Recording, e: object) -> bool:
    """The turn is not stopping."""
    return s.stop is None


def is_stopping(s: Recording, e: object) -> bool:
    """The turn ends when its record is answered."""
    return s.stop is not None


def is_cancelled(s: Recording, e: object) -> bool:
    """The turn ends as cancelled when its record is answered."""
    return s.stop == Cancelled()


def is_not_cancelled(s: AwaitingCheckpoint, e: object) -> bool:
    """The turn continues, or ends by its deadline, which a cancel replaces."""
    return s.stop is None or s.stop == DEADLINE


def can_cancel_after_record(s: AwaitingTools, e: CancelSeen) -> bool:
    """A record is in progress, and the turn does not end as cancelled yet."""
    return s.batch.pending is not None and s.stop != Cancelled()


def can_stop_after_record(s: AwaitingTools, e: DeadlinePassed) -> bool:
    """A record is in progress, and the turn is not stopping yet."""
    return s.batch.pending is not None and s.stop is None


def can_stop_now(s: AwaitingTools, e: object) -> bool:
    """No record is in progress."""
    return s.batch.pending is None


def is_refused_by_cancel(s: Recording, e: NotRecorded) -> bool:
    """The record was refused because the run is cancelled."""
    return e.refused.reason is Refusal.CANCELLED


def is_refused_otherwise(s: Recording, e: NotRecorded) -> bool:
    """The record was refused for another reason."""
    return e.refused.reason is not Refusal.CANCELLED


def can_retry(s: AwaitingTools, e: ToolReported) -> bool:
    """The attempt has failed, and the retry policy of its tool allows another one."""
    at = s.index_of(e.key)
    if at is None or not (e.result.is_error and e.result.retryable) or s.stop is not None:
        return False
    call = s.batch.slots[at].call
    return not is_once(s.core, call) and e.attempt < policy_of(s.core, call).attempts_max


def is_of_once(s: AwaitingTools, e: ToolReported) -> bool:
    """A once call has ended."""
    at = s.index_of(e.key)
    return s.stop is None and at is not None and is_once(s.core, s.batch.slots[at].call)


def is_result(s: AwaitingTools, e: ToolReported) -> bool:
    """A rerunnable call has ended."""
    return s.stop is None and not is_of_once(s, e) and not can_retry(s, e)


def is_known(s: AwaitingTools, e: Probed) -> bool:
    """The outcome was found out."""
    return e.result is not None


def is_unknown(s: AwaitingTools, e: Probed) -> bool:
    """The outcome cannot be found out."""
    return e.result is None


def needs_nobody(s: AwaitingTools, e: ApprovalChecked) -> bool:
    """Nobody is asked about the call."""
    return e.prompt is None


def needs_decision(s: AwaitingTools, e: ApprovalChecked) -> bool:
    """Somebody is asked about the call."""
    return e.prompt is not None


def is_committing(s: Finished, e: CancelSeen) -> bool:
    """The commit may still be refused."""
    return not isinstance(s.outcome, Cancelled | Failed)


def is_over(s: Finished, e: CancelSeen) -> bool:
    """The turn has ended as cancelled, or has failed."""
    return isinstance(s.outcome, Cancelled | Failed)


# -- the table

# fmt: off
ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    # Preparing
    Row("TURN-1", Preparing, Begin, is_readable, request_environment),                        # AwaitingEnvironment
    Row("TURN-4", Preparing, Begin, is_unreadable, refuse_journal),                           # Finished
    Row("TURN-51", Preparing, CancelSeen, always, stop_before_effects),                       # Finished
    Row("TURN-52", Preparing, DeadlinePassed, always, stop_before_effects),                   # Finished

    # AwaitingEnvironment
    Row("TURN-2", AwaitingEnvironment, EnvironmentFailed, always, fail_environment),          # Finished
    Row("TURN-3", AwaitingEnvironment, EnvironmentUnchanged, always, replay_journal),         # any
    Row("TURN-7", AwaitingEnvironment, EnvironmentChanged, is_lenient, note_changes),         # AwaitingCheckpoint
    Row("TURN-7", AwaitingEnvironment, EnvironmentChanged, is_strict, refuse_changes),        # Finished
    Row("TURN-51", AwaitingEnvironment, CancelSeen, always, stop_environment),                # Finished
    Row("TURN-52", AwaitingEnvironment, DeadlinePassed, always, stop_environment),            # Finished

    # AwaitingModel
    Row("TURN-20", AwaitingModel, Answer, always, commit_answer),                             # Finished
    Row("TURN-21", AwaitingModel, CallTools, is_not_grace, record_reply),                     # AwaitingCheckpoint
    Row("TURN-24", AwaitingModel, CallTools, is_grace, withhold_calls),                       # Finished
    Row("TURN-22", AwaitingModel, StopTurn, always, commit_stopped),                          # Finished
    Row("TURN-23", AwaitingModel, InvalidReply, always, fail_model),                          # Finished
    Row("TURN-23", AwaitingModel, ModelFailed, always, fail_model),                           # Finished
    Row("TURN-25", AwaitingModel, RequestOverflowed, can_shorten, ask_shortened),             # AwaitingModel
    Row("TURN-26", AwaitingModel, RequestOverflowed, cannot_shorten, fail_overflow),          # Finished
    Row("TURN-51", AwaitingModel, CancelSeen, always, stop_model),                            # Finished
    Row("TURN-52", AwaitingModel, DeadlinePassed, always, stop_model),                        # Finished

    # AwaitingCheckpoint
    Row("TURN-9", AwaitingCheckpoint, Recorded, is_continuing, continue_after_checkpoint),    # any
    Row("TURN-51", AwaitingCheckpoint, Recorded, is_stopping, end_after_checkpoint),          # Finished
    Row("TURN-54", AwaitingCheckpoint, NotRecorded, is_refused_by_cancel, end_unrecorded_checkpoint),  # Finished
    Row("TURN-54", AwaitingCheckpoint, NotRecorded, is_refused_otherwise, fail_refused),      # Finished
    Row("TURN-51", AwaitingCheckpoint, CancelSeen, is_not_cancelled, stop_after_checkpoint),  # AwaitingCheckpoint
    Row("TURN-61", AwaitingCheckpoint, CancelSeen, is_cancelled, keep_state),                 # AwaitingCheckpoint
    Row("TURN-52", AwaitingCheckpoint, DeadlinePassed, is_continuing, stop_after_checkpoint),  # AwaitingCheckpoint
    Row("TURN-61", AwaitingCheckpoint, DeadlinePassed, is_stopping, keep_state),              # AwaitingCheckpoint

    # AwaitingTools
    Row("TURN-31", AwaitingTools, ToolReported, is_result, take_result),                      # AwaitingTools
    Row("TURN-33", AwaitingTools, ToolReported, is_of_once, take_result),                     # AwaitingTools
    Row("TURN-37", AwaitingTools, ToolReported, can_retry, retry_later),                      # AwaitingTools
    Row("TURN-55", AwaitingTools, ToolReported, is_stopping, take_result),                    # AwaitingTools
    Row("TURN-37", AwaitingTools, RetryDue, always, retry_now),                               # AwaitingTools
    Row("TURN-34", AwaitingTools, Probed, is_known, take_result),                             # AwaitingTools
    Row("TURN-35", AwaitingTools, Probed, is_unknown, take_unknown),                          # AwaitingTools
    Row("TURN-91", AwaitingTools, ApprovalChecked, needs_nobody, clear),                      # AwaitingTools
    Row("TURN-92", AwaitingTools, ApprovalChecked, needs_decision, note_question),            # AwaitingTools
    Row("TURN-94", AwaitingTools, TicketsSettled, always, take_decisions),                       # AwaitingTools | Finished
    Row("TURN-9", AwaitingTools, Recorded, always, continue_after_record),                    # any
    Row("TURN-54", AwaitingTools, NotRecorded, is_refused_by_cancel, end_unrecorded_tools),   # Finished
    Row("TURN-54", AwaitingTools, NotRecorded, is_refused_otherwise, fail_refused),           # Finished
    Row("TURN-51", AwaitingTools, CancelSeen, can_cancel_after_record, stop_after_record),    # AwaitingTools
    Row("TURN-51", AwaitingTools, CancelSeen, can_stop_now, stop_tools),                      # Finished
    Row("TURN-61", AwaitingTools, CancelSeen, is_cancelled, keep_state),                      # AwaitingTools
    Row("TURN-52", AwaitingTools, DeadlinePassed, can_stop_after_record, stop_after_record),  # AwaitingTools
    Row("TURN-52", AwaitingTools, DeadlinePassed, can_stop_now, stop_tools),                  # Finished
    Row("TURN-61", AwaitingTools, DeadlinePassed, is_stopping, keep_state),                   # AwaitingTools

    # Finished
    Row("TURN-83", Finished, CommitSteered, always, record_answer),                           # AwaitingCheckpoint
    Row("TURN-53", Finished, CancelSeen, is_committing, commit_as_cancelled),                 # Finished
    Row("TURN-61", Finished, CancelSeen, is_over, keep_state),                                # Finished
    Row("TURN-61", Finished, DeadlinePassed, always, keep_state),                             # Finished
)
# fmt: on
RULES: Table[Outcome] = Table(ROWS)

__all__ = [
    "REPORTS",
    "RULES",
    "Core",
    "Outcome",
    "Preparing",
    "State",
    "TurnSetup",
    "classify",
    "is_awaited",
    "prepare",
    "step",
]
