"""Generates commands with ids from small pools, so that they often collide.

Replays, conflicts, stale fences and races are as frequent as valid commands.  The conformance suite and the
agreement machine use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenure.commands import (
    Acquire,
    Acquired,
    Admit,
    Amend,
    Begin,
    Begun,
    Checkpoint,
    Checkpointed,
    Commit,
    Committed,
    Destroy,
    Fail,
    Interrupt,
    NewEntry,
    NewInput,
    Open,
    Reclaim,
    Release,
    ReleaseSession,
    Renew,
    Reopen,
    RequestCancel,
    Reset,
    Retire,
    Stop,
    Sweep,
    Then,
    Withdraw,
    WithdrawFrom,
)
from tenure.failure import ErrorKind, Failure
from tenure.machines.lease import Evidence, Owner
from tenure.machines.run import Termination
from tenure.outcome import Decided
from tenure.policy import Lane
from tenure.queries import Command
from tenure.records import EntryKind
from tenure.transcript import NewNode, Role, UsageDelta

__all__ = ["SESSIONS", "CommandGenerator"]


Pick = Callable[[Sequence[Any]], Any]

SESSIONS = ("s1", "s2", "s3")
INPUTS = tuple(f"i{n}" for n in range(12))
LEASES = tuple(f"l{n}" for n in range(8))
RUNS = tuple(f"r{n}" for n in range(8))
TIMES = tuple(range(4))
OWNERS = (Owner("worker-1", "first"), Owner("worker-2", "second"))


class CommandGenerator:
    """Generates the next command from earlier answers: one that fits them, or is outdated."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.begun: dict[str, list[Begun]] = {}
        self.acquired: dict[str, list[Acquired]] = {}
        self.checkpoints: dict[tuple[str, str, int], int] = {}

    # -- answers

    def observe(self, command: Command[Any, Any], answer: object) -> None:
        if not isinstance(answer, Decided):
            return
        match answer.outcome:
            case Begun() as begun:
                self.begun.setdefault(command.session_id, []).append(begun)
            case Committed(next=Begun() as begun):
                self.begun.setdefault(command.session_id, []).append(begun)
            case Acquired() as acquired:
                self.acquired.setdefault(command.session_id, []).append(acquired)
            case Checkpointed(n=n) if isinstance(command, Checkpoint):
                self.checkpoints[command.session_id, command.run_id, command.turn] = n

    # -- commands

    def send(self, now_ms: int) -> Command[Any, Any]:
        session = self.pick(SESSIONS)
        kinds: list[Callable[[str, int], Command[Any, Any]]] = [
            *(self._admit, self._begin, self._begin, self._admit, self._other, self._other)
        ]
        if session in self.begun:
            kinds += [self._commit, self._commit, self._held, self._held, self._checkpoint]
        if session in self.acquired:
            kinds += [self._amend]
        command: Command[Any, Any] = self.pick(kinds)(session, now_ms)
        return command

    def send_some(self, now_ms: int) -> list[Command[Any, Any]]:
        """Return commands that are sent together: mostly one, sometimes several."""
        return [self.send(now_ms) for _ in range(self.pick((1, 1, 3)))]

    def _id(self, kind: str) -> str:
        """Return an id for a command of this kind; no other kind uses it."""
        return f"{kind}-{self.pick(TIMES)}"

    def _input(self, now_ms: int) -> NewInput:
        pick = self.pick
        return NewInput(
            pick(INPUTS),
            pick(("prompt", "prompt", "wake", "directive")),
            pick(("hello", "hello", "something else", "\u00e9\U0001f600")),
            key=pick((None, None, "k1", "k2")),
            priority=pick((None, None, 1, 200)),
            available_at_ms=pick((None, None, None, now_ms + 40)),
            supersession_key=pick((None, None, None, "slot")),
        )

    def _admit(self, session: str, now_ms: int) -> Command[Any, Any]:
        count = self.pick((1, 1, 1, 2))
        return Admit(session, tuple([self._input(now_ms) for _ in range(count)]))

    def _begin(self, session: str, now_ms: int) -> Command[Any, Any]:
        pick = self.pick
        return Begin(session, pick(LEASES), pick(RUNS), pick(OWNERS), ttl_ms=pick((60, 60, 20, 0)))

    def _last(self, session: str) -> Begun:
        found: Begun = self.pick(self.begun[session][-3:])
        return found

    def _nodes(self) -> tuple[NewNode, ...]:
        body = self.pick(("an answer", "another answer"))
        return self.pick(((NewNode(Role.ASSISTANT, body),), ()))  # type: ignore[no-any-return]

    def _expected_n(self, begun: Begun) -> int:
        known = self.checkpoints.get((begun.fence.session_id, begun.run_id, begun.turn), begun.n)
        return max(known, begun.n)

    def _commit(self, session: str, now_ms: int) -> Command[Any, Any]:
        pick, begun = self.pick, self._last(session)
        return Commit(
            session, begun.fence, begun.run_id, begun.turn, self._expected_n(begun),
            pick((begun.revision, begun.revision, begun.revision + 1)),
            pick((Termination.FINISHED, Termination.FINISHED, Termination.CANCELLED)),
            nodes=self._nodes(),
            usage=pick(((), (UsageDelta("model", "m1", 1, 10, 20),))),
            state=pick((None, "state 1", "state 2")),
            then=pick((Then.RELEASE, Then.NEXT)),
            next_run_id=pick(RUNS),
        )  # fmt: skip

    def _checkpoint(self, session: str, now_ms: int) -> Command[Any, Any]:
        pick, begun = self.pick, self._last(session)
        kind = pick((EntryKind.START, EntryKind.REPORT))
        entries = (NewEntry(kind, pick(("e1", "e2")), pick(("", "{}"))),)
        n = max(0, self._expected_n(begun) - pick((0, 0, 1)))
        return Checkpoint(
            session, begun.fence, begun.run_id, begun.turn, n, entries, self._nodes()
        )  # fmt: skip

    def _held(self, session: str, now_ms: int) -> Command[Any, Any]:
        pick, begun = self.pick, self._last(session)
        fence, run = begun.fence, begun.run_id
        error = pick((ErrorKind.TRANSIENT, ErrorKind.RATE_LIMITED, ErrorKind.INVALID_REQUEST))
        found: Command[Any, Any] = pick(
            (
                Renew(session, fence),
                Release(session, fence, run),
                Fail(session, fence, run, begun.turn, Failure(error, "no")),
                Reclaim(session, self._id("reclaim"), fence, pick(tuple(Evidence))),
                RequestCancel(session, self._id("cancel"), run),
            )
        )
        return found

    def _amend(self, session: str, now_ms: int) -> Command[Any, Any]:
        pick = self.pick
        acquired: Acquired = pick(self.acquired[session][-2:])
        found: Command[Any, Any] = pick(
            (
                Amend(session, self._id("amend"), acquired.fence, acquired.revision, self._nodes()),
                ReleaseSession(session, acquired.fence),
                Renew(session, acquired.fence),
            )
        )
        return found

    def _other(self, session: str, now_ms: int) -> Command[Any, Any]:
        pick, id_ = self.pick, self._id
        replacement = pick((None, self._input(now_ms)))
        found: Command[Any, Any] = pick(
            (
                Interrupt(session, id_("interrupt"), replacement),
                Interrupt(session, id_("interrupt"), replacement),
                Withdraw(session, id_("withdraw"), pick(INPUTS)),
                Withdraw(session, id_("withdraw"), pick(INPUTS)),
                WithdrawFrom(session, id_("withdraw_from"), pick(INPUTS), pick(tuple(Lane))),
                Sweep(session),
                Sweep(session),
                Acquire(session, pick(LEASES), pick(OWNERS), 60),
                Open(session),
                RequestCancel(session, id_("request_cancel"), pick(RUNS)),
                pick(
                    (
                        Retire(session, id_("retire")),
                        Reset(session, id_("reset")),
                        Reopen(session, id_("reopen")),
                    )
                ),
                pick((Stop(session, id_("stop")), Reopen(session, id_("reopen")))),
                pick(
                    (
                        Reopen(session, id_("reopen")),
                        Reopen(session, id_("reopen")),
                        Destroy(session, id_("destroy")),
                    )
                ),
            )
        )
        return found
