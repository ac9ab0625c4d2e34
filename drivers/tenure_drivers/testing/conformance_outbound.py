"""Tests of outbound commands that every store must pass.  Specs: specs/outbound.md, specs/relay.md."""

from __future__ import annotations

import pytest

from tenure.commands import (
    Acquire,
    Acquired,
    Admit,
    Amend,
    LineUp,
    NewInput,
    NewOutbound,
    Open,
    Resend,
    SendFailed,
    SendRefused,
    Sent,
)
from tenure.machines.lease import Owner
from tenure.outbound_records import Behind, Due, Outbound
from tenure.questions import SessionOutbound, UndeliverableOutbound
from tenure.relay.protocol import Found, LoadHead, Look, Route

from ..stores.base import Store
from .fixtures import ManualClock, Opener, Put, asynchronous, executed

__all__ = ["OutboundConformance"]


async def send(store: Store, session: str, *targets: tuple[str, str]) -> None:
    """Send an input to each target, a session and the name of its store, from a session that is opened for it."""
    await store.execute(Open(session))
    acquired = await store.execute(Acquire(session, "l", Owner("w", "w.1"), 60_000))
    assert isinstance(acquired, Acquired)
    sent = [NewOutbound(Admit(to, (NewInput("", "wake", "\u00e9"),)), peer) for to, peer in targets]
    await store.execute(Amend(session, "c", acquired.fence, 0, outbound=tuple(sent)))


async def rows_of(store: Store, session: str) -> tuple[Outbound, ...]:
    return await store.ask(SessionOutbound(session))


class OutboundConformance:
    """A store finds what is to be sent, by its time and by its route."""

    @pytest.fixture
    def opened(self) -> Opener:
        raise NotImplementedError("see StoreConformance")

    @asynchronous
    async def test_what_is_to_be_sent_is_found_by_its_time_and_its_route(
        self, opened: Opener
    ) -> None:
        clock = ManualClock()
        store = opened(clock)
        await send(store, "a", ("t", ""), ("t", ""), ("t", ""), ("u", ""), ("t", "far"))
        await send(store, "b", ("t", ""))
        a, far = Route("a", "t"), Route("a", "t", "far")
        assert (await store.ask(Look(1, "far"))).rows == ((far, 5),)
        assert [n for _, n in (await store.ask(Look(1))).rows] == [1, 2, 3, 4, 1]

        await store.execute(SendFailed("a", 1, "t", 0, "no answer"))
        await store.execute(LineUp("a", "t", (2, 3)))
        until_ms = clock.now_ms + 1_000
        states = [row.state for row in await rows_of(store, "a")]
        assert states[:4] == [Due(until_ms), Behind(), Behind(), Due(0)]
        found = await store.ask(Look(1, wall_ms=clock.now_ms))
        assert found == Found(((Route("a", "u"), 4), (Route("b", "t"), 1)), None, 1_000)
        head = await store.ask(LoadHead(a, clock.now_ms))
        assert head is not None and (head.number, head.wait_ms, head.more) == (1, 1_000, True)

        await store.execute(Sent("a", 1, "t"))
        await store.execute(SendRefused("a", 2, "t", "phase", "INBOX-3", "retired"))
        listed = (await store.ask(UndeliverableOutbound())).items
        assert [(row.session_id, row.number) for row in listed] == [("a", 2)]
        head = await store.ask(LoadHead(a, clock.now_ms))
        assert head is not None and (head.number, head.wait_ms, head.more) == (3, 0, False)
        await store.execute(Resend("a", "again", 2))
        assert [row.number for row in await rows_of(store, "a")] == [3, 4, 5, 6]
        assert (await store.ask(UndeliverableOutbound())).items == ()

    @asynchronous
    async def test_what_a_session_in_quarantine_sends_is_not_found(self, opened: Opener) -> None:
        store = opened(ManualClock())  # STORE-49
        await send(store, "a", ("t", ""), ("u", ""))
        await send(store, "b", ("t", ""))
        await executed(store, Put("a", "d", "x"))
        await executed(store, Put("a", "d", "y", wrong=True))
        aside = [each.session_id for each in await store.quarantined()]
        if not aside:
            pytest.skip("this store puts no session into quarantine")
        assert aside == ["a"]

        found = await store.ask(Look(1))

        assert found == Found(((Route("b", "t"), 1),))
