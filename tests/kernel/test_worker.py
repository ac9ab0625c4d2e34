"""The worker: its rows are total and exclusive, and its stories end as the spec says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tenure.outcome import Stepped
from tenure.runner.protocol import RunnerStopReason
from tenure.worker.machine import RULES, is_ignored, step
from tenure.worker.protocol import (
    Connected,
    Cooling,
    Drain,
    Draining,
    DrainRunners,
    Effect,
    Finish,
    Finished,
    Hinted,
    Look,
    Looked,
    LookFailed,
    Outcome,
    RunnerStopped,
    Serving,
    SetTimer,
    State,
    Take,
    TimerFired,
)

SETS: list[frozenset[str]] = [frozenset(), frozenset("a"), frozenset("ab")]


def all_states() -> list[State]:
    states: list[State] = [Finished()]
    states += [Draining(running) for running in SETS if running]
    cooling = ((), (Cooling("a", 100, 1),), (Cooling("c", 100, 3),))
    flags = itertools.product((0, 5), (False, True), (False, True), SETS, ((), ("c", "d")), cooling)
    for looking, again, more, running, backlog, cool in flags:
        for nudged in (frozenset[str](), running):
            for slots in (1, 2, 3):
                if len(running) <= slots:
                    states.append(
                        Serving(slots, 4, looking, again, more, running, nudged, backlog, cool, 9)
                    )
    return states


def all_events(state: State) -> list[Any]:
    running: frozenset[str] = getattr(state, "running", frozenset())
    events: list[Any] = []
    for now in (0, 1_000):
        events += [Connected(now), Drain(now)]
        for id in (4, 5, 6):
            events += [LookFailed(now, id), TimerFired(now, id)]
            events += [
                Looked(now, id, ids, full, next_in)
                for ids in ((), ("a", "c", "c", "e"))
                for full in (False, True)
                for next_in in (None, 0, 77, 10**9)
            ]
        events += [Hinted(now, s, at_once) for s in ("", "a", "c") for at_once in (False, True)]
        for session_id in running if not isinstance(state, Finished) else {"a"}:
            events += [RunnerStopped(now, session_id, reason) for reason in RunnerStopReason]
    return events


def test_exactly_one_row_is_enabled_in_every_case() -> None:
    cases, clauses = 0, set()
    for state in all_states():
        for event in all_events(state):
            cases += 1
            if is_ignored(state, event):
                assert step(state, event) == Stepped(state, "WORKER-16")
                continue
            rows = RULES.enabled(state, event)
            assert len(rows) == 1, ([row.clause for row in rows], state, event)
            outcome = rows[0].then(state, event, rows[0].clause)
            check(state, event, outcome)
            clauses.add(rows[0].clause)

    assert cases > 10_000
    assert {row.clause for row in RULES.rows} == clauses


def check(state: State, event: Any, outcome: Outcome) -> None:
    """What holds after every step, whatever the case."""
    after, effects = outcome.state, outcome.effects
    taken = [e.session_id for e in effects if isinstance(e, Take)]
    assert len(taken) == len(set(taken))
    if not isinstance(after, Serving):
        assert taken == []
        return
    assert isinstance(state, Serving)
    assert len(after.running) <= after.slots
    still = state.running - ({event.session_id} if isinstance(event, RunnerStopped) else set())
    assert set(taken) & still == set(), "never the same session twice at once"
    assert after.running == still | set(taken)
    looks = [e for e in effects if isinstance(e, Look)]
    assert not (looks and state.looking and not isinstance(event, Looked | LookFailed))
    for timer in (e for e in effects if isinstance(e, SetTimer)):
        assert event.now_ms + 2 <= timer.at_ms <= event.now_ms + 5_000


class Script:
    def __init__(self, slots: int = 2) -> None:
        self.state: State = Serving(slots)
        self.last: tuple[Effect, ...] = ()

    def event(self, event: Any) -> Script:
        outcome = step(self.state, event)
        self.state, self.last = outcome.state, outcome.effects
        return self

    def every(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.last if isinstance(e, kind)]

    def looked(self, *ids: str, full: bool = False, next_in: int | None = None) -> Script:
        assert isinstance(self.state, Serving)
        return self.event(Looked(0, self.state.looking, ids, full, next_in))


def started(slots: int = 2) -> Script:
    script = Script(slots).event(Connected(0))
    assert script.every(Look) == [Look(1, 16, True)]
    return script


def test_it_takes_what_is_due_up_to_its_slots_and_the_rest_as_they_free() -> None:
    script = started().looked("a", "b", "c")
    assert script.every(Take) == [Take("a"), Take("b")]
    script.event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert script.every(Take) == [Take("c")]


def test_a_hint_takes_at_once() -> None:
    script = started().looked()
    assert script.event(Hinted(0, "a", True)).every(Take) == [Take("a")]


def test_a_hint_while_a_session_is_taken_takes_it_again_afterwards() -> None:
    script = started().looked("a").event(Hinted(0, "a", True))
    assert script.every(Take) == []
    assert script.event(RunnerStopped(0, "a", RunnerStopReason.NOTHING_DUE)).every(Take) == [
        Take("a")
    ]


def test_a_hint_for_later_looks_even_if_the_session_is_taken() -> None:
    script = started().looked("a").event(Hinted(0, "a", False))
    assert len(script.every(Look)) == 1
    assert script.looked(next_in=250).every(SetTimer)[-1].at_ms == 250


def test_a_reason_to_look_that_comes_during_a_look_is_remembered() -> None:
    script = started().event(Connected(0))
    assert script.every(Look) == []
    assert len(script.looked().every(Look)) == 1


def test_it_looks_at_least_every_five_seconds() -> None:
    script = started().looked(next_in=10**9)
    timer = script.every(SetTimer)[-1]
    assert timer.at_ms == 5_000
    script.event(TimerFired(5_000, timer.id))
    assert [look.thorough for look in script.every(Look)] == [True]


def test_what_led_to_nothing_is_left_alone_longer_each_time() -> None:
    script, now, waits = started(), 0, []
    script.looked("a")
    for _ in range(8):
        script.event(RunnerStopped(now, "a", RunnerStopReason.NOTHING_DUE))
        assert isinstance(script.state, Serving)
        waits.append(script.state.cooling[0].until_ms - now)
        script.event(Looked(now, script.state.looking, ("a",), False, None))
        assert script.every(Take) == []
        assert script.every(SetTimer)[-1].at_ms - now == waits[-1]
        now += waits[-1]
        assert isinstance(script.state, Serving)
        script.event(TimerFired(now, script.state.timer))
        script.event(Looked(now, script.state.looking, ("a",), False, None))
        assert script.every(Take) == [Take("a")]
    assert waits == [50, 100, 200, 400, 800, 1_600, 3_200, 5_000]


@pytest.mark.parametrize("full", [False, True])
def test_when_a_slot_frees_it_looks_only_if_there_may_be_more(full: bool) -> None:
    script = started(1).looked("a", full=full).event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert bool(script.every(Look)) == full


def test_a_drain_waits_for_its_runners_and_takes_nothing_new() -> None:
    script = started().looked("a", "b").event(Drain(0))
    assert script.last == (DrainRunners(),)
    assert script.event(Hinted(0, "c", True)).last == ()
    assert script.event(RunnerStopped(0, "a", RunnerStopReason.DONE)).last == ()
    assert script.event(RunnerStopped(0, "b", RunnerStopReason.DONE)).last == (Finish(),)


def test_a_drain_at_rest_is_over_at_once() -> None:
    assert started().looked().event(Drain(0)).last == (Finish(),)
