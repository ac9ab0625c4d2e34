"""The payload hook: texts of users are sealed in every store, and nothing else changes (STATE-20 to STATE-23)."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from payload_hooks import Cipher
from pg_server import shared
from psycopg.conninfo import conninfo_to_dict

from tenure.commands import (
    Acquire,
    Acquired,
    Amend,
    Begun,
    Checkpoint,
    Commit,
    NewEntry,
    NewState,
    NewTicket,
    ReleaseSession,
    Reseal,
    Switch,
)
from tenure.machines.ticket import Action, TicketKind
from tenure.questions import SealableRows, SealedUpTo
from tenure.records import Blob, EntryKind
from tenure.transcript import NewNode, Role
from tenure.world import World, world_of
from tenure_drivers.cli.store.command import store as command
from tenure_drivers.stores.base import Corrupt, Store, Unavailable
from tenure_drivers.stores.layout import layout_of
from tenure_drivers.stores.payloads import SEALED
from tenure_drivers.stores.postgres.store import drop_schema
from tenure_drivers.stores.registry import open_store
from tenure_drivers.testing.fixtures import ManualClock, begin, prompt

NUMBERS = itertools.count()
WORD = "between-us"


@pytest.fixture(params=("sqlite", "files", pytest.param("postgres", marks=pytest.mark.postgres)))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param != "postgres":
        yield f"{request.param}:{tmp_path / 'here.db'}"
        return
    known, schema = conninfo_to_dict(shared()), f"sealed_{os.getpid()}_{next(NUMBERS)}"
    host = str(known["host"]).replace("/", "%2F")
    found = f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    yield found
    drop_schema(found)


def opened(url: str, hook: Cipher | None) -> Store:
    return open_store(url, clock=ManualClock(), payloads=hook)


async def work(store: Store, word: str = WORD, at: int = 1) -> None:
    """Leave a text in every record that can have one."""
    s = f"s{at}"
    await store.execute(prompt(s, 1, word))
    begun = await store.execute(begin(s, 1))
    assert isinstance(begun, Begun)
    ticket = NewTicket(f"t{at}", "q#1", TicketKind.APPROVAL, word, (Action.APPROVE,))
    entry = NewEntry(EntryKind.REPORT, "e#1", word)
    first = Checkpoint(
        *(s, begun.fence, begun.run_id, 1, 0, (entry,)), environment=word + "!", tickets=(ticket,)
    )
    await store.execute(first)
    said = (NewNode(Role.ASSISTANT, word),)
    commit = Commit(s, begun.fence, begun.run_id, 1, 1, 0, nodes=said, state=word)
    await store.execute(commit)
    acquired = await store.execute(Acquire(s, "a", begin(s, 1).owner))
    assert isinstance(acquired, Acquired)
    switch = Switch("f", options=word)
    states = (NewState("plan", word + "?"),)
    await store.execute(Amend(s, "c", acquired.fence, 1, switch=switch, states=states))
    await store.execute(ReleaseSession(s, acquired.fence))


async def dumped(store: Store) -> World:
    found = world_of(await store.dump())
    await store.aclose()
    return found


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value if isinstance(value, tuple) else ():
        yield from texts(part)
    for name in getattr(value, "__attrs_attrs__", ()):
        yield from texts(getattr(value, name.name))


def test_a_store_with_a_hook_is_like_one_without_it(url: str) -> None:  # STATE-20, STATE-21
    async def run() -> None:
        plain, store = open_store("memory:", clock=ManualClock()), opened(url, Cipher("k1"))
        for each in (plain, store):
            await work(each)
        expected = await dumped(plain)

        assert await dumped(store) == expected
        assert await dumped(opened(url, Cipher("k1"))) == expected
        stored = await dumped(opened(url, None))

        assert not [t for row in stored for t in texts(row) if WORD in t]
        # input, two journal entries, ticket, node, two states and an environment, options
        assert len([t for row in stored for t in texts(row) if t.startswith(SEALED)]) == 9

    asyncio.run(run())


def test_no_file_has_a_text_of_a_user(tmp_path: Path) -> None:
    async def run() -> None:
        for name in ("sqlite", "files"):
            store = opened(f"{name}:{tmp_path / name}", Cipher("k1"))
            await work(store)
            if name == "files":
                await store.snapshot()  # type: ignore[attr-defined]
            await store.aclose()

    asyncio.run(run())

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not [path for path in files if WORD.encode() in path.read_bytes()]


def test_what_was_written_before_there_was_a_hook_is_read(url: str) -> None:  # STATE-22
    async def run() -> None:
        store = opened(url, None)
        await work(store)
        before = await dumped(store)
        store = opened(url, Cipher("k1"))
        await work(store, at=2)
        after = await dumped(store)

        assert set(before) <= set(after)
        assert await dumped(opened(url, Cipher("k2", "k1"))) == after

    asyncio.run(run())


def test_a_hook_that_does_not_work_changes_nothing(url: str) -> None:  # STATE-23
    async def run() -> None:
        hook = Cipher("k1")
        store = opened(url, hook)
        await work(store)
        before = world_of(await store.dump())

        hook.works = False
        with pytest.raises(Unavailable, match="no key server"):
            await store.execute(prompt("s1", 2, "more"))
        hook.works = True

        assert world_of(await store.dump()) == before
        await store.execute(prompt("s1", 2, "more"))
        assert await store.quarantined() == ()
        await store.aclose()

    asyncio.run(run())


def test_nothing_is_sealed_while_the_release_before_is_active() -> None:  # STATE-25
    blob = Blob("s", "d", "text")

    with pytest.raises(Unavailable, match="tenure store activate"):
        layout_of(1, Cipher("k1")).codec(Blob).encode(blob)
    sealed = layout_of(2, Cipher("k1")).codec(Blob).encode(blob)
    read = layout_of(1, Cipher("k1")).codec(Blob).decode(sealed)

    assert read == blob


def test_a_text_of_an_unknown_key_is_corrupt(url: str) -> None:  # STATE-23
    async def run() -> None:
        store = opened(url, Cipher("k1"))
        await work(store)
        await store.aclose()

        with pytest.raises(Corrupt, match="unknown key 'k1'"):
            other = opened(url, Cipher("k2"))
            try:
                await other.dump()
            finally:
                await other.aclose()

    asyncio.run(run())


async def reseal_all(store: Store, session: str) -> int:
    """Write all rows of a session again, and return how many."""
    at: SealedUpTo | None = SealedUpTo()
    count = 0
    while at is not None:
        page = await store.ask(SealableRows(session, at))
        done = await store.execute(Reseal(session, page.rows))
        assert isinstance(done, int)
        count, at = count + done, page.next
    return count


def test_a_key_is_replaced_while_the_store_is_used(url: str) -> None:  # STATE-24
    async def run() -> None:
        store = opened(url, Cipher("k1"))
        await work(store)
        before = await dumped(store)
        store = opened(url, Cipher("k2", "k1"))

        # input, two journal entries, ticket, node, two states and an environment, two frames
        assert await reseal_all(store, "s1") == 10
        assert await dumped(store) == before

        if url.startswith("files:"):  # the log still has what was written before
            store = opened(url, Cipher("k2", "k1"))
            await store.snapshot()  # type: ignore[attr-defined]
            await store.aclose()
        assert await dumped(opened(url, Cipher("k2"))) == before

    asyncio.run(run())


def test_the_command_line_finds_the_hook_in_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            command.main(list(words), prog_name="tenure store")
        out, err = capfd.readouterr()
        return int(str(left.value.code or 0)), out, err

    asyncio.run(worked(url))
    monkeypatch.setenv("TENURE_PAYLOADS", "payload_hooks:Rotated")

    code, _, err = call("reseal", "--store", url)
    assert (code, err.splitlines()[-1]) == (0, "1 session, 10 rows written again")
    exported = call("export", "--store", url)[1]
    monkeypatch.setenv("TENURE_PAYLOADS", "payload_hooks:nothing")
    wrong = call("check", "--store", url)

    assert WORD in exported
    assert wrong[0] == 2 and "payload hook 'payload_hooks:nothing'" in wrong[2]


async def worked(url: str) -> None:
    store = opened(url, Cipher("k1"))
    await work(store)
    await store.aclose()
