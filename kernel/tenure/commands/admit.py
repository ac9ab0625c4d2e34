"""Admit: admit inputs to a session, which is created if it does not exist.  Spec: specs/inbox.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..event import EventKind, Origin
from ..indexes import BY_KEY, OPEN_KEYS, SLOT
from ..limits import ADMITTED_MAX, ORIGIN_BYTES_MAX, PAYLOAD_BYTES_MAX, PRIORITY_MAX
from ..machines import input as input_
from ..outcome import Decided, Insert, Refusal, Refused
from ..policy import Delivery, IfOver, KeyScope, OnRetry, OnSameSlot, Policy
from ..queries import Command, Each, First, Get, Reads, read
from ..records import Admission, HowAdmitted, Input, OpenKey, Phase, QueueEntry, Session
from ..replace import replace
from ..scheduling import target_ended
from .busy import busy_with
from .profile import NewProfile, create_profile, validate_profile
from .sendable import MakeId, Sendable
from .session_view import SessionView, session_queries
from .steering import NoTarget, resolve_target
from .submission import Admitted, Conflict, NewInput, Target, known_admissions
from .transaction import Transaction
from .validation import size_of, validate_id, validate_retry, validate_ticket_name, validate_time

__all__ = [
    "Admit",
    "AdmitView",
    "admit_into",
    "end_for",
    "ingress_queries",
    "look_up",
    "slot_at",
    "slot_holders",
    "slots_of",
]


@frozen
class AdmitView(SessionView):
    """The session, and every input that an admitted one may repeat or supersede."""

    known: tuple[Input | None, ...]
    same_key: tuple[tuple[Input, ...], ...]
    open_keys: tuple[tuple[OpenKey, ...], ...]
    slots: tuple[tuple[QueueEntry, ...], ...]


@frozen
class Admit(Command[AdmitView, Admitted], Sendable):
    """Admit up to 256 inputs, all or none.  Writes at most five rows for each input, two more, and those of a profile.

    `open`: create the session if it does not exist.  `queue_max`: at most so many inputs may be ready or delayed then.
    `only_if_idle`: only if nothing is at work or ready.  `profile`: of the session if it is created.
    Refusals: UNKNOWN_SESSION (`open` False), KEY_CONFLICT, PHASE, UNKNOWN_KIND, ILLEGAL, FULL, BUSY, and
    for a target IDLE and ENDED.
    """

    added: ClassVar = {"queue_max": 2, "only_if_idle": 2, "profile": 2}
    session_id: str
    inputs: tuple[NewInput, ...]
    open: bool = True
    queue_max: int | None = None
    only_if_idle: bool = False
    profile: NewProfile | None = None

    def identified(self, make: MakeId) -> Admit:
        """OUTBOUND-4: return it with ids of inputs in the place of empty ones."""
        given = enumerate(self.inputs)
        named = [new if new.input_id else replace(new, input_id=make(n)) for n, new in given]
        return replace(self, inputs=tuple(named))

    def reads(self) -> Reads[AdmitView]:
        s = self.session_id
        waiting = 1 + len(slots_of(self.inputs))
        return read(
            AdmitView,
            *session_queries(s, ready=waiting, delayed=waiting),
            *ingress_queries(s, self.inputs),
        )

    def decide(self, view: AdmitView, now_ms: int) -> Decided[Admitted] | Refused:
        if problem := self._shape():
            return Refused(Refusal.ILLEGAL, "INBOX-4", problem)
        if self.profile is not None and (wrong := validate_profile(self.profile, self.session_id)):
            return Refused(Refusal.ILLEGAL, "PROFILE-3", wrong)
        session = view.session
        tx = Transaction.on(
            view, session or Session(self.session_id), now_ms, self.inputs[0].input_id
        )
        known = look_up(session, view, self.inputs)
        if isinstance(known, Refused):
            return known
        found = tuple([r for r in known if isinstance(r, Admission)])
        if len(found) == len(known):
            return Decided(Admitted(found), "INBOX-1", replayed=True)
        if session is None:
            if not self.open:
                return Refused(Refusal.UNKNOWN_SESSION, "INBOX-29", self.session_id)
            tx.append_event(EventKind.SESSION_OPENED)
            if self.profile is not None:
                create_profile(tx, self.profile)
        elif self.only_if_idle and (busy := busy_with(view, session, now_ms)):
            return Refused(Refusal.BUSY, "INBOX-35", busy)
        outcome = admit_into(tx, view, self.inputs, known)
        if isinstance(outcome, Refused):
            return outcome
        if self.queue_max is not None and tx.waiting() > self.queue_max:
            return Refused(Refusal.FULL, "INBOX-34", tx.session.waiting)
        return tx.decided(outcome, "INBOX-8")

    def _shape(self) -> Conflict | None:
        if problem := validate_id("session_id", self.session_id):
            return Conflict(0, problem)
        if not 0 < len(self.inputs) <= ADMITTED_MAX:
            return Conflict(
                0, f"{len(self.inputs)} inputs; 1 to {ADMITTED_MAX} are admitted together"
            )
        if self.queue_max is not None and self.queue_max < 0:
            return Conflict(0, f"queue_max {self.queue_max}: expected at least 0")
        return None


def ingress_queries(
    session_id: str, inputs: tuple[NewInput, ...]
) -> tuple[
    Each[Input | None],
    Each[tuple[Input, ...]],
    Each[tuple[OpenKey, ...]],
    Each[tuple[QueueEntry, ...]],
]:
    """Return the queries of what inputs may repeat or supersede: by id, by key, by open key, and by slot."""
    s, keys = session_id, [new.key for new in inputs if new.key is not None]
    return (
        Each(tuple([Get(Input, (s, new.input_id)) for new in inputs])),
        Each(tuple([First(BY_KEY, (s, key), 1) for key in keys])),
        Each(open_key_holders(s, inputs)),
        Each(tuple([First(SLOT, (s, slot), 1, backwards=True) for slot in slots_of(inputs)])),
    )


def open_key_holders(session_id: str, inputs: tuple[NewInput, ...]) -> tuple[First[OpenKey], ...]:
    """Return the queries of the latest holder of each open key in each lane: the one with the highest mark."""
    return tuple(
        [
            First(OPEN_KEYS, (session_id, new.key, lane), 1, backwards=True)
            for new in inputs
            if new.key is not None
            for lane in ("user", "system")
        ]
    )


def look_up(
    session: Session | None, view: AdmitView, inputs: tuple[NewInput, ...]
) -> list[Admission | str] | Refused:
    """Look up the inputs among those that are known.  `session` has the marks that this command has raised."""
    return known_admissions(session, inputs, view.known, view.same_key, view.open_keys)


def admit_into(
    tx: Transaction,
    view: AdmitView,
    inputs: tuple[NewInput, ...],
    known: list[Admission | str],
    rank: int | None = None,
) -> Admitted | Refused:
    """Admit all new inputs within a transaction, or refuse all.  `rank`: of the one that replaces another."""
    for index, new in enumerate(inputs):
        refused = _validate(tx, index, new) if isinstance(known[index], str) else None
        if refused is not None:
            return refused
    slots = slot_holders(tx, view)
    placed = [
        _admit_one(tx, new, slots, met, rank) if isinstance(met, str) else met
        for met, new in zip(known, inputs, strict=True)
    ]
    return Admitted(tuple(placed))


def slot_holders(tx: Transaction, view: AdmitView) -> dict[str | None, QueueEntry]:
    """Return the inputs that wait in the slots of new ones."""
    return {
        p.state.slot: p
        for found in view.slots
        for p in found
        if isinstance(p.state, input_.Ready | input_.Delayed)
        and p.state.mark == tx.session.mark(p.lane)
        and not target_ended(p, tx.runs)
    }


def slot_at(new: NewInput, now_ms: int) -> str | None:
    """Return the slot of an input that is admitted now; None: it has no supersession key."""
    delayed = new.available_at_ms is not None and new.available_at_ms > now_ms
    return None if new.supersession_key is None else _slot(new, delayed=delayed)


def slots_of(inputs: tuple[NewInput, ...]) -> tuple[str, ...]:
    """Return the slots of inputs with a supersession key.  INBOX-33: one with a time has another slot while it is delayed."""
    keyed = [new for new in inputs if new.supersession_key is not None]
    return tuple(
        [
            _slot(new, delayed=delayed)
            for new in keyed
            for delayed in ((False,) if new.available_at_ms is None else (False, True))
        ]
    )


def _slot(new: NewInput, *, delayed: bool) -> str:
    """Return the slot of an input.  It contains the lane, so that no user input supersedes a system input."""
    policy = new.rules()
    lane = "" if policy is None else policy.lane.value
    return f"{'delayed:' * delayed}{lane}:{new.kind}:{new.supersession_key}"


def _validate(tx: Transaction, index: int, new: NewInput) -> Refused | None:
    policy = new.rules()
    if policy is None:
        detail = Conflict(index, new.kind)
        return Refused(Refusal.UNKNOWN_KIND, "INBOX-5", detail)
    open_for_it = tx.session.phase in (Phase.OPEN, Phase.IMPORTING) or (
        tx.session.phase is Phase.RETIRED and policy.when_retired
    )
    if not open_for_it:
        return Refused(Refusal.PHASE, "INBOX-3", Conflict(index, tx.session.phase.value))
    if problem := validate_input(new, policy, tx.now_ms):
        return Refused(Refusal.ILLEGAL, "INBOX-4", Conflict(index, problem))
    if not new.payload and not policy.may_be_empty:
        return Refused(Refusal.ILLEGAL, "INBOX-30", Conflict(index, f"empty {new.kind}"))
    target = resolve_target(tx.session, tx.runs, new, policy)
    return target.refused(index) if isinstance(target, NoTarget) else None


def validate_input(new: NewInput, policy: Policy, now_ms: int) -> str | None:
    """Return which limit or shape of INBOX-4 an input violates, or None.  Depends on no session and no store."""
    priority = policy.priority if new.priority is None else new.priority
    size = size_of(new.payload)
    problem = (
        validate_id("input_id", new.input_id)
        or validate_id("kind", new.kind)
        or validate_id("source", new.source)
        or _validate_if_given("key", new.key)
        or _validate_if_given("supersession_key", new.supersession_key)
        or _validate_if_given("correlation_id", new.correlation_id)
        or _validate_if_given("resolution", new.resolution)
        or _validate_if_given("batch", policy.batch)
        or _validate_target(new, policy)
        or validate_retry(policy.retry)
        or validate_time("available_at_ms", new.available_at_ms, now_ms)
        or _validate_text("payload", new.payload)
        or _validate_origin(new)
        or _validate_settles(new, policy)
    )
    if problem is None and not 0 <= priority <= PRIORITY_MAX:
        problem = f"priority {priority}: expected 0 to {PRIORITY_MAX}"
    if problem is None and size > PAYLOAD_BYTES_MAX:
        problem = f"payload of {size} bytes; at most {PAYLOAD_BYTES_MAX}"
    return problem


def _validate_if_given(name: str, value: str | None) -> str | None:
    return None if value is None else validate_id(name, value)


def _validate_target(new: NewInput, policy: Policy) -> str | None:
    """INBOX-53: return what is wrong with the target of an input, or None."""
    if new.target is None or new.target is Target.NOBODY:
        return None
    if policy.delivery is Delivery.AFTER_COMMIT:
        return f"target {new.target}: a {new.kind} is delivered only after a commit"
    return None if isinstance(new.target, Target) else validate_id("target", new.target)


def _validate_origin(new: NewInput) -> str | None:
    """INBOX-61: return what is wrong with the origin or the parent of an input, or None."""
    origin, parent = new.origin, new.parent
    problem = None
    if parent is not None:
        problem = validate_id("parent.session_id", parent.session_id) or validate_id(
            "parent.run_id", parent.run_id
        )
    if origin is None or problem is not None:
        return problem
    size = size_of(origin)
    if size > ORIGIN_BYTES_MAX:
        return f"origin of {size} bytes; at most {ORIGIN_BYTES_MAX}"
    return _validate_text("origin", origin)


def _validate_settles(new: NewInput, policy: Policy) -> str | None:
    """TICKET-40: return what is wrong with the ticket that an input settles, or None."""
    settles = new.settles
    if settles is None:
        return None
    if policy.key_scope is KeyScope.OPEN and new.key is not None:
        return f"settles ticket {settles.ticket_id}, with a key that is free again at its end"
    return validate_ticket_name(settles)


def _validate_text(name: str, text: str) -> str | None:
    if "\x00" in text:
        return f"{name} with a NUL character at {text.index(chr(0))}"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"{name} with a lone surrogate at {error.start}"
    return None


def _admit_one(
    tx: Transaction,
    new: NewInput,
    slots: dict[str | None, QueueEntry],
    digest: str,
    rank: int | None,
) -> Admission:
    """INBOX-6, INBOX-7: admit one input as ready or delayed, and end the one of its slot that waits."""
    policy = new.rules()
    assert policy is not None
    session = tx.session
    ids = (new.input_id,)
    seq = tx.append_event(EventKind.INPUT_ADMITTED, None, ids, new.kind, new.correlation_id)
    if new.origin is not None or new.parent is not None:
        tx.origins.append(Origin(new.input_id, new.origin, new.parent))
    open_key = new.key if policy.key_scope is KeyScope.OPEN else None
    delayed = new.available_at_ms is not None and new.available_at_ms > tx.now_ms
    slot = slot_at(new, tx.now_ms)
    priority = policy.priority if new.priority is None else new.priority
    if slot is not None and (old := slots.pop(slot, None)) is not None:
        how = input_.How.SUPERSEDED
        if policy.on_same_slot is OnSameSlot.COALESCE:  # INBOX-32
            how, priority = input_.How.COALESCED, old.priority
            rank = getattr(old.state, "ready_rank", None)
        end_for(tx, old, how, new.input_id)
    state = _state_of(tx, new, policy, slot, rank, delayed=delayed)
    queue_entry = QueueEntry(
        session.session_id, new.input_id, seq, policy.lane, priority, state, new.settles
    )
    retained = None if policy.key_scope is KeyScope.OPEN else new.key
    tx.write(
        Insert(
            Input(
                session.session_id, new.input_id, new.kind, new.source, retained,
                new.correlation_id, digest, policy, tx.now_ms, new.payload,
                origin=new.origin, parent=new.parent, resolution=new.resolution,
            )
        )
    )  # fmt: skip
    tx.write(Insert(queue_entry))
    if open_key is not None:
        mark = session.mark(policy.lane)
        tx.write(
            Insert(OpenKey(session.session_id, open_key, policy.lane, mark, new.input_id, digest))
        )
    if slot is not None:
        slots[slot] = queue_entry
    if delayed:
        tx.put_delayed(queue_entry)
        return Admission(new.input_id, HowAdmitted.DELAYED)
    tx.put_ready(queue_entry)
    if (target := getattr(state, "target_run", None)) is not None:
        tx.steered = target
        return Admission(new.input_id, HowAdmitted.ADDRESSED, target)
    return Admission(new.input_id, HowAdmitted.QUEUED)


def end_for(tx: Transaction, old: QueueEntry, how: input_.How, new_id: str) -> None:
    """End an input that waits, for a new one."""
    tx.end_queue_entry(old, how, new_id)
    tx.append_event(EventKind.INPUT_ENDED, None, (old.input_id,), f"{how.value} by {new_id}")


def _state_of(
    tx: Transaction,
    new: NewInput,
    policy: Policy,
    slot: str | None,
    rank: int | None,
    *,
    delayed: bool,
) -> input_.Delayed | input_.Ready:
    """Return the state in which an input is admitted.  Without a rank it gets the next one."""
    mark, hold = tx.session.mark(policy.lane), policy.on_retry is OnRetry.HOLD
    size, group = size_of(new.payload), policy.group()
    open_key = new.key if policy.key_scope is KeyScope.OPEN else None
    delivery = None if policy.delivery is Delivery.AFTER_COMMIT else policy.delivery
    target = resolve_target(tx.session, tx.runs, new, policy)
    assert not isinstance(target, NoTarget), target
    abandons = target is not None and new.if_over is IfOver.ABANDON
    if_over = new.if_over if abandons else None
    barrier = policy.barrier or None
    carried = (
        *(open_key, slot, delivery, barrier, target, if_over),
        *(policy.while_waiting, new.resolution, policy.retry),
    )
    if delayed:
        assert new.available_at_ms is not None
        return input_.Delayed(mark, new.available_at_ms, group, hold, size, *carried)
    if rank is None:
        rank = tx.session.next_rank
        tx.update(next_rank=rank + 1)
    return input_.Ready(mark, rank, group, hold, size, *carried)
