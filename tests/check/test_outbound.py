"""The model of outbound commands: it holds, and it finds wrong kernels and wrong relays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from tenure.check.explorer import explore
from tenure.check.outbound import (
    IN_ORDER,
    KEPT,
    MOVES,
    ONCE,
    ONLY_SENT,
    OUTBOUND_SYSTEM,
    OutboundModel,
    OutboundSystem,
)
from tenure.commands import resend, sent, sent_commands
from tenure.indexes import OUTBOUND_ROUTE
from tenure.outbound_records import route_of
from tenure.queries import First
from tenure.relay import protocol

Patch = Callable[[pytest.MonkeyPatch], None]


def nothing(patch: pytest.MonkeyPatch) -> None:
    """The kernel is right: the relay, or who sends, is not."""


def read_from_the_end(patch: pytest.MonkeyPatch) -> None:
    """A relay sends the last row of a route that is due, and the kernel lets it."""
    steps = protocol.LoadHead.steps

    def last(self: Any) -> Any:
        at = (self.route.session_id, route_of(self.route.to, self.route.peer))
        page = yield First(OUTBOUND_ROUTE, at, 9)
        inner = steps(self)
        next(inner)
        try:
            inner.send(page[-1:])
        except StopIteration as stop:
            return stop.value

    def any_(self: Any, view: Any) -> Any:
        return view.session, view.row

    patch.setattr(protocol.LoadHead, "steps", last)
    patch.setattr(sent._OfRow, "find", any_)


def resent_under_another_id(patch: pytest.MonkeyPatch) -> None:
    decide = resend.Resend._again

    def again(self: Any, session: Any, row: Any, how: Any, now_ms: int) -> Any:
        return decide(self, session, row, evolve(how, refusal="pruned"), now_ms)

    patch.setattr(resend.Resend, "_again", again)


def never_promoted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sent, "_promote_next", lambda *_: [])


def lined_up_for_good(patch: pytest.MonkeyPatch) -> None:
    """LineUp also sets the first row behind."""
    decide = sent.LineUp.decide

    def all_(self: Any, view: Any, now_ms: int) -> Any:
        first = tuple([evolve(row, number=0) for row in view.first])
        rows = (*view.rows, *view.first)
        return decide(self, evolve(view, first=first, rows=rows), now_ms)

    patch.setattr(sent.LineUp, "decide", all_)


def another_id_each_time(patch: pytest.MonkeyPatch) -> None:
    """The id of a command follows from the attempt."""
    real = sent_commands.command_of

    def by_attempt(row: Any) -> Any:
        return real(evolve(row, outbound_id=f"{row.outbound_id}-{row.attempts}"))

    patch.setattr(protocol, "command_of", by_attempt)


def refused_and_dropped(patch: pytest.MonkeyPatch) -> None:
    """What was refused for good is dropped, as if it had been sent."""
    decide = sent.Sent.decide
    patch.setattr(sent.SendRefused, "decide", lambda self, view, now: decide(self, view, now))


def test_the_model_is_small_and_holds() -> None:
    found = explore(OutboundModel())

    assert found.good, found
    assert (found.states, found.transitions) == (7_363, 31_523)


@pytest.mark.parametrize(
    ("system", "patch", "sentence"),
    [
        (evolve(OUTBOUND_SYSTEM, early=True), nothing, ONLY_SENT),
        (evolve(OUTBOUND_SYSTEM, drops_first=True), nothing, KEPT),
        (OUTBOUND_SYSTEM, read_from_the_end, IN_ORDER),
        (OUTBOUND_SYSTEM, never_promoted, MOVES),
        (OUTBOUND_SYSTEM, lined_up_for_good, MOVES),
        (OUTBOUND_SYSTEM, another_id_each_time, ONCE),
        (OUTBOUND_SYSTEM, refused_and_dropped, KEPT),
        (OUTBOUND_SYSTEM, resent_under_another_id, ONCE),
    ],
    ids=[
        "sent before its row",
        "dropped before sending",
        "sent out of order",
        "never promoted",
        "lined up for good",
        "another id each time",
        "refused and dropped",
        "resent under another id",
    ],
)
def test_the_model_finds_the_bug(
    system: OutboundSystem, patch: Patch, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    found = explore(OutboundModel(system), first_only=True)

    assert sentence in found.broken, found.broken


def test_the_model_finds_what_nobody_sends_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OutboundModel, "_person", lambda self, state: iter(()))

    found = explore(OutboundModel())

    assert found.stuck is not None
