"""The publisher: invariants in every case, and scenarios of its clauses.  Specs: specs/publisher.md, specs/feed.md."""

from __future__ import annotations

from typing import Any

import pytest
from clauses import ClauseLog, defined, named

from tenure.check.machine_domains import PUBLISHER
from tenure.commands import Admit, NewInput, Open, Publish
from tenure.event import EventKind
from tenure.outcome import Decided, Stepped
from tenure.publisher.machine import RULES, is_ignored, step
from tenure.publisher.protocol import (
    LOOK_MAX,
    Adopt,
    Adopted,
    AdoptFailed,
    Drain,
    Effect,
    Finish,
    Found,
    Give,
    GiveFailed,
    Given,
    Look,
    Looked,
    LookFailed,
    Noticed,
    Outcome,
    Publishing,
    ReadFailed,
    Record,
    Recorded,
    SetTimer,
    Started,
    State,
    TimerFired,
    UnpublishedEvents,
)
from tenure.queries import Question
from tenure.questions.feed import FROM_THE_BEGINNING, LIFETIME_MS, SHORT_MS, FeedPosition
from tenure.world import EMPTY, World, ask, evolve

LOG = ClauseLog({row.clause for row in RULES.rows} | {"PUBLISHER-16"})
shows = LOG.shows


def test_a_session_is_given_once_at_a_time_and_no_failing_sink_is_hurried() -> None:
    cases = 0
    for state in PUBLISHER.states:
        for event in PUBLISHER.received(state):
            cases += 1
            outcome = step(state, event)
            if is_ignored(state, event):
                assert outcome == Stepped(state, "PUBLISHER-16")
            else:
                check(state, event, outcome)

    assert cases > 30_000


def check(state: State, event: Any, outcome: Outcome) -> None:
    """Check what must be true after every step."""
    after, effects = outcome.state, outcome.effects
    given = [e.session_id for e in effects if isinstance(e, Give)]
    recorded = [e for e in effects if isinstance(e, Record)]
    assert not recorded or (isinstance(event, Given) and event.through == recorded[0].through)
    if not isinstance(after, Publishing):
        assert given == []
        return
    assert isinstance(state, Publishing)
    still = state.giving - {getattr(event, "session_id", "")}
    assert not set(given) & still, "never the same session twice at once"
    assert not set(given) & set(after.backlog)
    assert set(given) <= after.giving
    if given:
        assert event.now_ms >= after.rest_until_ms
        assert len(after.giving) <= max(len(state.giving), 1 if after.failures else after.at_once)
    looks = [e for e in effects if isinstance(e, Look)]
    assert len(looks) <= 1
    if looks:
        assert event.now_ms >= state.look_from_ms
        assert looks[0].id == after.looking != state.looking
        assert len(state.backlog) <= LOOK_MAX + 8
    if after.feed != state.feed:
        assert isinstance(event, Looked | Adopted)
        assert not (isinstance(event, Looked) and event.found.unadopted), "adopted first"
    for timer in (e for e in effects if isinstance(e, SetTimer)):
        assert event.now_ms < timer.at_ms <= event.now_ms + 5_000
    if isinstance(event, Started | TimerFired | LookFailed | AdoptFailed | GiveFailed):
        assert any(isinstance(e, SetTimer) for e in effects), "somebody looks again"


# -- scenarios


class Publisher:
    """A publisher in a test: the state, and the effects of the last event."""

    def __init__(self, at_once: int = 2) -> None:
        self.state: State = Publishing(at_once)
        self.effects: tuple[Effect, ...] = ()
        self.now_ms = 0

    def feed(self, event: Any) -> None:
        outcome = step(self.state, event)
        self.state, self.effects = outcome.state, outcome.effects
        LOG.applied.append(outcome.clause)

    @property
    def given(self) -> list[str]:
        return [e.session_id for e in self.effects if isinstance(e, Give)]

    def only(self, kind: type[Effect]) -> Any:
        (found,) = [e for e in self.effects if isinstance(e, kind)]
        return found

    def find(
        self,
        *session_ids: str,
        unadopted: tuple[str, ...] = (),
        after: tuple[int, str] | None = None,
        feed: FeedPosition = FROM_THE_BEGINNING,
    ) -> None:
        """Answer the look of the last event."""
        found = Found(session_ids, after, unadopted, feed)
        self.feed(Looked(self.now_ms, self.only(Look).id, found))

    def started(self) -> Publisher:
        self.feed(Started(self.now_ms))
        return self


