"""Subscribe and ChangeSubscription: what the occurrences of a trigger start.  Spec: specs/trigger.md."""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Final

from attrs import field, frozen

from ...event import EventKind
from ...kind import Kind
from ...limits import SUBSCRIPTIONS_MAX
from ...machines import subscription as subscription_
from ...outcome import Decided, Insert, Refusal, Refused, Update
from ...queries import Command, Get, Reads, read
from ...records import ExecutedCommand, Subscription
from ...replace import replace
from ...stored_outcomes import SubscriptionChanged
from ...trigger_records import Starts
from ..replay import check_command_id, replay
from .starting import digest_of, validate_starts
from .trigger_transaction import CommandView, TriggerTransaction, command_queries, refuse

__all__ = ["SubscriptionChange", "ChangeSubscription", "Subscribe"]


class SubscriptionChange(enum.StrEnum):
    """What becomes of a subscription."""

    UPDATE = "update"  # it starts something else
    ENABLE = "enable"
    DISABLE = "disable"
    DELETE = "delete"
    REVIVE = "revive"  # after it was deleted
    since = enum.nonmember(2)


CHANGES: Final[dict[SubscriptionChange, type[Any]]] = {
    SubscriptionChange.UPDATE: subscription_.Update,
    SubscriptionChange.ENABLE: subscription_.Enable,
    SubscriptionChange.DISABLE: subscription_.Disable,
    SubscriptionChange.DELETE: subscription_.Delete,
    SubscriptionChange.REVIVE: subscription_.Revive,
}


@frozen
class SubscriptionView(CommandView):
    """The trigger, the row of the command if it was executed before, and the subscription."""

    subscription: Subscription | None


@frozen
class _SubscriptionCommand(Command[SubscriptionView, SubscriptionChanged]):
    since: ClassVar = 2
    serves: ClassVar = Kind.TRIGGER
    session_id: str
    command_id: str
    subscription_id: str

    def reads(self) -> Reads[SubscriptionView]:
        s = self.session_id
        return read(
            SubscriptionView,
            *command_queries(s, self.command_id),
            Get(Subscription, (s, self.subscription_id)),
        )

    def _executed_before(
        self, view: SubscriptionView, name: str
    ) -> Decided[SubscriptionChanged] | Refused | None:
        executed: ExecutedCommand | None = view.executed
        if refused := check_command_id(name, self.command_id, executed, view.session):
            return refused
        if executed is not None:
            return replay(executed, SubscriptionChanged, "TRIGGER-4")
        return refuse(view, self.session_id)

    def _write(
        self,
        tx: TriggerTransaction,
        before: Subscription | None,
        after: Subscription,
        clause: str,
        name: str,
    ) -> Decided[SubscriptionChanged]:
        """Write a subscription that has changed, and the outcome."""
        state = after.state
        live = isinstance(state, subscription_.Live)
        was_live = before is not None and isinstance(before.state, subscription_.Live)
        count = tx.trigger.subscription_count + live - was_live
        tx.trigger = replace(tx.trigger, subscription_count=count)
        if after != before:
            tx.write(Insert(after) if before is None else Update(after))
            word = "deleted" if not live else "enabled" if after.enabled_id else "disabled"
            detail = f"{self.subscription_id} {word} revision {state.revision}"
            tx.append_event(EventKind.SUBSCRIPTION_CHANGED, detail)
        changed = SubscriptionChanged(
            state.incarnation, state.revision, after.enabled_id is not None, not live
        )
        tx.remember(self.command_id, name, changed)
        return tx.decided(changed, clause)


