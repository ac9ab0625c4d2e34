"""The replay rules of waits."""

from __future__ import annotations

import pytest

from tenure.machines.ticket import ACTIONS, Action, TicketKind
from tenure.records import EntryKind, JournalEntry, Ticket
from tenure.waits import given_entry, given_id, given_tickets, question_id

APPROVE = (Action.APPROVE,)


def ticket(ticket_id: str, prompt: str, offers: tuple[Action, ...] = APPROVE) -> Ticket:
    return Ticket("s", ticket_id, "r", None, TicketKind.APPROVAL, offers, None, 1_000, prompt)


def entry(kind: EntryKind, effect_id: str, body: str, turn: int = 1) -> JournalEntry:
    return JournalEntry("s", "r", turn, 0, 0, kind, effect_id, "lease", "digest", body=body)


# -- what a wait gave: WAIT-32


def test_what_is_not_settled_for_ever_is_recorded() -> None:
    assert given_entry("wait#1", (), ()) is None
    assert given_entry("wait#1", ("a", "b"), ("b", "a")) is None
    for settled, body in (((), ""), (("b", "x"), "b"), (("c", "a"), "a c")):
        made = given_entry("wait#1", ("a", "b", "c"), settled)
        assert made is not None
        assert (made.kind, made.effect_id, made.body) == (EntryKind.REPORT, "wait#1:given", body)


def test_a_later_attempt_reads_what_was_recorded_in_its_turn() -> None:
    entries = [
        entry(EntryKind.REPORT, given_id("wait#1"), "a c"),
        entry(EntryKind.REPORT, given_id("wait#2"), ""),
        entry(EntryKind.REPORT, given_id("wait#3"), "a", turn=2),
        entry(EntryKind.REPORT, "step#1", "b"),
        entry(EntryKind.WAIT, given_id("wait#4"), "b"),
    ]

    assert given_tickets(entries, 1) == {
        "wait#1:given": frozenset(("a", "c")),
        "wait#2:given": frozenset(),
    }


# -- which ticket a question has: WAIT-33


@pytest.mark.parametrize(
    ("prompt", "offers", "expected"),
    [
        ("Pay 1?", APPROVE, "pay#1"),
        ("Pay 2?", APPROVE, "pay#1:2"),
        ("Pay 3?", APPROVE, "pay#1:3"),
        ("Pay 1?", ACTIONS, "pay#1:3"),
    ],
)
def test_a_ticket_is_used_for_the_question_that_it_asks(
    prompt: str, offers: tuple[Action, ...], expected: str
) -> None:
    ids = {"pay#1": "t1", "pay#1:2": "t2"}
    tickets = {"t1": ticket("t1", "Pay 1?"), "t2": ticket("t2", "Pay 2?")}

    assert question_id("pay#1", ids, tickets, prompt, offers) == expected


def test_a_ticket_of_this_attempt_is_not_compared() -> None:
    assert question_id("pay#1", {"pay#1": "new"}, {}, "anything", APPROVE) == "pay#1"
