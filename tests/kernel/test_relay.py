"""The relay: invariants in every case, and scenarios of its clauses.  Spec: specs/relay.md."""

from __future__ import annotations

from typing import Any

import pytest
from clauses import ClauseLog, defined, named

from tenure.check.machine_domains import RELAY
from tenure.commands import (
    Acquire,
    Admit,
    Amend,
    Decide,
    LineUp,
    NewInput,
    NewOutbound,
    Open,
    RequestCancel,
    SendFailed,
    SendRefused,
    Sent,
)
from tenure.commands.sendable import Sendable
from tenure.machines.lease import Owner
from tenure.machines.ticket import Action
from tenure.outcome import Decided, Refusal, Refused, Stepped
from tenure.relay.answers import report_of
from tenure.relay.machine import POLL_MS, RULES, is_at_rest, is_ignored, step
from tenure.relay.protocol import (
    LOOK_MAX,
    Deliver,
    Delivered,
    Drain,
    Effect,
    Failed,
    Finish,
    Finished,
    Found,
    Head,
    LoadHead,
    Look,
    Looked,
    LookFailed,
    NotDue,
    Nothing,
    Noticed,
    Outcome,
    ReadFailed,
    Record,
    Recorded,
    RefusedForGood,
    Relaying,
    Route,
    SetTimer,
    Started,
    State,
    TimerFired,
)
from tenure.world import EMPTY, World, ask, evolve

LOG = ClauseLog({row.clause for row in RULES.rows} | {"RELAY-18"})
shows = LOG.shows
A, B, C = Route("a", "t"), Route("b", "t"), Route("c", "t", "far")


def test_a_route_is_sent_once_at_a_time_and_somebody_looks_again() -> None:
    cases = 0
    for state in RELAY.states:
        for event in RELAY.received(state):
            cases += 1
            outcome = step(state, event)
            if is_ignored(state, event):
                assert outcome == Stepped(state, "RELAY-18")
            else:
                check(state, event, outcome)

    assert cases > 5_000


def check(state: State, event: Any, outcome: Outcome) -> None:
    """Check what must be true after every step."""
    after, effects = outcome.state, outcome.effects
    sent = [e.route for e in effects if isinstance(e, Deliver)]
    records = [e for e in effects if isinstance(e, Record)]
    assert len(records) == isinstance(event, Delivered | RefusedForGood | Failed) or (
        isinstance(event, NotDue) and len(records) <= 1
    )
    assert not records or after == state, "a route is released when its result is stored"
    if not isinstance(after, Relaying):
        assert sent == []
        return
    assert isinstance(state, Relaying)
    busy = {each.route for each in state.sending} - {getattr(event, "route", None)}
    assert not set(sent) & busy, "never the same route twice at once"
    routes = [each.route for each in (*after.sending, *after.backlog)]
    assert len(set(routes)) == len(routes), "a route is known once"
    assert set(sent) <= {each.route for each in after.sending}
    assert len(after.sending) <= max(len(state.sending), after.at_once)
    looks = [e for e in effects if isinstance(e, Look)]
    assert len(looks) <= 1
    if looks:
        assert event.now_ms >= after.look_from_ms
        assert looks[0].id == after.looking != state.looking
        assert looks[0].peer in after.peers
    for timer in (e for e in effects if isinstance(e, SetTimer)):
        assert event.now_ms < timer.at_ms == after.timer_at_ms
    if isinstance(event, Started | TimerFired | LookFailed | ReadFailed):
        assert after.timer_at_ms > event.now_ms, "somebody looks again"


class Relay:
    """A relay in a test: the state, and the effects of the last event."""

    def __init__(self, *peers: str, at_once: int = 2) -> None:
        self.state: Any = Relaying(("", *peers), at_once)
        self.effects: tuple[Effect, ...] = ()
        self.now_ms = 0

    def feed(self, event: Any) -> None:
        outcome = step(self.state, event)
        self.state, self.effects = outcome.state, outcome.effects
        LOG.applied.append(outcome.clause)

    @property
    def sent(self) -> list[Route]:
        return [e.route for e in self.effects if isinstance(e, Deliver)]

    def only(self, kind: type[Effect]) -> Any:
        (found,) = [e for e in self.effects if isinstance(e, kind)]
        return found

    def none(self, kind: type[Effect]) -> bool:
        return not [e for e in self.effects if isinstance(e, kind)]

    def find(self, *rows: tuple[Route, int], **more: Any) -> None:
        """End the look in progress."""
        self.feed(Looked(self.now_ms, self.state.looking, Found(rows, **more)))