@shows("PUBLISHER-1", "PUBLISHER-6", "PUBLISHER-3")
def test_it_gives_the_events_of_as_many_sessions_as_allowed() -> None:
    p = Publisher(2).started()

    p.find("a", "b", "c")

    assert p.given == ["a", "b"]
    p.feed(Given(0, "a", None))
    assert p.given == ["c"]


@shows("PUBLISHER-2", "PUBLISHER-6")
def test_a_look_goes_on_where_the_last_one_ended() -> None:
    p = Publisher(2).started()
    assert p.only(Look).after is None

    p.find("a", after=(7, "a"))

    assert p.only(Look).after == (7, "a")
    many = tuple(f"s{n}" for n in range(LOOK_MAX + 1))
    p.find(*many, after=(8, "b"))
    assert not any(isinstance(e, Look) for e in p.effects)


@shows("PUBLISHER-9", "PUBLISHER-10")
def test_what_the_sink_has_taken_is_published_and_more_waits_behind_others() -> None:
    p = Publisher(1).started()
    p.find("a", "b")

    p.feed(Given(0, "a", 9, True))
    assert p.effects == (Record("a", 9, True),)
    p.feed(Recorded(0, "a", True))
    assert p.given == ["b"]
    p.feed(Given(0, "b", None))

    assert p.given == ["a"]


@shows("PUBLISHER-4", "PUBLISHER-5", "PUBLISHER-16")
def test_it_looks_each_second_and_soon_after_a_notice() -> None:
    p = Publisher().started()
    timer = p.only(SetTimer)
    assert timer.at_ms == 1_000
    p.find()

    p.feed(Noticed(100))
    soon = p.only(SetTimer)
    assert soon.at_ms == 120
    p.feed(Noticed(110))
    assert not p.effects
    p.feed(TimerFired(1_000, timer.id))
    assert not p.effects, "the earlier timer was replaced"
    p.feed(TimerFired(120, soon.id))
    assert isinstance(p.only(Look), Look)
    assert p.only(SetTimer).at_ms == 1_120


@shows("PUBLISHER-7", "PUBLISHER-8")
def test_a_session_without_a_cursor_is_adopted_before_the_feed_goes_on() -> None:
    p, further = Publisher().started(), FeedPosition(50, None, True, 0)
    look = p.only(Look)
    p.find("a", unadopted=("x", "y"), feed=further)
    adopt = p.only(Adopt)
    assert (adopt.session_ids, p.given) == (("x", "y"), ["a"])

    p.feed(AdoptFailed(0, adopt.id))
    timer = p.only(SetTimer)
    p.feed(TimerFired(timer.at_ms, timer.id))
    again = p.only(Look).feed
    assert (again.at_ms, again.after) == (look.feed.at_ms, look.feed.after), "the same place"

    p.find(unadopted=("x", "y"), feed=further)
    adopt = p.only(Adopt)
    p.feed(Adopted(0, adopt.id, adopt.session_ids, adopt.feed))
    assert p.given == ["x"]
    assert isinstance(p.state, Publishing) and p.state.feed == further


@shows("PUBLISHER-8")
def test_a_failed_look_is_repeated() -> None:
    p = Publisher().started()

    p.feed(LookFailed(0, p.only(Look).id))

    p.feed(TimerFired(1_000, p.only(SetTimer).id))
    assert isinstance(p.only(Look), Look)


