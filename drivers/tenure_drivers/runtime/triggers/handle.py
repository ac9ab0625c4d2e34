"""Triggers as a client sees them: a page of them, and the handle of one.  Spec: specs/trigger.md."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from tenure.commands import (
    ChangeSubscription,
    DeleteTrigger,
    Occur,
    Occurred,
    SetTrigger,
    Subscribe,
    SubscriptionChange,
)
from tenure.outcome import Refusal, Refused
from tenure.policy import Policy
from tenure.queries import Command, Question
from tenure.questions.triggers import (
    LoadTrigger,
    Occurrences,
    TriggerItem,
    Triggers,
    TriggersPage,
)
from tenure.records import Occurrence, PhaseChanged
from tenure.stored_outcomes import SubscriptionChanged, TriggerChanged
from tenure.trigger_records import Missed, Starts, StartsInput, StartsJob

from ...stores.base import wall_clock_ms
from ..clock import new_id
from ..errors import CommandRefused
from .schedules import first_time, schedule_of

__all__ = ["TriggerHandle", "TriggerMethods"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")


class Executing(Protocol):
    """The part of a client that a handle needs."""

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As Client.execute."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """As Client.ask."""
        ...


class TriggerHandle:
    """One trigger, which need not exist yet.  All methods raise CommandRefused.

    A repetition with the same `command_id` is answered as the first time; without one, each call is a new command.
    """

    def __init__(self, client: Executing, trigger_id: str) -> None:
        self.client, self.trigger_id = client, trigger_id

    async def set(
        self,
        *,
        cron: str | None = None,
        every: str | None = None,
        at: str | None = None,
        zone: str = "UTC",
        missed: Missed | str = Missed.ONE,
        expected: int | None = None,
        command_id: str | None = None,
    ) -> TriggerChanged:
        """Create the trigger, or give it another schedule; without one only `occur` uses it.

        `cron`: such as "0 3 * * MON-FRI", in the time zone `zone`.  `every`: such as "90s" or "6h", for the first time after
        this distance.  `at`: a single time, such as "2027-01-31T12:00:00".  `missed`: which times occur that nobody has fired
        while they were due: "one", "all" or "none".
        `expected`: the revision that is changed; None changes whatever there is, and 0 only creates.
        Raises ValueError for a schedule that cannot be computed.
        """
        schedule = schedule_of(cron=cron, every=every, at=at, zone=zone)
        first = None if schedule is None else first_time(schedule, wall_clock_ms())
        if schedule is not None and first is None:
            raise ValueError(f"{schedule.kind} {schedule.expression!r}: it has no time to come")
        command_id = command_id or new_id()
        known = 0 if expected is None else expected
        while True:
            command = SetTrigger(
                self.trigger_id, command_id, known, schedule, first, Missed(missed)
            )
            answer = await self.client.execute(command)
            if not isinstance(answer, Refused):
                return answer
            exists = answer.reason in (Refusal.KEY_CONFLICT, Refusal.REVISION)
            if expected is not None or not exists or not isinstance(answer.detail, int):
                raise CommandRefused(f"trigger {self.trigger_id}", answer)
            known = answer.detail

    async def start_job(
        self,
        subscription_id: str,
        runner: str,
        text: str | None = None,
        *,
        command_id: str | None = None,
        **more: Any,
    ) -> SubscriptionChanged:
        """Let each occurrence register a job for `runner`, unless the subscription does that already.

        `text`: the job's input, in which `{body}` and `{key}` stand for those of the occurrence; None: the body.
        `more`: as of `StartsJob`.
        """
        return await self.subscribe(
            subscription_id, StartsJob(runner, **more), text, command_id=command_id
        )

    async def submit(
        self,
        subscription_id: str,
        session_id: str | None,
        text: str | None = None,
        *,
        kind: str = "prompt",
        supersession_key: str | None = None,
        policy: Policy | None = None,
        command_id: str | None = None,
    ) -> SubscriptionChanged:
        """Let each occurrence submit an input to a session, or to a new one each if `session_id` is None.

        `text`: as of `start_job`.  The others are as of `Client.submit`.
        """
        starts = StartsInput(session_id, kind, supersession_key, policy)
        return await self.subscribe(subscription_id, starts, text, command_id=command_id)

    async def subscribe(
        self,
        subscription_id: str,
        starts: Starts,
        text: str | None = None,
        *,
        command_id: str | None = None,
    ) -> SubscriptionChanged:
        """Make a subscription, unless there is one that starts the same."""
        id_ = command_id or new_id()
        return await self._obeyed(Subscribe(self.trigger_id, id_, subscription_id, starts, text))

    async def update(
        self,
        subscription_id: str,
        expected: int,
        starts: Starts,
        text: str | None = None,
        *,
        command_id: str | None = None,
    ) -> SubscriptionChanged:
        """Let a subscription of this revision start something else."""
        return await self._changed(
            subscription_id, SubscriptionChange.UPDATE, expected, command_id, starts, text
        )

    async def enable(
        self, subscription_id: str, expected: int | None = None, *, command_id: str | None = None
    ) -> SubscriptionChanged:
        """Give a subscription what occurs from now on.  `expected`: its revision; None: whatever it is."""
        return await self._changed(subscription_id, SubscriptionChange.ENABLE, expected, command_id)

    async def disable(
        self, subscription_id: str, expected: int | None = None, *, command_id: str | None = None
    ) -> SubscriptionChanged:
        """Give a subscription nothing.  What has occurred is still delivered."""
        return await self._changed(
            subscription_id, SubscriptionChange.DISABLE, expected, command_id
        )

    async def unsubscribe(
        self, subscription_id: str, expected: int | None = None, *, command_id: str | None = None
    ) -> SubscriptionChanged:
        """Delete a subscription."""
        return await self._changed(subscription_id, SubscriptionChange.DELETE, expected, command_id)

    async def revive(
        self, subscription_id: str, expected: int | None = None, *, command_id: str | None = None
    ) -> SubscriptionChanged:
        """Make a deleted subscription live again, as it was."""
        return await self._changed(subscription_id, SubscriptionChange.REVIVE, expected, command_id)

    async def occur(
        self,
        key: str | None = None,
        body: str = "",
        *,
        source: str = "api",
        at_ms: int | None = None,
    ) -> Occurred:
        """Report that something has occurred.  The same source, key and body again is the same occurrence.

        Returns what it starts.  Workers deliver that; a session or a job that refuses it is listed by `tenure outbound`.
        """
        return await self._obeyed(Occur(self.trigger_id, source, key or new_id(), body, at_ms))

    async def delete(
        self, *, erase_payloads: bool = False, command_id: str | None = None
    ) -> PhaseChanged:
        """Delete the trigger.  `erase_payloads`: its texts are erased by whoever prunes next."""
        id_ = command_id or new_id()
        return await self._obeyed(DeleteTrigger(self.trigger_id, id_, erase_payloads))

    async def load(self) -> TriggerItem | None:
        """Return the trigger and its subscriptions; None if it does not exist."""
        return await self.client.ask(LoadTrigger(self.trigger_id))

    async def occurrences(
        self, before: Occurrence | None = None, limit: int = 256
    ) -> tuple[Occurrence, ...]:
        """Return what has occurred, the latest first; `before`: only what is before this one."""
        return await self.client.ask(Occurrences(self.trigger_id, before, limit))

    async def _changed(
        self,
        subscription_id: str,
        change: SubscriptionChange,
        expected: int | None,
        command_id: str | None,
        starts: Starts | None = None,
        text: str | None = None,
    ) -> SubscriptionChanged:
        id_, known = command_id or new_id(), 0 if expected is None else expected
        while True:
            command = ChangeSubscription(
                self.trigger_id, id_, subscription_id, change, known, starts, text
            )
            answer = await self.client.execute(command)
            if not isinstance(answer, Refused):
                return answer
            if expected is not None or answer.reason is not Refusal.REVISION:
                raise CommandRefused(f"subscription {subscription_id}", answer)
            known = answer.detail.revision

    async def _obeyed(self, command: Command[Any, O]) -> O:
        answer = await self.client.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused(f"trigger {self.trigger_id}", answer)
        return answer


class TriggerMethods:
    """Methods of a client about triggers."""

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """As Client.execute."""
        raise NotImplementedError

    async def ask(self, question: Question[A]) -> A:
        """As Client.ask."""
        raise NotImplementedError

    def trigger(self, trigger_id: str) -> TriggerHandle:
        """Return the handle of a trigger, which need not exist yet."""
        return TriggerHandle(self, trigger_id)

    async def triggers(self, after: str = "", limit: int = 64) -> TriggersPage:
        """Return a page of triggers with their subscriptions, also of those that were deleted."""
        return await self.ask(Triggers(after, limit))