@frozen
class Subscribe(_SubscriptionCommand):
    """Make a subscription, unless there is one that starts the same.  Writes at most five rows.

    `text`: what the job or the agent gets; in it, `{body}` and `{key}` stand for those of the occurrence.  None: the body.
    Refusals: UNKNOWN_TRIGGER, PHASE, KEY_CONFLICT if it starts something else, ENDED if it was deleted, FULL, ILLEGAL.
    """

    since: ClassVar = 2
    starts: Starts
    text: str | None = field(
        default=None, repr=lambda t: repr(t) if t is None or len(t) < 80 else f"<{len(t)}>"
    )

    def decide(self, view: SubscriptionView, now_ms: int) -> Decided[SubscriptionChanged] | Refused:
        if answer := self._executed_before(view, "subscribe"):
            return answer
        found, digest = view.subscription, digest_of(self.starts, self.text)
        state = subscription_.ABSENT if found is None else found.state
        same = found is not None and found.digest == digest
        outcome = subscription_.step(state, subscription_.Register(same))
        if isinstance(outcome, Refused):
            return outcome
        tx = TriggerTransaction.on(view, now_ms, self.command_id)
        if found is not None:  # TRIGGER-11: also while it is disabled
            return self._write(tx, found, found, outcome.clause, "subscribe")
        if tx.trigger.subscription_count >= SUBSCRIPTIONS_MAX:
            return full(tx.trigger.subscription_count)
        at = (self.session_id, self.subscription_id)
        if problem := validate_starts(*at, self.starts, self.text, now_ms):
            return Refused(Refusal.ILLEGAL, "TRIGGER-21", problem)
        made = Subscription(
            self.session_id, self.subscription_id, digest, self.starts, self.text,
            live_or_deleted(outcome.state),
        )  # fmt: skip
        return self._write(tx, None, made, outcome.clause, "subscribe")


@frozen
class ChangeSubscription(_SubscriptionCommand):
    """Change a subscription whose revision is `expected`.  Writes at most five rows.

    UPDATE needs `starts` and takes `text`; the others take neither.
    Refusals: UNKNOWN_TRIGGER, UNKNOWN_SUBSCRIPTION, PHASE, REVISION, ENDED if it was deleted, KEY_CONFLICT if it is to be
    revived and was not deleted, FULL, ILLEGAL.
    """

    since: ClassVar = 2
    change: SubscriptionChange
    expected: int
    starts: Starts | None = None
    text: str | None = field(
        default=None, repr=lambda t: repr(t) if t is None or len(t) < 80 else f"<{len(t)}>"
    )

    def decide(self, view: SubscriptionView, now_ms: int) -> Decided[SubscriptionChanged] | Refused:
        if answer := self._executed_before(view, "change_subscription"):
            return answer
        found = view.subscription
        state = subscription_.ABSENT if found is None else found.state
        outcome = subscription_.step(state, CHANGES[self.change](self.expected))
        if isinstance(outcome, Refused):
            if outcome.detail is None:
                return replace(outcome, detail=self.subscription_id)
            return outcome
        assert found is not None
        tx = TriggerTransaction.on(view, now_ms, self.command_id)
        if (
            self.change is SubscriptionChange.REVIVE
            and tx.trigger.subscription_count >= SUBSCRIPTIONS_MAX
        ):
            return full(tx.trigger.subscription_count)
        if problem := self._validate(now_ms):
            return Refused(Refusal.ILLEGAL, "TRIGGER-21", problem)
        changed = replace(found, state=live_or_deleted(outcome.state))
        if self.starts is not None:
            digest = digest_of(self.starts, self.text)
            changed = replace(changed, digest=digest, starts=self.starts, text=self.text)
        return self._write(tx, found, changed, outcome.clause, "change_subscription")

    def _validate(self, now_ms: int) -> str | None:
        if self.change is SubscriptionChange.UPDATE:
            if self.starts is None:
                return "update without starts: expected what it starts from now on"
            at = (self.session_id, self.subscription_id)
            return validate_starts(*at, self.starts, self.text, now_ms)
        if self.starts is not None or self.text is not None:
            return f"{self.change.value} with starts or text: expected them only of an update"
        return None


def full(count: int) -> Refused:
    """TRIGGER-22: refuse a subscription more than a trigger may have."""
    problem = f"{count} subscriptions; at most {SUBSCRIPTIONS_MAX}"
    return Refused(Refusal.FULL, "TRIGGER-22", problem)


def live_or_deleted(state: subscription_.State) -> subscription_.Live | subscription_.Deleted:
    """Return a state that a subscription has once it was made."""
    assert not isinstance(state, subscription_.Absent), state
    return state