@shows("PUBLISHER-11", "PUBLISHER-12", "PUBLISHER-9")
def test_a_sink_that_fails_is_left_alone_for_longer_and_longer() -> None:
    p, waits = Publisher(2).started(), []
    p.find("a", "b", "c", *[f"s{n}" for n in range(20)])
    p.feed(GiveFailed(0, "a"))
    p.feed(GiveFailed(0, "b"))
    for _ in range(12):
        assert isinstance(p.state, Publishing)
        rest_until_ms = p.state.rest_until_ms
        waits.append(rest_until_ms - p.now_ms)
        while p.now_ms < rest_until_ms:
            timer = p.only(SetTimer)
            p.now_ms = timer.at_ms
            p.feed(TimerFired(timer.at_ms, timer.id))
        assert p.now_ms == rest_until_ms
        (one,) = p.given  # at a time
        p.feed(GiveFailed(p.now_ms, one))
    assert waits == [200 * 2**n for n in range(8)] + [30_000] * 4

    while not p.given:
        timer = p.only(SetTimer)
        p.now_ms = timer.at_ms
        p.feed(TimerFired(timer.at_ms, timer.id))
    p.feed(Given(p.now_ms, p.given[0], 3))
    assert isinstance(p.state, Publishing) and p.state.failures == 0
    assert len(p.state.giving) == 2


@shows("PUBLISHER-12")
def test_a_session_that_no_sink_takes_does_not_stop_the_others() -> None:
    p = Publisher(1).started()
    p.find("poison", "a")
    p.feed(GiveFailed(0, "poison"))
    p.feed(TimerFired(100, p.only(SetTimer).id))
    assert p.given == ["a"]
    p.feed(Given(100, "a", 3))
    p.feed(Recorded(100, "a", False))

    p.feed(Noticed(100))
    p.feed(TimerFired(120, p.only(SetTimer).id))
    if any(isinstance(e, Look) for e in p.effects):
        p.find("poison", "b")

    assert isinstance(p.state, Publishing)
    assert p.state.giving <= {"poison", "b"}
    assert [c.times for c in p.state.cooling] == [1]


@shows("PUBLISHER-13")
def test_a_store_that_does_not_answer_is_no_failure_of_the_sink() -> None:
    p = Publisher(1).started()
    p.find("a", "b")

    p.feed(ReadFailed(0, "a"))

    assert p.given == ["b"]
    assert isinstance(p.state, Publishing) and p.state.failures == 0


@shows("PUBLISHER-14", "PUBLISHER-15", "PUBLISHER-9")
def test_a_drain_still_publishes_what_the_sink_takes() -> None:
    p = Publisher(2).started()
    p.find("a", "b", "c")
    p.feed(Drain(0))
    assert not p.effects

    p.feed(GiveFailed(0, "a"))
    assert not p.effects
    p.feed(Given(0, "b", 4))
    assert p.only(Record) == Record("b", 4, False)
    p.feed(Recorded(0, "b", False))
    assert p.only(Finish) == Finish()


@shows("PUBLISHER-15")
def test_an_idle_publisher_is_finished_at_once() -> None:
    p = Publisher().started()

    p.feed(Drain(0))

    assert p.effects == (Finish(),)


# -- what is read


def answer(world: World, question: Question[Any]) -> Any:
    return ask(question, world.answer)


def told(world: World, *commands: Any, now_ms: int = 1_000) -> World:
    for command in commands:
        decided = command.decide(world.load(command.reads()), now_ms)
        assert isinstance(decided, Decided), decided
        world = evolve(world, decided.writes)
    return world


def two_prompts(session_id: str) -> Admit:
    return Admit(session_id, (NewInput("p1", "prompt", "x"), NewInput("p2", "prompt", "y")))


