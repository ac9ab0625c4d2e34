"""Commands of users and operators about one session: its phase, the inputs that wait in it, and its dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tenure.commands import (
    Acquire,
    Acquired,
    Amend,
    Amended,
    Destroy,
    NewInput,
    NewOutbound,
    NewProfile,
    PhaseChanged,
    Readmit,
    Readmitted,
    ReleaseSession,
    Reopen,
    Reorder,
    Reordered,
    Replace,
    Replaced,
    Reset,
    Retire,
    Rewind,
    Stop,
    Withdraw,
    Withdrawn,
)
from tenure.frame import NewState, Switch
from tenure.machines.lease import Owner
from tenure.outcome import Refused
from tenure.policy import Lane
from tenure.queries import Command
from tenure.transcript import NewNode, UsageDelta

from .clock import new_id
from .errors import CommandRefused

__all__ = ["SessionCommands"]


O = TypeVar("O")
V = TypeVar("V")


class SessionCommands:
    """Methods of a client that execute one command each; `amend` also takes a lease.  All raise CommandRefused.

    A repetition with the same `command_id` is answered as the first time; without one, each call is a new command.
    """

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """As Client.execute."""
        raise NotImplementedError

    def with_policy(self, new: NewInput) -> NewInput:
        """As Client.with_policy."""
        raise NotImplementedError

    async def _obeyed(self, command: Command[Any, O]) -> O:
        answer = await self.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused(command.__class__.__name__.lower(), answer)
        return answer

    # -- inputs

    async def withdraw(
        self, session_id: str, input_id: str, *, command_id: str | None = None
    ) -> Withdrawn:
        """Withdraw an input that no run has worked on.  `abort` also asks a run that works on it to stop."""
        return await self._obeyed(Withdraw(session_id, command_id or new_id(), input_id))

    async def replace(
        self,
        session_id: str,
        input_id: str,
        new: NewInput | str,
        *,
        command_id: str | None = None,
    ) -> Replaced:
        """End an input that waits, and admit a new one in its place; a text becomes a prompt."""
        made = NewInput(new_id(), "prompt", new) if isinstance(new, str) else new
        command = Replace(session_id, command_id or new_id(), input_id, self.with_policy(made))
        return await self._obeyed(command)

    async def reorder(
        self,
        session_id: str,
        input_ids: Sequence[str],
        *,
        lane: Lane = Lane.USER,
        command_id: str | None = None,
    ) -> Reordered:
        """Let ready inputs of a lane exchange their places, so that they come in this order."""
        return await self._obeyed(
            Reorder(session_id, command_id or new_id(), lane, tuple(input_ids))
        )

    async def readmit(
        self,
        session_id: str,
        input_id: str,
        *,
        new_input_id: str | None = None,
        command_id: str | None = None,
    ) -> Readmitted:
        """Admit the content of a dead letter as a new input."""
        id_, new = command_id or new_id(), new_input_id or new_id()
        return await self._obeyed(Readmit(session_id, id_, input_id, new))

    # -- the transcript

    async def amend(
        self,
        session_id: str,
        nodes: Sequence[NewNode] = (),
        *,
        rewind: Rewind | None = None,
        hide: Sequence[str] = (),
        show: Sequence[str] = (),
        switch: Switch | None = None,
        states: Mapping[str, str | None] | None = None,
        usage: Sequence[UsageDelta] = (),
        profile: NewProfile | None = None,
        attach: Sequence[str] = (),
        forget: Sequence[str] = (),
        outbound: Sequence[NewOutbound] = (),
        command_id: str | None = None,
    ) -> Amended:
        """Move the leaf back, add nodes after it, hide nodes or show them, and what else Amend can do, while no turn is open.

        `attach`, `forget`: ids of attachments.  `outbound`: commands that are sent to other sessions with it, at most 8.
        Takes the lease of the session for the time of the command, so it is refused while somebody works on it.
        """
        acquired: object = None
        while not isinstance(acquired, Acquired):  # its lease may be over before it is answered
            lease_id = new_id()
            acquired = await self._obeyed(Acquire(session_id, lease_id, Owner("client", lease_id)))
        try:
            changed = tuple([NewState(name, text) for name, text in (states or {}).items()])
            return await self._obeyed(
                Amend(
                    session_id, command_id or new_id(), acquired.fence, acquired.revision,
                    tuple(nodes), rewind, profile, switch, changed, tuple(usage), tuple(hide),
                    tuple(show), tuple(attach), tuple(forget), tuple(outbound),
                )
            )  # fmt: skip
        finally:
            await self.execute(ReleaseSession(session_id, acquired.fence))

    # -- phases

    async def retire(
        self, session_id: str, *, abandon_queued: bool = False, command_id: str | None = None
    ) -> PhaseChanged:
        """Admit only what continues earlier work, and finish or abandon what is queued."""
        return await self._obeyed(Retire(session_id, command_id or new_id(), abandon_queued))

    async def stop_session(
        self, session_id: str, *, abandon: bool = False, command_id: str | None = None
    ) -> PhaseChanged:
        """Admit nothing, ask the turn at work to stop, and begin nothing else.  (`Runtime.stop` stops a runtime.)"""
        return await self._obeyed(Stop(session_id, command_id or new_id(), abandon))

    async def reset(self, session_id: str, *, command_id: str | None = None) -> PhaseChanged:
        """End the open turn, abandon all inputs, and open the session.  Refused while a lease is live."""
        return await self._obeyed(Reset(session_id, command_id or new_id()))

    async def reopen(self, session_id: str, *, command_id: str | None = None) -> PhaseChanged:
        """Open a session that was retired or stopped."""
        return await self._obeyed(Reopen(session_id, command_id or new_id()))

    async def destroy(
        self, session_id: str, *, erase_payloads: bool = False, command_id: str | None = None
    ) -> PhaseChanged:
        """End all work of a session for good, also under a live lease.

        `erase_payloads`: its texts are to be erased too, by whoever prunes next; `Client.erase` does it at once.
        """
        return await self._obeyed(Destroy(session_id, command_id or new_id(), erase_payloads))
