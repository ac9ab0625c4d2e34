"""Generates commands on triggers, with ids from small pools, so that they often collide.  See `command_generator`.

Replays, conflicts, old revisions, times of an older schedule, and the deliveries of a relay are as frequent as valid commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tenure.commands import (
    ChangeSubscription,
    DeleteTrigger,
    Fire,
    Occur,
    Prune,
    Publish,
    SendRefused,
    Sent,
    SetTrigger,
    Subscribe,
    SubscriptionChange,
)
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.machines.job import Disposition
from tenure.outcome import Decided
from tenure.policy import Lane, Policy
from tenure.queries import Command, Get
from tenure.records import Outbound, Phase, Session, Subscription, Trigger
from tenure.retention import PruneKind, Retention
from tenure.trigger_records import Missed, Schedule, Starts, StartsInput, StartsJob
from tenure.world import EMPTY, World, evolve

__all__ = ["TRIGGERS", "TriggerCommandGenerator"]


AnyCommand: TypeAlias = Command[Any, Any]
Pick: TypeAlias = Callable[[Sequence[Any]], Any]

TRIGGERS = ("t1", "t2", "t3")
NAMES = ("a", "b", "c")
TEXTS = (None, "", "{body} of {key}", "é", "two\nlines")
RETENTION = Retention(occurrences_for_ms=COMMANDS_FOR_MS_MIN)
PERIOD_MS = 1_000


class TriggerCommandGenerator:
    """Generates commands that fit the rows of triggers, commands that fitted earlier rows, and commands that never fit.

    It learns the rows from the answers that it observes.  `pick` chooses one of several values, `ids` is the size of each
    pool of ids.
    """

    def __init__(self, pick: Pick, triggers: Sequence[str] = TRIGGERS, *, ids: int = 40) -> None:
        self.pick, self.triggers = pick, triggers
        self.ids = range(ids)
        self.world: World = EMPTY
        self.sent: list[AnyCommand] = []

    def observe(self, command: AnyCommand, answer: object) -> None:
        """Apply the writes of an answer."""
        if isinstance(answer, Decided):
            self.world = evolve(self.world, answer.writes)

    def send(self, now_ms: int) -> AnyCommand:
        """Return the next command: mostly a new one, sometimes an earlier one again."""
        if self.sent and self.pick(range(8)) == 0:
            return self.pick(self.sent[-20:])  # type: ignore[no-any-return]
        command = self._new(self.pick(self.triggers), now_ms)
        self.sent.append(command)
        return command

    def _id(self, prefix: str) -> str:
        return f"{prefix}{self.pick(self.ids)}"

    def _new(self, trigger_id: str, now_ms: int) -> AnyCommand:
        pick = self.pick
        trigger: Trigger | None = self.world.answer(Get(Trigger, (trigger_id,)))
        row: Session | None = self.world.answer(Get(Session, (trigger_id,)))
        if trigger is None or row is None or pick(range(15)) == 0:
            return self._set(trigger_id, trigger, now_ms)
        if pick(range(60)) == 0 or (row.phase is Phase.DESTROYED and pick((True, False))):
            return DeleteTrigger(trigger_id, self._id("d"), pick((True, False)))
        makes: tuple[Callable[[], AnyCommand], ...] = (
            lambda: self._change(trigger_id),
            lambda: self._change(trigger_id),
            lambda: self._subscribe(trigger_id),
            lambda: self._occur(trigger_id),
            lambda: self._fire(trigger, now_ms),
            lambda: self._fire(trigger, now_ms),
            lambda: self._relay(trigger_id),
            lambda: self._keep(row),
        )
        return pick(makes)()  # type: ignore[no-any-return]

    def _set(self, trigger_id: str, trigger: Trigger | None, now_ms: int) -> AnyCommand:
        pick = self.pick
        revision = 0 if trigger is None else trigger.revision
        schedule = pick(
            (None, Schedule("every", "1s"), Schedule("cron", "* * * * *", "Europe/Rome"))
        )
        first = (
            None if schedule is None else pick((now_ms + PERIOD_MS, now_ms, max(0, now_ms - 9_000)))
        )
        expected = pick((revision, revision, 0, revision + 1))
        return SetTrigger(trigger_id, self._id("t"), expected, schedule, first, pick(tuple(Missed)))

    def _starts(self) -> Starts:
        pick = self.pick
        return pick(  # type: ignore[no-any-return]
            (
                StartsJob("make", pick(tuple(Disposition)), pick((None, "s1"))),
                StartsJob("two words"),
                StartsInput(pick((None, "s1", "s2"))),
                StartsInput("s1", pick(("wake", "unheard")), pick((None, "slot"))),
                StartsInput("s2", "mine", None, Policy(Lane.SYSTEM)),
            )
        )

    def _subscribe(self, trigger_id: str) -> AnyCommand:
        name = self.pick(NAMES)
        return Subscribe(trigger_id, self._id("c"), name, self._starts(), self.pick(TEXTS))

    def _change(self, trigger_id: str) -> AnyCommand:
        pick, name = self.pick, self.pick(NAMES)
        row: Subscription | None = self.world.answer(Get(Subscription, (trigger_id, name)))
        if row is None:
            return self._subscribe(trigger_id)
        change, at = pick(tuple(SubscriptionChange)), row.state.revision
        updates = change is SubscriptionChange.UPDATE or pick(range(20)) == 0
        starts, text = (self._starts(), pick(TEXTS)) if updates else (None, None)
        expected = pick((at, at, at, at - 1, at + 1))
        return ChangeSubscription(trigger_id, self._id("c"), name, change, expected, starts, text)

    def _occur(self, trigger_id: str) -> AnyCommand:
        pick = self.pick
        source = pick(("x", "x", "y", "schedule"))
        return Occur(trigger_id, source, self._id("k"), pick(("", "body", "é")), pick((None, 5)))

    def _fire(self, trigger: Trigger, now_ms: int) -> AnyCommand:
        pick, first = self.pick, trigger.next_at_ms
        if first is None or pick(range(12)) == 0:
            first = pick((now_ms, now_ms + PERIOD_MS, 0))
        count = pick((1, 1, 2, 3, 40))
        times = tuple([first + n * PERIOD_MS for n in range(count)])
        last = pick((times[-1] + PERIOD_MS, times[-1] + PERIOD_MS, times[-1], None))
        revision = pick((trigger.revision, trigger.revision, trigger.revision - 1))
        return Fire(trigger.session_id, revision, times, last)

    def _relay(self, trigger_id: str) -> AnyCommand:
        """Report what became of the first row of some route, or of a row that is none."""
        pick = self.pick
        rows = [row for row in self.world.all(Outbound) if row.session_id == trigger_id]
        if not rows:
            return Sent(trigger_id, 1, "s1")
        row = pick(sorted(rows, key=lambda row: row.number)[:3])
        if pick((True, False, False)):
            return SendRefused(trigger_id, row.number, row.to, "phase", "INBOX-6", "destroyed")
        return Sent(trigger_id, row.number, row.to)

    def _keep(self, row: Session) -> AnyCommand:
        """Remove what is old, or publish."""
        kind = self.pick((PruneKind.OCCURRENCES, PruneKind.OCCURRENCES, PruneKind.DONE))
        if self.pick(range(4)) == 0:
            return Publish(row.session_id, self.pick((0, row.next_event - 1)))
        return Prune(row.session_id, RETENTION, kind)
