"""The worker: exactly one row is enabled in every case, and scenarios of its clauses.  Spec: specs/worker.md."""

from __future__ import annotations

from typing import Any

import pytest
from clauses import ClauseLog, defined, named
from hypothesis import given
from hypothesis import strategies as st

from tenure.check.machine_domains import WORKER
from tenure.outcome import Stepped
from tenure.runner.protocol import RunnerStopReason
from tenure.worker.limits import Rule, Usage, admit
from tenure.worker.machine import RULES, is_ignored, step
from tenure.worker.protocol import (
    Connected,
    Drain,
    DrainRunners,
    Effect,
    Finish,
    Hinted,
    HolderEnded,
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

LOG = ClauseLog({row.clause for row in RULES.rows} | {"WORKER-16"})
shows = LOG.shows


def test_exactly_one_row_is_enabled_in_every_case() -> None:
    cases, clauses = 0, set()
    for state in WORKER.states:
        for event in WORKER.received(state):
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
    """Check what must be true after every step."""
    after, effects = outcome.state, outcome.effects
    taken = [e.session_id for e in effects if isinstance(e, Take)]
    assert len(taken) == len(set(taken))
    if not isinstance(after, Serving):
        assert taken == []
        return
    assert isinstance(state, Serving)
    assert len(after.running) <= after.slots
    check_room(state, event, after, [e for e in effects if isinstance(e, Take)])
    still = state.running - ({event.session_id} if isinstance(event, RunnerStopped) else set())
    assert set(taken) & still == set(), "never the same session twice at once"
    assert after.running == still | set(taken)
    looks = [e for e in effects if isinstance(e, Look)]
    assert not (looks and state.looking and not isinstance(event, Looked | LookFailed))
    for timer in (e for e in effects if isinstance(e, SetTimer)):
        assert event.now_ms + 2 <= timer.at_ms <= event.now_ms + 5_000


def check_room(before: Serving, event: Any, after: Serving, takes: list[Take]) -> None:
    """WORKER-17, WORKER-18: every promise of a Take is kept, and room is made for what waits."""
    running = {a.session_id: a.others for a in after.apart if a.session_id in after.running}
    if takes and not isinstance(event, TimerFired):
        for others in running.values():
            assert len(after.running) <= others + 1
    for take in takes:
        assert len(after.running) <= take.others + 1, "a promise is kept"
    waiting = {a.session_id for a in after.apart} - after.running
    if waiting:
        apart = {a.session_id for a in (*before.apart, *after.apart)}
        assert {take.session_id for take in takes} <= apart, "others wait while one needs room"


class Script:
    """A worker, step by step.  `last` are the effects of the last step."""

    def __init__(self, slots: int = 2, *rules: Rule) -> None:
        self.state: State = Serving(slots, usage=Usage(rules) if rules else None)
        self.last: tuple[Effect, ...] = ()
        self.now_ms = 0

    def event(self, event: Any) -> Script:
        outcome = step(self.state, event)
        self.state, self.last = outcome.state, outcome.effects
        LOG.applied.append(outcome.clause)
        return self

    def every(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.last if isinstance(e, kind)]

    def looked(self, *ids: str, full: bool = False, next_in: int | None = None) -> Script:
        assert isinstance(self.state, Serving)
        keys = tuple([(each[0],) for each in ids]) if self.state.usage else ()
        return self.event(Looked(self.now_ms, self.state.looking, ids, full, next_in, keys))

    def hinted(self, session_id: str) -> Script:
        return self.event(Hinted(self.now_ms, session_id, True, (session_id[0],)))

    def ended(
        self, session_id: str, reason: RunnerStopReason = RunnerStopReason.DONE, others: int = 0
    ) -> Script:
        return self.event(RunnerStopped(self.now_ms, session_id, reason, others))

    def timer(self) -> Script:
        assert isinstance(self.state, Serving)
        self.now_ms = self.state.timer_ms
        return self.event(TimerFired(self.now_ms, self.state.timer))

    def taken(self) -> list[str]:
        return [take.session_id for take in self.every(Take)]


def started(slots: int = 2, *rules: Rule) -> Script:
    script = Script(slots, *rules).event(Connected(0))
    assert script.every(Look) == [Look(1, 16, True)]
    return script


@shows("WORKER-1", "WORKER-3", "WORKER-6", "WORKER-9")
def test_sessions_are_taken_up_to_the_slots_and_the_rest_as_slots_free() -> None:
    script = started().looked("a", "b", "c")
    assert script.every(Take) == [Take("a", 1), Take("b", 1)]
    script.event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert script.every(Take) == [Take("c", 1)]


def needs_room(session_id: str, others: int) -> RunnerStopped:
    return RunnerStopped(0, session_id, RunnerStopReason.NEEDS_ROOM, others)


@shows("WORKER-17", "WORKER-18")
def test_a_session_that_needs_room_runs_when_few_enough_others_run() -> None:
    script = started(3).looked("a", "b", "c", "d")
    assert script.event(needs_room("a", 0)).every(Take) == []
    assert script.event(RunnerStopped(0, "b", RunnerStopReason.DONE)).every(Take) == []
    assert script.event(Hinted(0, "e", True)).every(Take) == []
    script.event(RunnerStopped(0, "c", RunnerStopReason.DONE))
    assert script.every(Take) == [Take("a", 0)]
    assert script.event(Hinted(0, "f", True)).every(Take) == []
    script.event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert script.every(Take) == [Take("f", 2), Take("e", 2), Take("d", 2)]


@shows("WORKER-17", "WORKER-18")
def test_several_that_need_room_run_together_as_far_as_each_allows() -> None:
    script = started(4).looked("a", "b", "c", "d")
    assert script.event(needs_room("a", 1)).every(Take) == []
    assert script.event(needs_room("b", 2)).every(Take) == []
    assert script.event(needs_room("c", 1)).every(Take) == [Take("a", 1)]
    script.event(RunnerStopped(0, "d", RunnerStopReason.DONE))
    assert script.every(Take) == [Take("b", 2)]
    script.event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert script.every(Take) == [Take("c", 1)]


@shows("WORKER-19")
def test_each_poll_asks_again_for_a_session_that_needs_room() -> None:
    script = started(3).looked("a", "b")
    script.event(needs_room("a", 0))
    assert isinstance(script.state, Serving)
    script.event(TimerFired(5_000, script.state.timer))
    assert script.every(Take) == [Take("a", 1)]
    assert script.event(needs_room("a", 0)).every(Take) == []
    assert isinstance(script.state, Serving)
    script.event(TimerFired(10_000, script.state.timer))
    script.event(RunnerStopped(10_000, "a", RunnerStopReason.HELD))
    assert isinstance(script.state, Serving)
    assert script.state.apart == ()  # another worker has it


@shows("WORKER-9")
def test_a_session_that_was_found_while_it_ran_is_looked_for_after_its_release() -> None:
    script = started().looked("a").event(Hinted(0, "b", False)).looked("a")
    assert len(script.event(RunnerStopped(0, "a", RunnerStopReason.DONE)).every(Look)) == 1
    script.looked()
    assert script.every(Take) == []


@shows("WORKER-20")
def test_the_end_of_a_holder_makes_the_worker_look_for_its_sessions() -> None:
    script = started().event(HolderEnded(0))
    assert script.every(Look) == []
    assert [look.thorough for look in script.looked().every(Look)] == [True]
    assert [look.thorough for look in script.looked().event(Hinted(0, "", True)).every(Look)] == [
        False
    ]


@shows("WORKER-20")
def test_a_worker_without_a_free_slot_looks_for_dead_holders_later() -> None:
    script = started(1).looked("a").event(HolderEnded(0))
    assert script.every(Look) == []
    script.event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert [look.thorough for look in script.every(Look)] == [True]


@shows("WORKER-11")
def test_a_hint_takes_its_session_at_once() -> None:
    script = started().looked()
    assert script.event(Hinted(0, "a", True)).every(Take) == [Take("a", 1)]


@shows("WORKER-8", "WORKER-9", "WORKER-10")
def test_a_hint_for_a_running_session_takes_it_again_after_its_release() -> None:
    script = started().looked("a").event(Hinted(0, "a", True))
    assert script.every(Take) == []
    assert script.event(RunnerStopped(0, "a", RunnerStopReason.NOTHING_DUE)).every(Take) == [
        Take("a", 1)
    ]


@shows("WORKER-5", "WORKER-12")
def test_a_hint_for_later_makes_the_worker_look() -> None:
    script = started().looked("a").event(Hinted(0, "a", False))
    assert len(script.every(Look)) == 1
    assert script.looked(next_in=250).every(SetTimer)[-1].at_ms == 250
    # The clock of a worker is ahead of the store's: the moment has come for it alone.
    assert started().looked(next_in=0).every(SetTimer)[-1].at_ms == 20


@shows("WORKER-2", "WORKER-6")
def test_a_reason_to_look_during_a_look_is_remembered() -> None:
    script = started().event(Connected(0))
    assert script.every(Look) == []
    assert len(script.looked().every(Look)) == 1


@shows("WORKER-4", "WORKER-5")
def test_the_worker_looks_at_least_every_five_seconds() -> None:
    script = started().looked(next_in=10**9)
    timer = script.every(SetTimer)[-1]
    assert timer.at_ms == 5_000
    script.event(TimerFired(5_000, timer.id))
    assert [look.thorough for look in script.every(Look)] == [True]


@shows("WORKER-9", "WORKER-10")
def test_the_delay_grows_while_a_session_has_nothing_to_begin() -> None:
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
        assert script.every(Take) == [Take("a", 1)]
    assert waits == [50, 100, 200, 400, 800, 1_600, 3_200, 5_000]


@shows("WORKER-25")
def test_a_job_without_a_runner_is_left_alone_for_minutes() -> None:
    script, now, waits = started(), 0, []
    script.looked("a")
    for _ in range(8):
        script.event(RunnerStopped(now, "a", RunnerStopReason.NO_RUNNER))
        assert isinstance(script.state, Serving)
        waits.append(script.state.cooling[0].until_ms - now)
        now += waits[-1]
        script.event(Looked(now, script.state.looking, ("a",), False, None))
        assert script.every(Take) == [Take("a", 1)]
    assert waits == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]


