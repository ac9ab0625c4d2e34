"""A server's backup is restored after later work: check it, fence it off, continue."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from pg_server import Server, backup, needed, server

from tenure.commands import Admit, Begin, Begun, Commit, NewInput, Renew
from tenure.machines.lease import Owner
from tenure.outcome import Refusal, Refused
from tenure.queries import Command
from tenure.records import Input, QueueEntry, Session
from tenure.transcript import NewNode, Role
from tenure_drivers.cli.store.command import store as cli
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.stores.registry import open_store

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
SESSIONS = tuple(f"s{at}" for at in range(6))


def url_of(found: Server) -> str:
    return f"postgresql://tenure@/postgres?host={str(found.data).replace('/', '%2F')}"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(list(words), prog_name="tenure store")
    return int(str(left.value.code or 0))


def admit(session: str, name: str) -> Admit:
    return Admit(session, (NewInput(f"{session}-{name}", "prompt", name),))


async def begun(store: PostgresStore, session: str, name: str) -> Begun:
    answer = await store.execute(Begin(session, f"l-{name}", f"r-{name}", Owner(name, name)))
    assert isinstance(answer, Begun), answer
    return answer


def commit(held: Begun) -> Commit:
    return Commit(
        *(held.fence.session_id, held.fence, held.run_id, held.turn, held.n, held.revision),
        nodes=(NewNode(Role.ASSISTANT, "answered"),),
    )


async def work_before(found: Server) -> dict[str, Begun]:
    """Some sessions are at work when the backup is begun."""
    store = PostgresStore(found.dsn)
    await asyncio.gather(*[store.execute(admit(s, n)) for s in SESSIONS for n in ("a", "b", "c")])
    held = {s: await begun(store, s, f"{s}-before") for s in SESSIONS[:3]}
    await store.aclose()
    return held


async def work_that_is_lost(found: Server, held: dict[str, Begun]) -> list[Command[Any, Any]]:
    """Turns end, others begin, more is admitted; returns what their workers still want to write."""
    store = PostgresStore(found.dsn)
    for each in held.values():
        assert not isinstance(await store.execute(commit(each)), Refused)
    lost = [await begun(store, s, f"{s}-lost") for s in SESSIONS]
    await asyncio.gather(*[store.execute(admit(s, "lost")) for s in SESSIONS])
    await store.aclose()
    return [write for each in lost for write in (Renew(each.fence.session_id, each.fence), commit(each))]  # fmt: skip


async def work_afterwards(found: Server, lost: list[Command[Any, Any]]) -> None:
    store = open_store(url_of(found))
    assert isinstance(store, PostgresStore)
    refused = await asyncio.gather(*[store.execute(command) for command in lost])
    assert {r.reason for r in refused if isinstance(r, Refused)} <= {
        Refusal.FENCED,
        Refusal.UNKNOWN_RUN,
    }
    assert all(isinstance(answer, Refused) for answer in refused)
    granted = {c.fence.generation for c in lost if isinstance(c, Renew)}
    for session in SESSIONS:
        for at in range(3):
            held = await begun(store, session, f"{session}-after-{at}")
            assert held.fence.generation > max(granted)
            assert not isinstance(await store.execute(commit(held)), Refused)
    rows = await store.dump()
    assert {r.input_id for r in rows if isinstance(r, Input)} == {
        f"{s}-{name}" for s in SESSIONS for name in "abc"
    }
    assert {str(r.state.how) for r in rows if isinstance(r, QueueEntry)} == {"consumed"}  # type: ignore[union-attr]
    assert {r.revision for r in rows if isinstance(r, Session)} == {3}
    await store.aclose()


def test_a_restored_backup_is_checked_fenced_off_and_worked_on() -> None:
    needed()
    with server() as first:
        held = asyncio.run(work_before(first))
        with backup(first) as copy:
            lost = asyncio.run(work_that_is_lost(first, held))
            first.stop(signal.SIGQUIT)
            copy.start()

            assert run("check", "--store", url_of(copy)) == 0
            assert run("fence-all", "--store", url_of(copy)) == 0
            assert run("check", "--store", url_of(copy)) == 0
            asyncio.run(work_afterwards(copy, lost))


def test_without_fencing_off_a_holder_of_the_lost_history_may_write() -> None:
    """Why fence-all is needed: the lease that the backup holds is still good for who was ended in what was lost."""
    needed()

    async def ended_but_not_here(copy: Server, held: dict[str, Begun]) -> None:
        store = PostgresStore(copy.dsn)
        for each in held.values():
            assert not isinstance(await store.execute(commit(each)), Refused)
        await store.aclose()

    with server() as first:
        held = asyncio.run(work_before(first))
        with backup(first) as copy:
            asyncio.run(work_that_is_lost(first, held))
            first.stop(signal.SIGQUIT)
            copy.start()
            asyncio.run(ended_but_not_here(copy, held))
