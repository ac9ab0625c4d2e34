"""Methods of a client that read a session, and that edit its transcript.  Spec: specs/reading.md."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from tenure.outcome import Refusal
from tenure.questions import InboxInput, InputEnded, LeafMoved, NodesHidden, Said
from tenure.transcript import NewNode, Role
from tenure_drivers import Client, CommandRefused, Runtime, open_store
from tenure_drivers.agents.echo import echo
from tenure_drivers.stores.memory import MemoryStore


async def said(client: Client) -> list[str]:
    seen = await client.conversation("s")
    assert seen is not None
    return [item.node.body for item in seen.items if isinstance(item, Said)]


def test_a_session_is_read_and_edited() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with Runtime(store, echo) as runtime:
            await runtime.run("s", "one")
            await runtime.run("s", "two")
        client = Client(store)
        first, second = [line.node.node_id for line in await client.transcript("s")]

        await client.amend("s", [NewNode(Role.SYSTEM, "edited")], hide=[second])
        seen = [line.node.body for line in await client.transcript("s")]
        page = await client.transcript_page("s", after=first)
        nodes = [node.node_id async for node in client.nodes("s")]
        hidden = [node async for node in client.nodes("s", hidden=True)]

        assert len(seen) == 2 and seen == await said(client)
        assert page is not None and [line.node.body for line in page.lines] == ["edited"]
        assert second not in nodes and len(hidden) == 3
        assert await client.node("s", second) is None
        assert await client.node("s", second, hidden=True) == hidden[1]
        loaded = await client.session("s")
        assert loaded is not None and loaded.session.revision == 3
        assert await client.conversation("nobody") is None

        await client.submit("s", "three")
        seen_now = await client.conversation("s", limit=1)
        assert seen_now is not None and isinstance(seen_now.items[-1], InboxInput)
        assert seen_now.before is not None
        before = await client.conversation("s", seen_now.before)
        assert before is not None and before.before is None and len(before.items) == 2

    asyncio.run(main())


def test_an_edit_is_refused_while_somebody_works() -> None:
    async def main() -> None:
        client = Client(MemoryStore())
        with pytest.raises(CommandRefused) as refused:
            await client.amend("s", hide=["n"])
        assert refused.value.refused.reason is Refusal.UNKNOWN_SESSION
        await client.submit("s", "one")
        with pytest.raises(CommandRefused) as refused:
            await client.amend("s", hide=["n"])
        assert refused.value.refused.reason is Refusal.UNKNOWN_NODE
        await client.amend("s", [NewNode(Role.USER, "the lease was given back")])

    asyncio.run(main())


def test_changes_are_told_as_they_happen() -> None:
    async def main() -> None:
        store = open_store("memory:")
        async with aclosing(store), Runtime(store, echo) as runtime:
            await runtime.run("s", "one")
            async with aclosing(runtime.settled_changes("s")) as pages:
                page = await anext(pages)
                leaf = next(c.leaf for c in page.changes if isinstance(c, LeafMoved))
                assert leaf is not None
                assert any(isinstance(c, InputEnded) for c in page.changes)
                edit = asyncio.create_task(runtime.amend("s", hide=[leaf]))
                told = await anext(pages)
                assert [c.node_ids for c in told.changes if isinstance(c, NodesHidden)] == [(leaf,)]
                await edit
            async with aclosing(runtime.settled_changes("s", page.after)) as pages:
                assert await anext(pages) == told

    asyncio.run(main())