@shows("WORKER-25")
@pytest.mark.parametrize("dead", [False, True])
def test_the_death_of_its_holder_ends_that_wait(dead: bool) -> None:
    script, now = started().looked("a"), 0
    for wait in (5_000, 10_000):
        script.event(RunnerStopped(now, "a", RunnerStopReason.NO_RUNNER))
        assert isinstance(script.state, Serving)
        if wait == 5_000:
            now += wait
            script.event(Looked(now, script.state.looking, ("a",), False, None))
    ids = ("a",) if dead else ()
    assert isinstance(script.state, Serving)
    script.event(Looked(now, script.state.looking, ("a",), False, None, (), ids))
    assert script.every(Take) == ([Take("a", 1)] if dead else [])


@shows("WORKER-25")
def test_the_worker_looks_past_what_is_left_alone() -> None:
    script = started().looked("a").event(RunnerStopped(0, "a", RunnerStopReason.NO_RUNNER))
    assert script.every(Look)[0].limit == 256
    assert script.looked("a", full=True).every(SetTimer)[-1].at_ms == 1_000


@shows("WORKER-9")
@pytest.mark.parametrize("full", [False, True])
def test_a_free_slot_makes_the_worker_look_only_if_more_may_be_due(full: bool) -> None:
    script = started(1).looked("a", full=full).event(RunnerStopped(0, "a", RunnerStopReason.DONE))
    assert bool(script.every(Look)) == full


