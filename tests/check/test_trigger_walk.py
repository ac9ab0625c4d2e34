"""A long random walk over all commands on triggers, judged by the properties of their rows.

The walk has what the models of the explorer leave out: pruning, publishing, several triggers, and a clock that moves by any
time.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from tenure.check.invariants import Rows, violations
from tenure.commands import Fire, Fired
from tenure.commands.triggers import occur
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.machines.subscription import Live
from tenure.outcome import Decided
from tenure.queries import Get
from tenure.records import Job, Occurrence, Outbound, Subscription, Trigger
from tenure.release import RELEASE, decide_at
from tenure.replace import replace
from tenure.world import World, ask
from tenure_drivers.testing.trigger_commands import TriggerCommandGenerator

STEPS = int(os.environ.get("TENURE_WALK_STEPS", "4000"))
CHAPTER = 200


class TriggerWalk:
    """A few triggers, with the commands that led to their rows."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.now_ms = 1_790_000_000_000
        ids = self.dice.choice((4, 40, 4_000))
        self.triggers = TriggerCommandGenerator(self.dice.choice, ids=ids)
        self.trace: list[Any] = []
        self.started: set[str] = set()

    def chapter(self, steps: int) -> None:
        for _ in range(steps):
            self.now_ms += self.dice.choice((0, 0, 1, 400, 2_000, 70_000, -25))
            self.now_ms += self.dice.choice((0,) * 50 + (COMMANDS_FOR_MS_MIN,))
            command = self.triggers.send(self.now_ms)
            before = self.triggers.world
            answer = self.decide(command)
            self.triggers.observe(command, answer)
            if isinstance(answer, Decided) and answer.writes:
                self.judge(before, command, answer)
                again = self.decide(command)
                pages = type(command).__name__ == "Prune"
                assert pages or (isinstance(again, Decided) and not again.writes), (command, again)

    def decide(self, command: Any) -> Any:
        self.trace.append((self.now_ms, command))
        view = self.triggers.world.load(command.reads())
        return decide_at(RELEASE, command, view, self.now_ms)

    def judge(self, before: World, command: Any, answer: Decided[Any]) -> None:
        assert len(answer.writes) <= 256
        after, key = self.triggers.world, command.session_id
        assert list(violations(ask(Rows(key), after.answer))) == []
        known = {(r.session_id, r.source, r.key_value) for r in before.all(Occurrence)}
        for row in after.all(Occurrence):
            if (row.session_id, row.source, row.key_value) in known:
                continue
            enabled = {
                (each.subscription_id, each.state.incarnation, each.state.revision)
                for each in before.all(Subscription)
                if each.session_id == key and isinstance(each.state, Live) and each.state.enabled
            }
            made = [(e.subscription_id, e.incarnation, e.revision) for e in row.reservations]
            assert len(made) == len(enabled) and set(made) == enabled
            numbers = {each.number for each in after.all(Outbound) if each.session_id == key}
            for each in row.reservations:
                assert each.started_id not in self.started, "started twice"
                assert each.number in numbers
                self.started.add(each.started_id)
        old, new = before.answer(Get(Trigger, (key,))), after.answer(Get(Trigger, (key,)))
        if isinstance(command, Fire) and old is not None and new is not None:
            assert isinstance(answer.outcome, Fired)
            assert new.next_at_ms is None or new.next_at_ms > (old.next_at_ms or 0)
        for was in before.all(Subscription):
            now = after.answer(Get(Subscription, (was.session_id, was.subscription_id)))
            assert now is not None and now.state.revision - was.state.revision in (0, 1)
        assert not list(after.all(Job)), "nothing is started inline"


def walk(seeds: range) -> str | None:
    for seed in seeds:
        each = TriggerWalk(seed)
        try:
            each.chapter(CHAPTER)
        except Exception as error:
            lines = [f"{at}: {command}" for at, command in each.trace[-10:]]
            return "\n".join([f"seed {seed}: {error!r}", *lines])
    return None


def test_a_long_walk_over_triggers() -> None:
    if found := walk(range(STEPS // CHAPTER)):
        pytest.fail(found)


def test_the_walk_finds_an_id_that_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make = occur.__dict__["id_for"]
    monkeypatch.setattr(
        occur,
        "id_for",
        lambda facts, row: make(replace(facts, key_value="k", recorded_at_ms=0), row),
    )

    assert "started twice" in (walk(range(10)) or "")


def test_the_walk_finds_what_was_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    first = occur.__dict__["deliver"]

    def forgets(tx: Any, facts: Any, digest: str, rows: Any) -> Any:
        return first(tx, facts, digest, rows[1:])

    monkeypatch.setattr(occur, "deliver", forgets)

    assert "AssertionError" in (walk(range(10)) or "")
