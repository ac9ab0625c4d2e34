"""The small systems of a trigger, and bugs that they find."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import frozen

from tenure.check import explore
from tenure.check.triggers import (
    AS_THEN,
    BY_REVISION,
    DUE,
    LISTED,
    MISSED,
    NEVER_TWICE,
    NO_ERROR,
    OF_SCHEDULE,
    ONCE,
    TRIGGER_SYSTEMS,
    TriggerModel,
)
from tenure.commands import Fire, Occur, Occurred, aggregate
from tenure.commands.send import send
from tenure.commands.triggers import occur, trigger_transaction
from tenure.commands.triggers.firing import firing_of
from tenure.commands.triggers.starting import id_for
from tenure.indexes import SUBSCRIPTIONS
from tenure.machines import subscription
from tenure.outcome import Decided, Insert, Refused, Stepped, Update
from tenure.queries import First
from tenure.replace import replace
from tenure.trigger_records import Missed

Patch = Callable[[pytest.MonkeyPatch], None]
BY_NAME = {system.name: system for system in TRIGGER_SYSTEMS}


@pytest.fixture(autouse=True)
def without_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@frozen
class Bug:
    name: str
    system: str
    violates: str
    patch: Patch


def decides(command: type[Any], change: Callable[[Any, Any], tuple[Any, Any]]) -> Patch:
    """Let a command decide over a command and a view that were changed before."""
    decide = command.decide

    def changed(self: Any, view: Any, now_ms: int) -> Any:
        self, view = change(self, view)
        return decide(self, view, now_ms)

    return lambda patch: patch.setattr(command, "decide", changed)


def fires_again(fire: Any, view: Any) -> tuple[Any, Any]:
    trigger = view.trigger
    if trigger is not None and trigger.next_at_ms is not None:
        trigger = replace(trigger, next_at_ms=min(trigger.next_at_ms, fire.times_ms[0]))
    return fire, replace(view, trigger=trigger, known=())


def goes_back(fire: Any, view: Any) -> tuple[Any, Any]:
    return fire, replace(fires_again(fire, view)[1], known=view.known)


def overwritten(patch: pytest.MonkeyPatch) -> None:
    decide = Occur.decide

    def changed(self: Any, view: Any, now_ms: int) -> Any:
        answer = decide(self, view, now_ms)
        if isinstance(answer, Refused) and answer.clause == "TRIGGER-32":
            row = replace(view.known, body=self.body)
            return Decided(Occurred(()), answer.clause, (Update(row),))
        return answer

    patch.setattr(Occur, "decide", changed)


def of_any_schedule(fire: Any, view: Any) -> tuple[Any, Any]:
    return replace(fire, revision=view.trigger.revision), view


def forgets(command: Any, view: Any) -> tuple[Any, Any]:
    return command, replace(view, known=None)


def all_subscriptions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(occur, "enabled_query", lambda name: First(SUBSCRIPTIONS, (name,), 32))


def other_id(change: Callable[[Any, Any], tuple[Any, Any]]) -> Patch:
    return lambda patch: patch.setattr(occur, "id_for", lambda *given: id_for(*change(*given)))


def unsent(patch: pytest.MonkeyPatch) -> None:
    def forget(tx: Any, command: Any) -> Any:
        rows = list(tx.rows)
        sent = send(tx, command)
        tx.rows[:] = rows
        return sent

    patch.setattr(occur, "send", forget)


def missed_as(other: Missed) -> Patch:
    return lambda patch: patch.setattr(
        occur, "firing_of", lambda missed, *more: firing_of(other, *more)
    )


def steps(change: Callable[[Any, Any, Any], Any]) -> Patch:
    step = subscription.step

    def changed(state: Any, command: Any) -> Any:
        return change(step, state, command)

    return lambda patch: patch.setattr(subscription, "step", changed)


def any_revision(step: Any, state: Any, command: Any) -> Any:
    if hasattr(command, "expected") and hasattr(state, "revision"):
        command = replace(command, expected=state.revision)
    return step(state, command)


def begins_again(step: Any, state: Any, command: Any) -> Any:
    if isinstance(command, subscription.Revive) and isinstance(state, subscription.Deleted):
        return Stepped(subscription.Live(1, 1), "TRIGGER-16")
    return step(state, command)


def after_it_was_deleted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(occur, "refuse", lambda view, name: None)


def still_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aggregate, "due_at_ms", lambda session, *_: session.due_at_ms)


def never_due(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aggregate, "due_at_ms", lambda *_: None)


def in_the_row(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trigger_transaction, "Update", Insert)


BUGS = (
    Bug("a time is fired again", "trigger", NO_ERROR, decides(Fire, fires_again)),
    Bug("the next time goes back", "trigger", OF_SCHEDULE, decides(Fire, goes_back)),
    Bug("what has occurred changes", "trigger-sent", NEVER_TWICE, overwritten),
    Bug("times of an older schedule", "trigger-all", OF_SCHEDULE, decides(Fire, of_any_schedule)),
    Bug("an occurrence is not known", "trigger-sent", NO_ERROR, decides(Occur, forgets)),
    Bug("disabled ones get what occurs", "trigger", AS_THEN, all_subscriptions),
    Bug(
        "an id without the key",
        "trigger-sent",
        ONCE,
        other_id(lambda facts, row: (replace(facts, key_value="k", source="x"), row)),
    ),
    Bug(
        "an id without the subscription",
        "trigger-sent",
        ONCE,
        other_id(lambda facts, row: (facts, replace(row, subscription_id="a"))),
    ),
    Bug("what is started is not sent", "trigger", LISTED, unsent),
    Bug("all missed times", "trigger", MISSED, missed_as(Missed.ALL)),
    Bug("one missed time", "trigger-none", MISSED, missed_as(Missed.ONE)),
    Bug("no missed time", "trigger-all", MISSED, missed_as(Missed.NONE)),
    Bug("any revision", "trigger", BY_REVISION, steps(any_revision)),
    Bug("a revived one begins again", "trigger", BY_REVISION, steps(begins_again)),
    Bug("something occurs in a deleted trigger", "trigger-none", AS_THEN, after_it_was_deleted),
    Bug("it stays due", "trigger", DUE, still_due),
    Bug("it is never due", "trigger-none", DUE, never_due),
    Bug("a row that exists is made", "trigger", NO_ERROR, in_the_row),
)


@pytest.mark.parametrize("system", TRIGGER_SYSTEMS, ids=lambda system: system.name)
def test_a_trigger_keeps_every_property(system: Any) -> None:
    explored = explore(TriggerModel(system))

    assert explored.good, [trace.text() for trace in explored.traces()] or explored.unseen


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_explorer_finds_the_bug(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.patch(monkeypatch)

    explored = explore(TriggerModel(BY_NAME[bug.system]), first_only=True)

    assert explored.broken, f"{bug.name} is not found"
    assert bug.violates in explored.broken, list(explored.broken)