@shows("WORKER-13", "WORKER-14", "WORKER-15", "WORKER-16")
def test_a_draining_worker_waits_for_its_runners_and_takes_nothing_new() -> None:
    script = started().looked("a", "b").event(Drain(0))
    assert script.last == (DrainRunners(),)
    assert script.event(Hinted(0, "c", True)).last == ()
    assert script.event(RunnerStopped(0, "a", RunnerStopReason.DONE)).last == ()
    assert script.event(RunnerStopped(0, "b", RunnerStopReason.DONE)).last == (Finish(),)


@shows("WORKER-14")
def test_a_drain_without_runners_finishes_at_once() -> None:
    assert started().looked().event(Drain(0)).last == (Finish(),)


@shows("WORKER-7")
def test_a_failed_look_is_repeated_after_half_a_second() -> None:
    script = started()
    assert isinstance(script.state, Serving)
    timer = script.event(LookFailed(10, script.state.looking)).every(SetTimer)[0]
    assert timer.at_ms == 510
    assert len(script.event(TimerFired(510, timer.id)).every(Look)) == 1


@shows("WORKER-2")
def test_the_worker_does_not_look_while_all_slots_are_taken() -> None:
    script = started(1).looked("a").event(Hinted(0, "b", False))
    assert script.every(Look) == []
    assert len(script.event(RunnerStopped(0, "a", RunnerStopReason.DONE)).every(Look)) == 1


