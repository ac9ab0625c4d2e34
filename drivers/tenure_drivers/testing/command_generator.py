"""Generates commands with ids from small pools, so that they often collide.

Replays, conflicts, stale fences and races are as frequent as valid commands.  The conformance suite, the agreement
machine and the random walk of the kernel's tests use it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tenure.commands import (
    Acquire,
    Acquired,
    Admit,
    Amend,
    Begin,
    Begun,
    CancelInput,
    Checkpoint,
    ClaimScraps,
    Commit,
    Committed,
    Decide,
    Destroy,
    DropScraps,
    Fail,
    Forget,
    IfIdle,
    Import,
    ImportNode,
    ImportPage,
    Intend,
    Interrupt,
    LineUp,
    NewAttachment,
    NewEntry,
    NewInput,
    NewOutbound,
    NewProfile,
    NewState,
    NewTicket,
    Open,
    Parent,
    Park,
    Publish,
    Readmit,
    Reclaim,
    Release,
    ReleaseSession,
    Renew,
    Reopen,
    Reorder,
    Replace,
    RequestCancel,
    Reseal,
    Resend,
    Reset,
    Retire,
    Rewind,
    RowName,
    Sendable,
    SendFailed,
    SendRefused,
    Sent,
    Settle,
    Stop,
    Sweep,
    Switch,
    Target,
    Then,
    TicketName,
    Withdraw,
    WithdrawFrom,
)
from tenure.failure import ErrorKind, Failure, RetryLimits
from tenure.imports import digest_of_page, promise
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.machines.input import Delayed, Ended, How, Ready
from tenure.machines.lease import Evidence, Fence, Held, Owner
from tenure.machines.run import Termination, Waiting, WaitReason
from tenure.machines.ticket import ACTIONS, ENDS, Action, Rest, TicketKind
from tenure.outcome import Decided
from tenure.policy import (
    LANES,
    Boundary,
    Delivery,
    IfOver,
    KeyScope,
    Lane,
    OnOtherContent,
    OnRetry,
    OnSameSlot,
    Policy,
    WhileWaiting,
)
from tenure.queries import Command, Get
from tenure.questions.retention import NextPrune
from tenure.records import (
    Attachment,
    Blob,
    Child,
    EntryKind,
    Fork,
    ImportProgress,
    Node,
    Outbound,
    Phase,
    QueueEntry,
    Root,
    Run,
    Scrap,
    Session,
    Ticket,
    Work,
)
from tenure.retention import Keep, PruneKind, Retention
from tenure.transcript import Form, NewNode, Role, UsageDelta
from tenure.world import EMPTY, World, ask, evolve

__all__ = ["OWNERS", "SESSIONS", "CommandGenerator"]


AnyCommand = Command[Any, Any]
Pick = Callable[[Sequence[Any]], Any]
R = TypeVar("R", QueueEntry, Run, Blob, Node, Ticket, Attachment, Outbound)

SESSIONS = ("s1", "s2", "s3")
OWNERS = (Owner("worker-1", "first"), Owner("worker-2", "second"))
KINDS = (
    *("prompt", "prompt", "prompt", "wake", "wake", "directive", "hand_off"),
    *("steering", "steering", "follow_up"),
)
POLICIES = (
    Policy(Lane.USER, batch="b"),
    Policy(Lane.USER, on_retry=OnRetry.HOLD, key_scope=KeyScope.OPEN),
    Policy(
        Lane.USER, key_scope=KeyScope.OPEN, on_other_content=OnOtherContent.ORIGINAL, priority=7
    ),
    Policy(Lane.SYSTEM, Delivery.EARLIEST, batch="b", key_scope=KeyScope.OPEN, when_retired=True),
    Policy(Lane.USER, barrier=True, on_same_slot=OnSameSlot.COALESCE),
    *(Policy(Lane.USER, while_waiting=each) for each in WhileWaiting),
    Policy(Lane.USER, batch="b", retry=RetryLimits(failures=1, losses=1, give_up_after_ms=0)),
)
ERRORS = (
    *(ErrorKind.TRANSIENT, ErrorKind.TRANSIENT, ErrorKind.RATE_LIMITED),
    *(ErrorKind.INVALID_REQUEST, ErrorKind.TIMEOUT),
)
ENTRIES = (EntryKind.START, EntryKind.REPORT, EntryKind.UNKNOWN, EntryKind.NOTE)
STATES = ("plan", "tasks", "state", "n1", "n2", "n3", "n4", "n5", "n6")
RARELY = (0,) * 19 + (1,)
EACH = Keep(COMMANDS_FOR_MS_MIN)
RETENTIONS = (
    Retention(Keep(0), EACH, COMMANDS_FOR_MS_MIN, EACH, 0, COMMANDS_FOR_MS_MIN),
    Retention(Keep(0, 9), EACH, destroyed_for_ms=0),
    Retention.for_ms(COMMANDS_FOR_MS_MIN),
    Retention(),
)
# none of RETENTIONS prunes frames: see the conformance suite
ORDER = tuple((k,) for k in PruneKind if k not in (PruneKind.FRAMES, PruneKind.DONE))
DIGESTS = ("a" * 64, "b" * 64)
RELATIONS = (Root(), Root(), Root(), Child("s1", "r1"), Fork("s2", None))

IMPORTED = (
    ImportNode("asked", Role.USER, "add \u00e9", 1),
    ImportNode("called", Role.ASSISTANT, "add", 2, ("c1",)),
    ImportNode("found", Role.TOOL, "5", 3, ("c1",)),
    ImportNode("told", Role.ASSISTANT, "it is 5", 4),
)
PAGES = (IMPORTED[:2], (IMPORTED[2], IMPORTED[0]), IMPORTED[3:])
PROMISE: Import = promise(map(digest_of_page, PAGES))


class CommandGenerator:
    """Generates commands that fit the rows, commands that fitted earlier rows, and commands that never fit.

    With `prunes`, it prunes too, and some ids have a time.

    It learns the rows from the answers that it observes.  `pick` chooses one of several values.  `ids` is the size of
    each pool of ids, `bulk` the number of inputs of the largest Admit.  One in `calm` commands interrupts, withdraws,
    stops or the like.
    """

    def __init__(
        self,
        pick: Pick,
        sessions: Sequence[str] = SESSIONS,
        *,
        ids: int = 12,
        bulk: int = 2,
        calm: int = 8,
        prunes: bool = True,
    ) -> None:
        self.pick, self.prunes, self.now_ms = pick, prunes, 0
        self.sessions = sessions
        self.ids = range(ids)
        self.sizes = range(1, bulk + 1)
        self.calm = range(calm)
        self.world: World = EMPTY
        self.fences: dict[str, list[tuple[Fence, str]]] = {}  # each with the run, "" without one
        self.sent: list[AnyCommand] = []
        self.generated = 0

    # -- answers

    def observe(self, command: AnyCommand, answer: object) -> None:
        """Apply the writes of an answer, and remember the fence that it grants."""
        if not isinstance(answer, Decided):
            return
        self.world = evolve(self.world, answer.writes)
        outcome = answer.outcome
        found = outcome.next if isinstance(outcome, Committed) else outcome
        if isinstance(found, Begun | Acquired):
            run_id = found.run_id if isinstance(found, Begun) else ""
            self.fences.setdefault(command.session_id, []).append((found.fence, run_id))

    # -- commands

    def send(self, now_ms: int) -> AnyCommand:
        """Return the next command: mostly a new one, sometimes an earlier one again."""
        self.now_ms = now_ms
        if self.sent and self.pick(range(10)) == 0:
            return self.pick(self.sent[-20:])  # type: ignore[no-any-return]
        command = self._new(self.pick(self.sessions), now_ms)
        self.sent.append(command)
        return command

    def _new(self, session: str, now_ms: int) -> AnyCommand:
        pick = self.pick
        row: Session | None = self.world.answer(Get(Session, (session,)))
        if pick(self.calm) == 0:
            if self.prunes and pick(range(3)) == 0:
                return self._prune(session, now_ms)
            return self._disturb(session, now_ms)
        if row is None and pick(range(8)) == 0:
            return Open(session, self._profile(), PROMISE)
        if row is not None and row.phase is Phase.IMPORTING and pick((True, True, False)):
            return self._import_page(session)
        if row is None or pick(range(4)) == 0:
            return self._admit(session, now_ms)
        if isinstance(row.lease, Held) and pick(range(4)) > 0:
            fence = Fence(session, row.lease.generation, row.lease.lease_id)
            return self._hold(row, fence, row.lease_run or "")
        if session in self.fences and pick(range(6)) == 0:
            return self._hold(row, *pick(self.fences[session][-6:]))
        kinds = (*(self._begin,) * 4, Sweep, self._acquire, self._relay, *self._answers(row))
        command: AnyCommand = pick(kinds)(session)
        return command

    def _answers(self, row: Session) -> tuple[Callable[[str], AnyCommand], ...]:
        """Return what answers the run that waits, if one does."""
        run: Run | None = self.world.answer(Get(Run, (row.session_id, row.open_run or "")))
        waits = run is not None and isinstance(run.state, Waiting)
        return (self._decide,) * 4 if waits else ()

    def send_some(self, now_ms: int) -> list[AnyCommand]:
        """Return commands that are sent together: mostly one, sometimes several."""
        return [self.send(now_ms) for _ in range(self.pick((1, 1, 3)))]

    def _id(self, prefix: str) -> str:
        """Return an id: mostly one of the pool, else a new one."""
        self.generated += 1
        if self.prunes and self.pick(range(4)) == 0:
            return self._timed_id(prefix)
        new = self.pick(range(10)) >= 7
        return f"{prefix}-{self.generated}" if new else f"{prefix}{self.pick(self.ids)}"

    def _timed_id(self, prefix: str) -> str:
        """Return an id with the time of now, as drivers make them (RETENTION-4)."""
        digits = f"{max(self.now_ms, 0):012x}"
        number = ord(prefix[0]) << 32 | self.generated
        return f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"

    def _rows(self, kind: type[R], session: str) -> list[R]:
        return [row for row in self.world.all(kind) if row.session_id == session]

    def _input(self, now_ms: int) -> NewInput:
        pick = self.pick
        policy = pick(POLICIES) if pick(range(3)) == 0 else None
        return NewInput(
            self._id("i"),
            "custom" if policy else pick(KINDS),
            pick(("hello", "hello", "something else", "\u00e9\U0001f600")),
            key=self._id("k") if pick(range(3)) == 0 else None,
            priority=pick((None, None, None, None, 0, 1, 200)),
            available_at_ms=now_ms + pick((-5, 1, 40, 40, 9_000)) if pick(range(4)) == 0 else None,
            supersession_key=pick(("x", "y")) if pick(range(6)) == 0 else None,
            policy=policy,
            target=pick((Target.CURRENT, Target.NOBODY, self._id("r")))
            if pick(range(12)) == 0
            else None,
            if_idle=pick((IfIdle.QUEUE, IfIdle.QUEUE, IfIdle.QUEUE, IfIdle.REFUSE)),
            if_over=pick((IfOver.QUEUE, IfOver.ABANDON)),
            origin=pick((None, None, None, '{"adapter": "chat"}')),
            resolution=pick((None, None, None, None, "agent@1")),
            parent=Parent(pick(self.sessions), self._id("r")) if pick(range(8)) == 0 else None,
            settles=TicketName("parent", self._id("t"), pick(("", "", "far")))
            if pick(range(8)) == 0
            else None,
        )

    def _admit(self, session: str, now_ms: int) -> AnyCommand:
        new = [self._input(now_ms) for _ in range(self.pick(self.sizes))]
        inputs = tuple({each.input_id: each for each in new}.values())
        return Admit(
            *(session, inputs, self.pick((True, True, False))),
            queue_max=self.pick((None, None, None, None, None, 3)),
            only_if_idle=self.pick(range(12)) == 0,
            profile=self._profile(),
        )

    def _import_page(self, session: str) -> AnyCommand:
        """Return a page: mostly the next one, sometimes any, or with the content of another one."""
        pick = self.pick
        progress: ImportProgress | None = self.world.answer(Get(ImportProgress, (session,)))
        next_ = 1 if progress is None else progress.next_page
        number = pick((next_, next_, next_, 1, 2, 3, 4))
        nodes = PAGES[(number - 1 + pick(RARELY)) % len(PAGES)]
        return ImportPage(session, number, nodes)

    def _profile(self, few: int = 4) -> NewProfile | None:
        """Return a profile: one in `few` times, sometimes one that is refused."""
        pick = self.pick
        if pick(range(few)) > 0:
            return None
        labels = [
            (self._id("label"), pick(("red", "blue", "\u00e9"))) for _ in range(pick((0, 1, 3)))
        ]
        return NewProfile(
            pick((None, "a name")), tuple(labels), pick(RELATIONS), pick((None, None, "{}"))
        )

    def _begin(self, session: str) -> AnyCommand:
        pick = self.pick
        return Begin(
            *(session, self._id("l"), self._id("r"), pick(OWNERS)),
            ttl_ms=pick((60, 60, 60, 1_000, 0)),
            limit=pick((1, 8, 64, 500)),
            limit_bytes=pick((8, 1_000_000)),
            others=pick((0, 0, 0, 1, 8)),
            exactly=(pick(self._inputs(session)),) if pick(range(15)) == 0 else None,
            resolution=pick((None, None, "agent@1", "agent@2")),
        )

    def _inputs(self, session: str) -> list[str]:
        return [entry.input_id for entry in self._rows(QueueEntry, session)] or ["i?"]

    def _acquire(self, session: str) -> AnyCommand:
        return Acquire(session, self._id("l"), self.pick(OWNERS), 60)

    # -- commands of a lease holder, or of a former one

    def _hold(self, row: Session, fence: Fence, run_id: str) -> AnyCommand:
        pick, session = self.pick, row.session_id
        if pick(range(30)) == 0:
            fence = Fence(
                pick((session, "other")), fence.generation - pick((0, 1)), pick(("l?", "l1"))
            )
        run: Run | None = self.world.answer(Get(Run, (session, run_id)))
        kinds: tuple[Callable[..., AnyCommand], ...] = (
            *(self._commit, self._commit, self._commit, self._checkpoint, self._checkpoint),
            *(self._fail, self._fail, self._renew, self._release, self._reclaim),
            *(self._park, self._park, self._park, self._intend, self._intend),
        )
        if run is None:
            kinds = (self._release_session, self._amend, self._amend, self._renew)
        return pick(kinds)(row, fence, run)  # type: ignore[no-any-return]

    def _turn(self, run: Run) -> int:
        turn: int = run.turn + self.pick(RARELY)
        return turn

    def _n(self, run: Run) -> int:
        n: int = run.next_checkpoint - self.pick((0,) * 9 + (1,))
        return n

    def _nodes(self, run: Run | None) -> tuple[NewNode, ...]:
        pick = self.pick
        if run is not None and run.open_calls and pick(range(3)):
            return (NewNode(Role.TOOL, "result", run.open_calls[:1]),)
        calls = NewNode(Role.ASSISTANT, "calls", ("c1", "c2"))
        answer = NewNode(Role.ASSISTANT, pick(("answer", "another")), hidden=pick(range(9)) == 0)
        nodes: tuple[NewNode, ...] = pick(((), (answer,), (answer,), (answer, calls)))
        return nodes

    def _commit(self, row: Session, fence: Fence, run: Run) -> AnyCommand:
        pick = self.pick
        cancelled = row.cancel is not None and pick(range(4)) > 0
        return Commit(
            *(row.session_id, fence, run.run_id, self._turn(run), self._n(run)),
            row.revision + pick(RARELY),
            Termination.CANCELLED if cancelled else pick(tuple(Termination)[:4]),
            nodes=self._nodes(run),
            usage=pick(((), (UsageDelta("model", "m", 1, 2, 3),))),
            state=pick((None, None, "state", "other state")),
            then=pick((Then.NEXT, Then.RELEASE)),
            next_run_id=self._id("r"),
            limit=pick((1, 8, 64)),
            hand_off=NewInput(self._id("i"), "hand_off", "go") if pick(range(8)) == 0 else None,
            frame=None if (switch := self._switch(row)) else pick((None, None, "planner")),
            yields=pick((True, False, False)),
            switch=switch,
            states=self._states(),
            attach=self._attached(row.session_id),
            outbound=self._outbound(),
        )

    def _outbound(self) -> tuple[NewOutbound, ...]:
        """Return what a command sends: mostly nothing, sometimes too much."""
        pick = self.pick
        if pick(range(6)):
            return ()
        to = pick((*self.sessions, "t1", "t 1")) if pick(range(30)) == 0 else "t1"
        wake = Admit(to, (NewInput(pick(("", self._id("i"))), "wake", "go"),))
        kinds: tuple[Sendable, ...] = (
            *(wake, wake, RequestCancel("t2", "", self._id("r"))),
            Decide("t2", self._id("t"), self._id("c"), Action.ANSWER, "yes"),
        )
        count = pick((1, 1, 2, 3, 8, 9))
        return tuple([NewOutbound(pick(kinds), pick(("", "", "", "far"))) for _ in range(count)])

    def _relay(self, session: str) -> AnyCommand:
        """Return a command of a relay, or of who sends a command again."""
        pick = self.pick
        rows = self._rows(Outbound, session)
        if not rows:
            return Sent(session, pick((1, 2)), "t1")
        row = pick((rows[0], rows[0], rows[-1], pick(rows)))
        number, to, peer = row.number + pick(RARELY), row.to, row.peer
        return pick(  # type: ignore[no-any-return]
            (
                *(Sent(session, number, to, peer), Sent(session, number, to, peer)),
                SendFailed(session, number, to, row.attempts, "timed out", peer),
                SendRefused(session, number, to, "phase", "INBOX-6", "destroyed", peer),
                LineUp(session, to, tuple(sorted({number, pick(rows).number})), peer),
                Resend(session, self._id("c"), number),
            )
        )

    def _switch(self, row: Session) -> Switch | None:
        """Return a Switch: seldom, and to a frame that is new, known, current or impossible."""
        pick = self.pick
        if pick(range(6)):
            return None
        name = pick(("", "f1", "f2", "f3", row.frame, "f 4"))
        return Switch(
            *(name, pick((None, None, "planner")), pick(("", "why")), pick((True, True, False))),
            options=pick((None, None, "{}")),
            own_path=pick((True, False)),
        )

    def _states(self) -> tuple[NewState, ...]:
        pick = self.pick
        if pick(range(3)):
            return ()
        names = dict.fromkeys((pick(STATES), pick(STATES)))
        return tuple([NewState(name, pick((None, "state", "plan", "prompts"))) for name in names])

    def _checkpoint(self, row: Session, fence: Fence, run: Run) -> AnyCommand:
        pick = self.pick
        entry = NewEntry(pick(ENTRIES), self._id("e"), pick(("", "{}")))
        return Checkpoint(
            *(row.session_id, fence, run.run_id, self._turn(run), self._n(run)),
            (entry,)[: pick((0, 1, 1))],
            self._nodes(run),
            environment=pick((None, None, "state", "prompts")),
            take=pick((None, None, *Boundary)),
            take_max=pick((1, 2, 64)),
            take_id=self._id("take"),
            tickets=self._tickets((0,) * 9 + (1,)),
            attach=self._attached(row.session_id),
            outbound=self._outbound(),
        )

    def _tickets(self, counts: Sequence[int]) -> tuple[NewTicket, ...]:
        pick = self.pick
        found = []
        for kind in [pick(tuple(TicketKind)) for _ in range(pick(counts))]:
            work = kind is TicketKind.WORK
            found.append(
                NewTicket(
                    *(self._id("t"), self._id("e"), kind, "may I?"),
                    offers=() if work else pick((ACTIONS, ACTIONS, (Action.ANSWER,), ())),
                    within_ms=pick((None, 40, 9_000)),
                    awaits=pick((None, Work("child", "i"), Work("job", None, "far")))
                    if work
                    else None,
                )
            )
        return tuple(found)

    def _park(self, row: Session, fence: Fence, run: Run) -> AnyCommand:
        pick = self.pick
        asked = [t.ticket_id for t in self._rows(Ticket, row.session_id) if t.run_id == run.run_id]
        return Park(
            *(row.session_id, fence, run.run_id, self._turn(run), self._n(run), self._id("e")),
            pick(tuple(WaitReason)),
            tuple(dict.fromkeys(pick(asked) for _ in range(pick((0, 1, 2))))) if asked else (),
            pick((None, None, None, 1, 2)),
            pick((None, None, WhileWaiting.FOLD, WhileWaiting.HOLD, WhileWaiting.SUPERSEDE)),
            nodes=self._nodes(run),
            tickets=self._tickets((0, 1, 1, 1, 2)),
            rest=pick(tuple(Rest)),
        )

    def _fail(self, row: Session, fence: Fence, run: Run) -> AnyCommand:
        pick = self.pick
        failure = Failure(pick(ERRORS), "no", pick((0, 0, 900)), pick((0, 7)))
        return Fail(row.session_id, fence, run.run_id, self._turn(run), failure)

    def _renew(self, row: Session, fence: Fence, run: Run | None) -> AnyCommand:
        return Renew(row.session_id, fence)

    def _release(self, row: Session, fence: Fence, run: Run) -> AnyCommand:
        return Release(row.session_id, fence, run.run_id)

    def _reclaim(self, row: Session, fence: Fence, run: Run) -> AnyCommand:
        return Reclaim(row.session_id, self._id("c"), fence, self.pick(tuple(Evidence)))

    def _release_session(self, row: Session, fence: Fence, run: None) -> AnyCommand:
        return ReleaseSession(row.session_id, fence)

    def _amend(self, row: Session, fence: Fence, run: None) -> AnyCommand:
        pick, session = self.pick, row.session_id
        rewind = None
        if pick(range(3)) == 0:
            nodes = [node.node_id for node in self._rows(Node, session)]
            rewind = Rewind(pick((None, "none", *nodes)))
        new = self._nodes(None)
        if pick(range(4)) == 0:
            new = (NewNode(Role.ASSISTANT, "in short", form=pick((Form.COMPACTION, Form.TEXT))),)
        hide, show = self._to_hide(session) if pick((True, False)) else ((), ())
        return Amend(
            *(session, self._id("c"), fence, row.revision, new, rewind),
            profile=self._profile(2),
            switch=self._switch(row),
            states=self._states(),
            usage=pick(((), (), (UsageDelta("import", "m", 1, 2, 3),))),
            hide=hide,
            show=show,
            attach=self._attached(session),
            forget=self._attached(session),
            outbound=self._outbound(),
        )

    def _to_hide(self, session: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return nodes to hide and to show: seldom unknown ones, and mostly a call with all of its results."""
        pick, nodes = self.pick, self._rows(Node, session)
        if not nodes:
            return ("n?",), ()
        first = pick(nodes)
        named = [first]
        if pick(range(8)):
            while named[0].role is Role.TOOL:
                named.insert(0, next(n for n in nodes if n.node_id == named[0].parent))
            while named[-1].open_calls:
                after = [n for n in nodes if n.parent == named[-1].node_id]
                if not after:
                    break
                named.append(after[0])
        ids = tuple([node.node_id for node in named])
        return ((), ids) if first.hidden else (ids, ())

    # -- attachments

    def _attachments(self, session: str) -> list[str]:
        return [row.attachment_id for row in self._rows(Attachment, session)] or ["a?"]

    def _attached(self, session: str) -> tuple[str, ...]:
        """Return what a command attaches or forgets: mostly nothing, mostly known."""
        held = [row.attachment_id for row in self._rows(Attachment, session) if row.held]
        if not held:
            return () if self.pick(range(20)) else (self._id("a"),)
        return (self.pick(held),) if self.pick(range(3)) == 0 else ()

    def _intend(self, row: Session, fence: Fence | None, run: Run | None) -> AnyCommand:
        pick = self.pick
        known = self._attachments(row.session_id)
        ids = {
            pick((self._id("a"), self._id("a"), *known[-2:])): None for _ in range(pick((1, 1, 3)))
        }
        new = [
            NewAttachment(each, pick(DIGESTS), 1, pick(("image/png",) * 4 + ("text/plain", "")))
            for each in ids
        ]
        run_id = None if run is None else run.run_id
        return Intend(row.session_id, tuple(new), fence, run_id)

    def _let_go(self, session: str) -> AnyCommand:
        """Return a command of who forgets attachments, or deletes their bytes."""
        pick = self.pick
        row: Session | None = self.world.answer(Get(Session, (session,)))
        rows = self._rows(Attachment, session)
        scraps = [s for s in rows if isinstance(s.state, Scrap)]
        if row is not None and (not rows or pick(range(6)) == 0):
            return self._intend(row, None, None)
        if row is None or not scraps or pick(range(6)) == 0:
            return Forget(session, (pick((*self._attachments(session), self._id("a"))),))
        named = pick(scraps)
        claim_id = pick((getattr(named.state, "claim_id", None) or "d1", "d2"))
        return pick(  # type: ignore[no-any-return]
            (
                ClaimScraps(session, claim_id, ((named.attachment_id, named.digest),)),
                ClaimScraps(session, claim_id, ((named.attachment_id, pick(DIGESTS)),)),
                DropScraps(session, claim_id, (named.attachment_id,)),
            )
        )

    # -- commands of users and operators

    def _decide(self, session: str) -> AnyCommand:
        pick = self.pick
        tickets = [ticket.ticket_id for ticket in self._rows(Ticket, session)] or ["t?"]
        asked = pick((*tickets, *tickets[-3:]))
        row: Ticket | None = self.world.answer(Get(Ticket, (session, asked)))
        work = row is not None and row.kind is TicketKind.WORK
        if work != (pick(range(10)) == 0):
            return Settle(session, self._id("c"), asked, pick(ENDS), pick(("", "done")), "other")
        return Decide(session, asked, self._id("c"), pick(ACTIONS), pick(("", "yes")), "somebody")

    def _replace(self, session: str, command_id: str, now_ms: int) -> AnyCommand:
        entries = self._rows(QueueEntry, session)
        waiting = [e.input_id for e in entries if isinstance(e.state, Ready | Delayed)]
        old = self.pick((*waiting, *waiting, *self._inputs(session)))
        return Replace(session, command_id, old, self._input(now_ms))

    def _reorder(self, session: str, command_id: str) -> AnyCommand:
        pick, lane = self.pick, self.pick(LANES)
        entries = [e for e in self._rows(QueueEntry, session) if isinstance(e.state, Ready)]
        ready = [e.input_id for e in entries if e.lane is lane or pick(RARELY)] or ["i?"]
        named = dict.fromkeys((pick(ready), pick(ready), pick(ready)))
        return Reorder(session, command_id, lane, tuple(named))

    def _readmit(self, session: str, command_id: str) -> AnyCommand:
        dead = [
            e.input_id
            for e in self._rows(QueueEntry, session)
            if isinstance(e.state, Ended) and e.state.how is How.DEAD_LETTERED
        ]
        old = self.pick((*dead, *dead, *self._inputs(session)))
        return Readmit(session, command_id, old, self._id("i"))

    def _reseal(self, session: str) -> AnyCommand:
        nodes = [RowName("Node", (node.node_id,)) for node in self._rows(Node, session)]
        blobs = [RowName("Blob", (blob.digest,)) for blob in self._rows(Blob, session)]
        known = (*nodes, *blobs, RowName("Node", ("none",)), RowName("Profile"))
        return Reseal(session, (self.pick(known), self.pick(known)))

    def _event(self, session: str) -> int:
        """Return the number of an event: of any, of the last one, or of the one after it."""
        row: Session | None = self.world.answer(Get(Session, (session,)))
        last = 0 if row is None else row.next_event - 1
        number: int = self.pick((*range(last), last, last, last, last + self.pick(RARELY)))
        return number

    def _prune(self, session: str, now_ms: int) -> AnyCommand:
        """Return the next step of a pass, from some kind on; or one that is out of date."""
        without = self.pick(tuple(itertools.accumulate(ORDER, lambda a, b: (*a, *b), initial=())))
        question = NextPrune(session, self.pick(RETENTIONS), now_ms, without)
        step: AnyCommand | None = ask(question, self.world.answer)
        return Sweep(session) if step is None else step

    def _disturb(self, session: str, now_ms: int) -> AnyCommand:
        pick, s, id_ = self.pick, session, self._id("c")
        inputs = self._inputs(s)
        interrupt = Interrupt(s, id_, None, pick((True, False)), pick((True, True, False)))
        runs = [run.run_id for run in self._rows(Run, s)] or ["r?"]
        replacement = self._input(now_ms) if pick((True, False)) else None
        phases = (
            *(Retire(s, id_, pick((True, False))), Stop(s, id_, pick((True, False)))),
            *(Reset(s, id_), Reopen(s, id_), Reopen(s, id_)),
        )
        command: AnyCommand = pick(
            (
                *(Interrupt(s, id_, replacement), interrupt),
                *(self._replace(s, id_, now_ms), self._reorder(s, id_)) * 2,
                *(self._readmit(s, id_), self._decide(s), self._let_go(s), self._let_go(s)),
                *(Publish(s, pick((0, 1, 3))), Publish(s, self._event(s)), self._reseal(s)),
                *(RequestCancel(s, id_, pick(runs)), RequestCancel(s, id_, pick(runs[-2:]))),
                *(CancelInput(s, id_, pick(inputs)), Withdraw(s, id_, pick(inputs[-3:]))),
                *(
                    WithdrawFrom(s, id_, pick(inputs), pick(LANES)),
                    Sweep(s),
                    Open(s, self._profile()),
                ),
                *(pick(phases), pick(phases)),
                Destroy(s, id_, self.prunes and pick((True, False)))
                if pick(range(12)) == 0
                else Sweep(s),
            )
        )
        return command