@shows("PUBLISHER-2")
def test_a_look_finds_unpublished_sessions_and_those_without_a_cursor() -> None:
    world = told(EMPTY, two_prompts("a"), two_prompts("b"), Open("c"), Open("d"))
    world = told(world, Publish("a", 0), Publish("b", 3), Publish("c", 0), now_ms=2_000)

    found = answer(world, Look(1, None, FROM_THE_BEGINNING, 3_000))

    assert (found.unpublished, found.after, found.unadopted) == (("a", "c"), None, ("d",))
    assert (found.feed.at_ms, found.feed.after) == (1_000, None)
    first = answer(world, Look(1, None, FROM_THE_BEGINNING, 3_000, 1))
    assert (first.unpublished, first.after) == (("a",), (2_000, "a"))
    second = answer(world, Look(2, first.after, first.feed, 3_000, 1))
    assert (second.unpublished, second.feed.after) == (("c",), (1_000, "b"))


def test_events_after_the_cursor_are_given_with_their_ids() -> None:
    world = told(EMPTY, two_prompts("a"))
    assert answer(world, UnpublishedEvents("a")).events == (), "no cursor"

    page = answer(told(world, Publish("a", 1)), UnpublishedEvents("a"))

    assert [e.id for e in page.events] == ["a:2", "a:3"]
    assert [e.event.input_ids for e in page.events] == [("p1",), ("p2",)]
    assert {e.event.kind for e in page.events} == {EventKind.INPUT_ADMITTED}
    assert not page.more
    assert answer(world, UnpublishedEvents("nobody")).events == ()


def test_a_page_of_events_says_if_there_are_more() -> None:
    world = told(EMPTY, Open("a"), Publish("a", 0))
    for n in range(70):
        world = told(world, Admit("a", (NewInput(f"p{n}", "prompt", "x"),)))

    page = answer(world, UnpublishedEvents("a"))
    assert (len(page.events), page.more) == (64, True)
    rest = answer(told(world, Publish("a", 64)), UnpublishedEvents("a"))
    assert (len(rest.events), rest.more) == (7, False)


# -- the feed


def test_a_pass_looks_back_and_a_long_one_further() -> None:  # FEED-2, FEED-3
    at = FeedPosition(10_000_000, None, True, 5)

    short = at.next_pass(5 + LIFETIME_MS - 1)
    long = at.next_pass(5 + LIFETIME_MS)

    wall_ms = 20_000_000
    assert short.question(wall_ms).after == (10_000_000 - SHORT_MS, "")
    assert long.question(wall_ms).after == (10_000_000 - 2 * LIFETIME_MS, "")
    assert FeedPosition(7).next_pass(0).question(wall_ms).after == (0, "")


def test_a_clock_that_was_set_back_hides_no_change() -> None:  # FEED-4
    at = FeedPosition(10_000_000, None, True, 5).next_pass(6)

    assert at.question(4_000_000).after == (4_000_000 - SHORT_MS, "")


def test_a_pass_in_progress_goes_on() -> None:
    middle = FeedPosition(10, (9, "x"), False, 5)

    assert middle.next_pass(10**9) == middle
    assert middle.question(0).after == (9, "x")


@pytest.mark.parametrize("delay_ms", [0, 1, SHORT_MS, 30_000, LIFETIME_MS - 1])
@pytest.mark.parametrize("poll_ms", [1_000, 59_000, LIFETIME_MS - 1])
def test_a_transaction_that_commits_late_is_read(delay_ms: int, poll_ms: int) -> None:  # FEED-3
    """Every other millisecond a change is dated, and each is seen by passes that begin `delay_ms` later."""
    position, seen = FROM_THE_BEGINNING, set()
    dated = range(1_000, 3_000_000, 7_919)
    for now_ms in range(1_000, 3_000_000 + 3 * LIFETIME_MS, poll_ms):
        position = position.next_pass(now_ms)
        begins_ms = position.begins_at(now_ms)
        visible = [t for t in dated if t <= now_ms and (t % 2 or t + delay_ms <= now_ms)]
        seen |= {t for t in visible if t >= begins_ms}
        position = FeedPosition(
            max(position.at_ms, *visible, 0), None, position.long, position.long_ms
        )

    assert seen == set(dated)


def test_every_clause_of_the_page_has_a_test() -> None:
    assert named(globals()) == defined("publisher.md")