@shows("WORKER-16")
def test_an_earlier_look_and_an_earlier_timer_change_nothing() -> None:
    script = started().looked(next_in=100)
    before = script.state
    for event in (Looked(0, 99, ("a",), False, None), LookFailed(0, 99), TimerFired(0, 99)):
        assert (script.event(event).state, script.last) == (before, ())


# -- limits: the key of a session is the first letter of its id


@shows("WORKER-21", "WORKER-22")
def test_a_session_whose_limit_is_full_is_put_aside_and_hinders_nobody() -> None:
    script = started(4, Rule(at_once=1)).looked("a1", "a2", "a3", "b1")
    assert script.taken() == ["a1", "b1"]
    assert script.hinted("c1").taken() == ["c1"]
    assert script.hinted("a4").taken() == []
    assert script.ended("b1").taken() == []
    assert script.ended("a1").taken() == ["a2"], "the first one that was put aside"


@shows("WORKER-21", "WORKER-22")
def test_a_limit_per_minute_lets_the_next_one_begin_when_a_begin_is_a_minute_old() -> None:
    script = started(4, Rule(per_minute=2)).looked("a1")
    script.now_ms = 1_000
    assert script.hinted("a2").taken() == ["a2"]
    script.ended("a1").ended("a2")
    assert script.hinted("a3").taken() == []
    began = []
    while script.now_ms < 200_000:
        script.timer()
        began += [(script.now_ms, session_id) for session_id in script.taken()]
        script.looked("a3", "a4", "a5")
        for session_id in ("a3", "a4", "a5"):
            if isinstance(script.state, Serving) and session_id in script.state.running:
                script.ended(session_id)
                began += [(script.now_ms, taken) for taken in script.taken()]
        if len(began) >= 6:
            break

    times = [0, 1_000, *[at_ms for at_ms, _ in began]]
    assert began[0] == (60_000, "a3")
    assert all(later - earlier >= 60_000 for earlier, later in zip(times, times[2:], strict=False))


@shows("WORKER-22")
def test_the_timer_is_set_earlier_for_a_session_that_was_put_aside() -> None:
    script = started(4, Rule(per_minute=1)).looked("a1")
    assert isinstance(script.state, Serving)
    script.now_ms = 57_000
    script.event(TimerFired(57_000, script.state.timer)).looked()
    script.now_ms = 58_000
    assert script.ended("a1").hinted("a2").taken() == []
    assert [timer.at_ms for timer in script.every(SetTimer)] == [60_000]
    assert script.timer().taken() == ["a2"]