@shows("RELAY-1", "RELAY-2", "RELAY-6")
def test_a_look_goes_on_behind_what_it_has_read_and_then_with_the_next_store() -> None:
    relay = Relay("far")
    relay.feed(Started(0))
    assert relay.only(Look) == Look(1, "", None)

    relay.find((A, 1), after=(0, "a", 1))
    assert relay.sent == [A]
    assert (relay.only(Look).peer, relay.only(Look).after) == ("", (0, "a", 1))
    relay.find()
    assert (relay.only(Look).peer, relay.only(Look).after) == ("far", None)
    relay.find((C, 1))
    assert relay.sent == [C] and relay.none(Look)

    many = [(Route(f"s{n}", "t"), 1) for n in range(LOOK_MAX)]
    relay.feed(Noticed(0))
    relay.find(*many, after=(0, "s", 1))
    assert relay.none(Look), "enough is known"


@shows("RELAY-3", "RELAY-9", "RELAY-14")
def test_the_rows_of_a_route_are_sent_one_after_the_other() -> None:
    relay = Relay()
    relay.feed(Started(0))
    relay.find((A, 1), (A, 2), (B, 1))
    assert relay.sent == [A, B]

    relay.feed(Delivered(1, A, 1, more=True))
    assert relay.effects == (Record(A, Sent("a", 1, "t"), True),)
    relay.feed(Recorded(2, A, more=True))
    assert relay.sent == [A], "the next row of it"
    relay.feed(Delivered(3, A, 2, more=False))
    relay.feed(Recorded(4, A, more=False))
    assert relay.sent == [] and len(relay.state.sending) == 1


@shows("RELAY-4", "RELAY-11")
def test_it_looks_when_a_row_is_due_that_it_has_met() -> None:
    relay = Relay()
    relay.feed(Started(0))
    assert relay.only(SetTimer).at_ms == POLL_MS
    relay.find(wait_ms=300)
    assert relay.only(SetTimer).at_ms == 300
    first = relay.only(SetTimer)
    relay.feed(TimerFired(300, first.id))
    relay.find((A, 1))
    relay.feed(Failed(400, A, 1, 0, "no answer"))
    assert relay.only(Record).command == SendFailed("a", 1, "t", 0, "no answer")
    relay.feed(Recorded(500, A, False, wait_ms=1_000))
    assert relay.only(SetTimer).at_ms == 1_500
    relay.feed(Recorded(600, A, False, wait_ms=4_000))
    assert relay.none(SetTimer), "the earlier one stays"


@shows("RELAY-5")
def test_it_looks_at_once_for_what_its_process_has_sent() -> None:
    relay = Relay()
    relay.feed(Started(0))
    relay.feed(Noticed(1))
    assert relay.effects == ()
    relay.find(after=(0, "m", 1))
    assert relay.only(Look).after is None, "what was sent may be before the place"
    assert not is_at_rest(relay.state)
    relay.find()
    assert relay.none(Look) and is_at_rest(relay.state)
    relay.feed(Noticed(2))
    assert relay.only(Look)


@shows("RELAY-8", "RELAY-15")
def test_the_store_of_the_senders_is_left_alone_when_it_does_not_answer() -> None:
    relay = Relay()
    relay.feed(Started(0))
    relay.feed(LookFailed(0, relay.state.looking))
    assert relay.only(SetTimer).at_ms == 500
    relay.feed(Noticed(100))
    assert relay.effects == ()
    relay.feed(TimerFired(500, relay.state.timer))
    relay.feed(LookFailed(500, relay.state.looking))
    assert relay.state.look_from_ms == 500 + 1_000
    relay.feed(TimerFired(1_500, relay.state.timer))
    relay.find((A, 1))
    relay.feed(ReadFailed(1_500, A))
    assert relay.state.sending == () and relay.state.look_from_ms == 2_000


@shows("RELAY-10")
def test_a_refusal_for_good_is_stored() -> None:
    relay = Relay()
    relay.feed(Started(0))
    relay.find((C, 7))
    relay.feed(RefusedForGood(0, C, 7, "phase", "INBOX-3", "retired", more=True))
    assert relay.effects == (
        Record(C, SendRefused("c", 7, "t", "phase", "INBOX-3", "retired", "far"), True),
    )


@shows("RELAY-12", "RELAY-13")
def test_rows_behind_one_that_waits_are_lined_up_if_they_are_known() -> None:
    relay = Relay()
    relay.feed(Started(0))
    relay.find(*[(A, n) for n in range(2, 200)], (B, 1))
    relay.feed(NotDue(0, A))
    assert relay.only(Record).command == LineUp("a", "t", tuple(range(2, 130)))
    relay.feed(Recorded(0, A, more=False))
    relay.feed(Delivered(0, B, 1, more=True))
    relay.feed(Recorded(0, B, more=True))
    relay.feed(NotDue(0, B))
    assert relay.effects == () and relay.state.sending == ()
    relay.feed(Noticed(0))
    relay.find((A, 5))
    relay.feed(Nothing(0, A))
    assert relay.state.sending == ()


