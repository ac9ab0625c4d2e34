"""Attachments in the drivers: stored before they are attached, read by who holds them, deleted once nobody does."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from tenure.commands import Intend, NewAttachment, Open, Sweep
from tenure.messages.types import Attachment as MessageAttachment
from tenure.messages.types import Reply, Request
from tenure.outcome import Decided
from tenure.questions import HeldAttachments, SessionAttachments
from tenure.records import Attached, Attachment, Intent, Scrap
from tenure.retention import Retention
from tenure_drivers import ChatAgent, Client, Runtime
from tenure_drivers.blobs.base import digest_of
from tenure_drivers.blobs.folder import FolderStore
from tenure_drivers.runtime import attachments
from tenure_drivers.runtime.attachments import NoBlobStore, ScrapCollector, attachment_id_of
from tenure_drivers.runtime.errors import CommandRefused
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.base import Unavailable
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.testing.fixtures import ManualClock

PICTURE = b"a picture"
DIGEST, SIZE = digest_of(PICTURE)


class Killed(BaseException):
    """Stands for the end of the process."""


async def rows(store: MemoryStore, session_id: str = "s") -> dict[str, Attachment]:
    found = await store.ask(SessionAttachments(session_id))
    return {row.attachment_id: row for row in found}


async def stored(blobs: FolderStore, session_id: str = "s") -> set[str]:
    return {digest async for digest in blobs.digests(session_id)}


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.005)


def run(tmp_path: Path, body: Any) -> None:
    async def main() -> None:
        store, blobs = MemoryStore(), FolderStore(tmp_path / "bytes")
        try:
            await body(store, blobs)
        finally:
            await store.aclose()
            await blobs.aclose()

    asyncio.run(main())


def test_a_turn_attaches_what_it_has_stored(tmp_path: Path) -> None:  # ATTACH-50
    async def agent(turn: Turn) -> str:
        made = await turn.attach(PICTURE, "image/png", "a.png")
        assert await turn.attachment(made.uri) == PICTURE
        return made.uri

    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        async with Runtime(store, agent, blobs=blobs) as runtime:
            uri = await runtime.run("s", "draw", 20)
            assert uri is not None
            (row,) = (await rows(store)).values()
            assert row.attachment_id == attachment_id_of(uri)
            assert (row.digest, row.size, row.media_type) == (DIGEST, SIZE, "image/png")
            assert isinstance(row.state, Attached)
            assert await runtime.attachment("s", uri) == PICTURE
            assert await runtime.attachment("t", uri) is None  # ATTACH-52

    run(tmp_path, body)


def test_a_turn_that_is_entered_again_stores_nothing_again(tmp_path: Path) -> None:
    attempts: list[str] = []

    async def agent(turn: Turn) -> str:
        made = await turn.attach(tmp_path / "file", "text/plain")
        attempts.append(made.uri)
        if len(attempts) == 1:
            (tmp_path / "file").unlink()  # so it cannot be read again
            raise RuntimeError("once more")
        return made.uri

    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        (tmp_path / "file").write_bytes(PICTURE)
        async with Runtime(store, agent, blobs=blobs) as runtime:
            uri = await runtime.run("s", "draw", 20)
            assert attempts == [uri, uri]
            assert len(await rows(store)) == 1

    run(tmp_path, body)


def test_what_a_turn_has_not_attached_is_deleted(tmp_path: Path) -> None:  # ATTACH-53
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        put = blobs.put

        async def cut(session_id: str, digest: str, data: bytes | Path) -> None:
            await put(session_id, digest, data)
            raise OSError("the connection was cut after the bytes had arrived")

        blobs.put = cut  # type: ignore[method-assign]

        async def agent(turn: Turn) -> str:
            with pytest.raises(OSError, match="cut"):
                await turn.attach(PICTURE, "image/png")
            return "without a picture"

        async with Runtime(store, agent, blobs=blobs) as runtime:
            assert await runtime.run("s", "draw", 20) == "without a picture"
            assert runtime._collector is not None

            async def gone() -> bool:
                assert runtime._collector is not None
                runtime._collector.notice()
                return not await rows(store) and not await stored(blobs)

            await until(gone)

    run(tmp_path, body)


def test_a_client_stores_reads_and_forgets(tmp_path: Path) -> None:
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        client = Client(store, blobs=blobs)
        one = await client.attach("s", PICTURE, "image/png", attachment_id="one")
        again = await client.attach("s", PICTURE, "image/png", attachment_id="one")
        two = await client.attach("s", PICTURE, "image/jpeg")
        assert one == again == MessageAttachment("attachment:one", "image/png")
        with pytest.raises(CommandRefused, match="key_conflict"):
            await client.attach("s", b"another", "image/png", attachment_id="one")
        found = await rows(store)
        assert {type(row.state) for row in found.values()} == {Intent}
        collector = ScrapCollector(client, blobs)

        await client.forget("s", one.uri)
        assert await client.attachment("s", one.uri) is None
        assert await collector.collect_all() == 1
        assert await client.attachment("s", two.uri) == PICTURE  # it has the same bytes

        await client.forget("s", two.uri)
        assert await collector.collect_all() == 1
        assert (await rows(store), await stored(blobs)) == ({}, set())

    run(tmp_path, body)


def test_erasing_a_session_deletes_its_bytes(tmp_path: Path) -> None:  # ATTACH-23
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        client = Client(store, blobs=blobs)
        await client.attach("s", PICTURE, "image/png")
        kept = await client.attach("t", PICTURE, "image/png")
        await blobs.put("s", digest_of(b"late")[0], b"late")  # of an upload that has aged

        await client.erase("s")

        assert (await rows(store), await stored(blobs)) == ({}, set())
        assert await client.attachment("t", kept.uri) == PICTURE

    run(tmp_path, body)


def test_without_a_store_of_bytes_there_are_no_attachments(tmp_path: Path) -> None:
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        with pytest.raises(NoBlobStore):
            await Client(store).attach("s", PICTURE, "image/png")

    run(tmp_path, body)


@pytest.mark.parametrize("at", ["claimed", "deleted"])
def test_who_is_killed_while_it_deletes_leaves_a_debt(tmp_path: Path, at: str) -> None:  # ATTACH-51
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        client = Client(store, blobs=blobs)
        made = await client.attach("s", PICTURE, "image/png", attachment_id="one")
        await client.forget("s", made.uri)
        delete = blobs.delete

        async def killed(session_id: str, digest: str) -> None:
            if at == "deleted":
                await delete(session_id, digest)
            raise Killed

        blobs.delete = killed  # type: ignore[method-assign]
        with pytest.raises(Killed):
            await ScrapCollector(client, blobs).collect("s")
        blobs.delete = delete  # type: ignore[method-assign]

        (row,) = (await rows(store)).values()
        assert isinstance(row.state, Scrap) and row.state.claim_id is not None
        new = NewAttachment("two", DIGEST, SIZE, "image/png")
        refused = await store.decide(Intend("s", (new,)))
        assert not isinstance(refused, Decided) and refused.reason.value == "deleting"
        assert await ScrapCollector(client, blobs).collect("s") == 0  # the claim still holds

    run(tmp_path, body)


def test_a_claim_that_has_run_out_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        now = 1_000_000_000_000
        store, blobs = MemoryStore(clock=lambda: now), FolderStore(tmp_path / "bytes")
        monkeypatch.setattr(attachments, "wall_clock_ms", lambda: now)
        client = Client(store, blobs=blobs)
        made = await client.attach("s", PICTURE, "image/png")
        await client.forget("s", made.uri)
        delete = blobs.delete

        async def away(session_id: str, digest: str) -> None:
            raise Unavailable("the store of bytes is away")

        blobs.delete = away  # type: ignore[method-assign]
        collector = ScrapCollector(client, blobs)
        with pytest.raises(Unavailable):
            await collector.collect_all()
        blobs.delete = delete  # type: ignore[method-assign]
        storing = asyncio.create_task(client.attach("s", PICTURE, "image/jpeg"))
        await asyncio.sleep(0.1)
        assert not storing.done()  # ATTACH-8

        now += 300_001
        again = await asyncio.wait_for(storing, 20)

        assert await client.attachment("s", again.uri) == PICTURE
        assert [row.media_type for row in (await rows(store)).values()] == ["image/jpeg"]
        await store.aclose()

    asyncio.run(main())


class Model:
    """A model that notes the requests and answers in one word."""

    model = "noting"

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def complete(self, request: Request, emit: Any, key: str) -> Any:
        self.requests.append(request)
        return Reply("seen")


def test_a_chat_agent_sends_attachments_by_reference(tmp_path: Path) -> None:
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        model = Model()
        async with Runtime(store, ChatAgent(model), blobs=blobs) as runtime:
            made = await runtime.attach("s", PICTURE, "image/png", "a.png")
            await runtime.run("s", "what is this?", 20, attachments=[made])

            (shown,) = model.requests[0].messages[-1].attachments
            encoded = base64.b64encode(PICTURE).decode()
            assert shown == MessageAttachment(
                f"data:image/png;base64,{encoded}", "image/png", "a.png"
            )
            (row,) = (await rows(store)).values()
            assert isinstance(row.state, Attached)
            held = await store.ask(HeldAttachments("s", (row.attachment_id, "another")))
            assert held == (row,)

            await runtime.forget("s", made.uri)
            await runtime.run("s", "and now?", 20)
            first = model.requests[1].messages[0]
            assert first.attachments == () and "a.png: not stored any more" in first.text

    run(tmp_path, body)


def test_a_prompt_has_at_most_eight_attachments(tmp_path: Path) -> None:
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        many = [MessageAttachment(f"attachment:{n}", "image/png") for n in range(9)]
        with pytest.raises(ValueError, match="at most 8"):
            await Client(store, blobs=blobs).submit("s", "look", attachments=many)

    run(tmp_path, body)


@pytest.mark.parametrize("erased", [True, False])
def test_a_destroyed_session_that_is_erased_or_removed_lets_go_of_its_bytes(
    tmp_path: Path, erased: bool
) -> None:  # ATTACH-23
    clock = ManualClock()

    async def body() -> None:
        store, blobs = MemoryStore(clock=clock), FolderStore(tmp_path / "bytes")
        client = Client(store, blobs=blobs)
        await client.submit("s", "hello")
        attached = await client.attach("s", PICTURE, "image/png")
        named = attachment_id_of(attached.uri)
        assert named is not None
        assert await client.attachment("s", named) == PICTURE

        if erased:
            await client.erase("s")
        else:
            await client.destroy("s")
            await store.execute(Sweep("s"))
            await client.prune("s", Retention(destroyed_for_ms=10))
            assert await client.attachment("s", named) == PICTURE
            clock.now_ms += 11
            await client.prune("s", Retention(destroyed_for_ms=10))
            assert isinstance((await rows(store))[named].state, Scrap)

        assert await client.attachment("s", named) is None
        await ScrapCollector(client, blobs).collect_all()
        assert await rows(store) == {} and await stored(blobs) == set()
        assert not [row for row in await store.dump() if isinstance(row, Attachment)]
        await store.aclose()

    asyncio.run(body())


def test_an_amend_attaches_and_forgets(tmp_path: Path) -> None:
    async def body(store: MemoryStore, blobs: FolderStore) -> None:
        client = Client(store, blobs=blobs)
        await client.execute(Open("s"))
        attached = await client.attach("s", PICTURE, "image/png")
        name = attachment_id_of(attached.uri) or ""
        assert isinstance((await rows(store))[name].state, Intent)

        await client.amend("s", attach=[name])
        assert isinstance((await rows(store))[name].state, Attached)

        await client.amend("s", forget=[name])
        assert isinstance((await rows(store))[name].state, Scrap)

    run(tmp_path, body)
