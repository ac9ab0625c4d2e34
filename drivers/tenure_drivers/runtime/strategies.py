"""What a submission does if its session is busy: wait in the queue, give up, interrupt, roll back or replace."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, TypeVar

from tenure.commands import (
    Admission,
    Admit,
    BusyWith,
    Interrupt,
    Interrupted,
    NewInput,
    NewProfile,
    RequestCancel,
)
from tenure.outcome import Refusal, Refused
from tenure.queries import Command
from tenure.transcript import hash_parts

from .changes import SessionChanges, SessionListener
from .clock import new_id
from .errors import Busy, SubmissionRefused

__all__ = ["BusyStrategy", "admit_by_strategy", "check_strategy"]


O = TypeVar("O")
V = TypeVar("V")

BusyStrategy = Literal["enqueue", "reject", "interrupt", "rollback", "replace"]

LOOK_AGAIN_S = 1.0  # the end of a lease that lapses gives no notice


class Executor(Protocol):
    """The part of a client that a strategy needs."""

    session_changes: SessionChanges

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As Client.execute."""
        ...


def check_strategy(busy: BusyStrategy, within_s: float | None) -> None:
    """Raise ValueError unless `within_s` is given for exactly the strategy that waits."""
    if busy not in ("enqueue", "reject", "interrupt", "rollback", "replace"):
        raise ValueError(f"busy {busy!r}: expected enqueue, reject, interrupt, rollback or replace")
    if (busy == "replace") is (within_s is None):
        raise ValueError(f"busy {busy!r} with within_s {within_s}: only replace waits, and must")


async def admit_by_strategy(
    client: Executor,
    session_id: str,
    new: NewInput,
    busy: BusyStrategy,
    within_s: float | None,
    profile: NewProfile | None = None,
) -> Admission:
    """Admit an input.  Raises Busy and SubmissionRefused; then nothing of the input is stored.

    `profile`: of the session, if it is created.
    """
    if busy in ("enqueue", "reject"):
        return await _admit(client, session_id, new, profile, only_if_idle=busy == "reject")
    command = Interrupt(
        session_id, _command_id(new), new, busy == "replace", rollback=busy == "rollback"
    )
    if within_s is None:
        answer = await client.execute(command)
    else:
        answer = await _when_at_rest(client, command, within_s)
    if isinstance(answer, Interrupted):
        assert answer.replacement is not None
        return answer.replacement
    if answer.reason is Refusal.UNKNOWN_SESSION:
        return await _admit(client, session_id, new, profile)
    raise _error_of(session_id, answer)


async def _admit(
    client: Executor,
    session_id: str,
    new: NewInput,
    profile: NewProfile | None,
    *,
    only_if_idle: bool = False,
) -> Admission:
    admit = Admit(session_id, (new,), only_if_idle=only_if_idle, profile=profile)
    answer = await client.execute(admit)
    if isinstance(answer, Refused):
        raise _error_of(session_id, answer)
    return answer.admissions[0]


async def _when_at_rest(
    client: Executor, command: Interrupt, within_s: float
) -> Interrupted | Refused:
    """Ask the run at work to stop, and execute the command as soon as the session is at rest.

    The last answer is the refusal if that is not in time.  A command that was sent is not given up.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    listener, asked = SessionListener(), set[str]()
    client.session_changes.subscribe(command.session_id, listener)
    try:
        while True:
            listener.woken.clear()
            answer = await client.execute(command)
            busy = answer.detail if isinstance(answer, Refused) else None
            if not isinstance(busy, BusyWith):
                return answer
            if busy.run_id is not None and busy.run_id not in asked:
                asked.add(busy.run_id)
                await client.execute(RequestCancel(command.session_id, new_id(), busy.run_id))
                continue  # that may have ended it
            left_s = until_s - loop.time()
            if left_s <= 0:
                return answer
            await listener.wait(min(left_s, LOOK_AGAIN_S))
    finally:
        client.session_changes.unsubscribe(command.session_id, listener)


def _command_id(new: NewInput) -> str:
    """Name the interrupt after its input: the same submission again is the same interrupt, and takes back nothing."""
    named = new.input_id if new.key is None else new.key
    return f"submit-{hash_parts([new.key is None, named], new.kind, new.payload)}"


def _error_of(session_id: str, refused: Refused) -> SubmissionRefused:
    if refused.reason is Refusal.BUSY:
        return Busy(session_id, refused)
    return SubmissionRefused(refused)