@shows("RELAY-16", "RELAY-17", "RELAY-18", "RELAY-22")
def test_a_drain_stores_what_came_of_the_rows_that_are_being_sent() -> None:
    relay = Relay()
    relay.feed(Started(0))
    relay.find((A, 1), (B, 1), (C, 1))
    relay.feed(Drain(0))
    assert not relay.effects and is_at_rest(relay.state)
    relay.feed(Delivered(0, A, 1, more=True))
    assert relay.only(Record).command == Sent("a", 1, "t")
    relay.feed(Noticed(0))
    assert not relay.effects
    relay.feed(Recorded(0, A, more=True))
    relay.feed(ReadFailed(0, B))
    assert relay.effects == (Finish(),) and relay.state == Finished()

    idle = Relay()
    idle.feed(Drain(0))
    assert idle.effects == (Finish(),)


# -- what an answer means

WAKE = Admit("t", (NewInput("i", "wake", "x"),))
DECIDE = Decide("t", "ticket", "d", Action.ANSWER)
CANCEL = RequestCancel("t", "c", "r")


@pytest.mark.parametrize(
    ("command", "reason", "detail", "expected"),
    [
        *[(WAKE, reason, None, Failed) for reason in (Refusal.FULL, Refusal.BUSY)],
        (WAKE, Refusal.NOT_ACTIVE, "release 2", Failed),
        (DECIDE, Refusal.PHASE, "importing", Failed),
        (DECIDE, Refusal.PHASE, "stopped", RefusedForGood),
        (DECIDE, Refusal.ENDED, "settled", Delivered),
        (CANCEL, Refusal.ENDED, "done", Delivered),
        (WAKE, Refusal.ENDED, "its target", RefusedForGood),
        (WAKE, Refusal.PRUNED, "i", RefusedForGood),
        (WAKE, Refusal.KEY_CONFLICT, "i", RefusedForGood),
        (CANCEL, Refusal.UNKNOWN_RUN, "r", RefusedForGood),
    ],
)
def test_a_refusal_is_final_unless_time_can_change_it(
    command: Sendable, reason: Refusal, detail: Any, expected: type
) -> None:  # RELAY-9, RELAY-10, RELAY-11
    head = Head(3, 2, command)

    event = report_of(9, A, head, Refused(reason, "X-1", detail))

    assert isinstance(event, expected)
    assert (event.now_ms, event.route, event.number) == (9, A, 3)
    assert isinstance(report_of(9, A, head, Decided(None, "X-2")), Delivered)


# -- what it reads


def sent_world() -> World:
    """A session that has sent three rows on two routes, of which the first waits for its time."""
    world = EMPTY

    def do(command: Any) -> Any:
        nonlocal world
        answer = command.decide(world.load(command.reads()), 1_000)
        assert isinstance(answer, Decided), answer
        world = evolve(world, answer.writes)
        return answer.outcome

    do(Open("a"))
    fence = do(Acquire("a", "l", Owner("w", "w.1"))).fence
    wakes = [NewOutbound(Admit(to, (NewInput("", "wake", "x"),)), peer) for to, peer in ROUTES]
    do(Amend("a", "c", fence, 0, outbound=tuple(wakes)))
    do(SendFailed("a", 1, "t", 0, "no answer"))
    return world


ROUTES = (("t", ""), ("t", ""), ("t", "far"))


@shows("RELAY-20")
def test_a_look_finds_the_rows_for_one_store_that_may_be_sent() -> None:
    world = sent_world()

    def look(peer: str, wall_ms: int, **more: Any) -> Found:
        return ask(Look(1, peer, wall_ms=wall_ms, **more), world.answer)

    far = Route("a", "t", "far")
    assert look("far", 0) == Found(((far, 3),))
    assert look("other", 0) == Found(())
    assert look("", 1_500) == Found(((A, 2),), None, 500)
    assert look("", 2_000) == Found(((A, 2), (A, 1)))
    assert look("", 2_000, limit=1) == Found(((A, 2),), (0, "a", 2))
    assert look("", 2_000, limit=1, after=(0, "a", 2)) == Found(((A, 1),), (2_000, "a", 1))


def test_the_first_row_of_a_route_is_sent_also_if_others_are_due() -> None:
    world = sent_world()

    head = ask(LoadHead(A, 1_400), world.answer)

    assert head is not None
    assert (head.number, head.attempts, head.wait_ms, head.more) == (1, 1, 600, True)
    assert isinstance(head.command, Admit) and head.command.inputs[0].input_id
    assert ask(LoadHead(B, 1_400), world.answer) is None


@shows("RELAY-21", "RELAY-23")
def test_every_clause_of_the_page_has_a_test() -> None:  # those are clauses of the host
    assert named(globals()) == defined("relay.md")