@shows("WORKER-23")
def test_a_full_look_that_leaves_a_slot_free_is_followed_by_another_one() -> None:
    many = [f"a{n}" for n in range(300)]
    script = started(4, Rule(at_once=1)).looked(*many[:256], full=True)
    assert script.taken() == ["a0"]
    assert [timer.at_ms for timer in script.every(SetTimer)] == [100]
    assert script.timer().every(Look)[0].limit == 256
    assert script.looked(*many[256:], "b1", full=True).taken() == ["b1"]
    assert isinstance(script.state, Serving) and len(script.state.aside) == 256
    assert script.ended("a0").taken() == ["a1"]


@shows("WORKER-24")
def test_a_session_that_was_taken_in_vain_does_not_count_in_its_minute() -> None:
    script = started(4, Rule(per_minute=1)).looked("a1")
    assert script.ended("a1", RunnerStopReason.HELD).hinted("a2").taken() == ["a2"]
    assert script.hinted("a3").taken() == []


@shows("WORKER-24", "WORKER-17")
def test_a_session_that_waits_for_room_keeps_its_place_in_its_limits() -> None:
    script = started(4, Rule(at_once=1)).looked("a1", "b1", "c1")
    script.ended("a1", RunnerStopReason.NEEDS_ROOM, 0)
    assert script.hinted("a2").taken() == []
    script.ended("b1")
    assert script.ended("c1").taken() == ["a1"]
    assert script.ended("a1").taken() == ["a2"]


@shows("WORKER-8", "WORKER-22")
def test_a_hint_while_a_session_runs_leaves_it_behind_those_that_were_put_aside() -> None:
    script = started(4, Rule(at_once=1)).looked("a1", "a2")
    script.hinted("a1")
    assert script.ended("a1").taken() == ["a2"]
    assert script.ended("a2").taken() == ["a1"]


def test_several_limits_hold_together() -> None:
    rules = (Rule(at_once=2), Rule(at_once=3))  # of a tenant, and of all
    usage = Usage(rules).learn([(i, (i[0], "all")) for i in ("a1", "a2", "a3", "b1", "b2", "c1")])
    usage = usage.learn([("z1", (None, None))])
    usage, taken, wake_ms = admit(usage, tuple(usage.keys), 9, 0)
    assert (taken, wake_ms) == (("a1", "a2", "b1", "z1"), None)
    usage = usage.release("a1", 0)
    assert admit(usage, ("a3", "b2"), 9, 0)[1] == ("a3",)


@given(st.data())
def test_no_limit_is_exceeded_and_nothing_waits_that_may_begin(data: st.DataObject) -> None:
    rule = Rule(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)))
    usage, now_ms, waiting, running = Usage((rule,)), 0, list[str](), list[str]()
    begins: dict[str, list[int]] = {"a": [], "b": []}
    for n in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(("arrive", "end", "wait"))):
            case "arrive":
                name = f"{data.draw(st.sampled_from('ab'))}{n}"
                usage, waiting = usage.learn([(name, (name[0],))]), [*waiting, name]
            case "end" if running:
                usage = usage.release(
                    running.pop(data.draw(st.integers(0, len(running) - 1))), now_ms
                )
            case _:
                now_ms += data.draw(st.sampled_from((1, 1_000, 30_000, 60_000)))
        usage, taken, wake_ms = admit(usage, waiting, 100, now_ms)
        for name in taken:
            begins[name[0]].append(now_ms)
        waiting, running = [i for i in waiting if i not in taken], [*running, *taken]
        assert usage.held.keys() == set(running) and usage.keys.keys() == set(waiting)
        for key, times in begins.items():
            recent = [at_ms for at_ms in times if at_ms > now_ms - 60_000]
            at_once = [i for i in running if i[0] == key]
            assert len(at_once) <= (rule.at_once or 0) and len(recent) <= (rule.per_minute or 0)
            left = [i for i in waiting if i[0] == key]
            if left and len(at_once) < (rule.at_once or 0):
                assert wake_ms is not None and wake_ms > now_ms
                assert len(recent) == rule.per_minute
    assert admit(usage, waiting, 100, now_ms)[1] == ()


def test_every_clause_is_shown_by_a_test_and_no_other_clause_is_named() -> None:
    assert named(globals()) == defined("worker.md")
