"""The PostgreSQL store under faults: locks, stopped processes, lost connections, restarts, poolers."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from files_open import a_thousand_files
from paths import SUPPORT
from pg_proxy import Proxy
from pg_server import drop, needed, server, shared
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tenure.commands import Admit, Begin, Begun, NewInput, NothingDue
from tenure.machines.lease import Owner
from tenure.outcome import Hint, Refusal, Refused
from tenure.queries import Command
from tenure.questions import core as questions
from tenure.questions.core import LoadOverview
from tenure.questions.feed import FROM_THE_BEGINNING, LIFETIME_MS, SHORT_MS, FeedPosition
from tenure.records import Input, QueueEntry, Session
from tenure.release import RELEASE
from tenure.worker.protocol import HeldLeases
from tenure.world import EMPTY, world_of
from tenure_drivers.stores.base import (
    Corrupt,
    Inconsistent,
    OutcomeUnknown,
    SchemaTooNew,
    Unavailable,
    Unusable,
    wall_clock_ms,
)
from tenure_drivers.stores.layout import layout_of
from tenure_drivers.stores.postgres import pipeline as postgres_pipeline
from tenure_drivers.stores.postgres import writer as postgres_writer
from tenure_drivers.stores.postgres.connection import StoreConnection
from tenure_drivers.stores.postgres.notify import hints_of, payloads
from tenure_drivers.stores.postgres.schema import creating
from tenure_drivers.stores.postgres.sql import Sql, Texts
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.stores.registry import open_store
from tenure_drivers.stores.url import redact
from tenure_drivers.testing.command_generator import SESSIONS, CommandGenerator
from tenure_drivers.testing.conformance import StoreConformance
from tenure_drivers.testing.fixtures import (
    Explode,
    ManualClock,
    Put,
    asynchronous,
    decided,
    executed,
    in_turn,
    prompt,
)

pytestmark = pytest.mark.postgres

NUMBERS = itertools.count()
CHILD = SUPPORT / "postgres_child.py"


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"hard_{os.getpid()}_{next(NUMBERS)}"
    dsn = shared()
    yield name
    drop(dsn, name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket, readable for the user that the server runs as."""
    with tempfile.TemporaryDirectory(prefix="pgx", dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def store_of(schema: str, dsn: str | None = None, **options: Any) -> PostgresStore:
    return PostgresStore(dsn or shared(), schema=schema, **options)


def child(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), *map(str, words)], stdout=subprocess.PIPE, text=True
    )


def begin(session: str, at: int, ttl_ms: int = 30_000, owner: str = "w") -> Begin:
    return Begin(session, f"lease-{owner}-{at}", f"run-{at}", Owner(owner, owner), ttl_ms)


async def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        await asyncio.sleep(0.01)


async def insist(store: PostgresStore, command: Any) -> Any:
    """Execute a command as a host does: again after Unavailable and OutcomeUnknown."""
    while True:
        try:
            return await store.execute(command)
        except (Unavailable, OutcomeUnknown):
            await asyncio.sleep(0.02)


def defaulting_to(isolation: str) -> str:
    given = "-c default_transaction_isolation=" + isolation.replace(" ", r"\ ")
    return make_conninfo(shared(), options=given)


async def until_locked(connection: psycopg.Connection[Any]) -> None:
    text = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
    async with await psycopg.AsyncConnection.connect(shared(), autocommit=True) as looking:
        while True:
            found = await looking.execute(text, (connection.info.backend_pid,))
            if await found.fetchone() != (0,):
                return
            await asyncio.sleep(0.01)


def transactions(connection: psycopg.Connection[Any]) -> int:
    """Return the number of transactions so far that have written or locked something."""
    row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return int(row[0])


# -- time and locks


@pytest.mark.parametrize("default", ("repeatable read", "serializable"))
def test_a_server_may_default_to_another_isolation(schema: str, default: str) -> None:
    """Reads must see the rows as they are after the lock (STORE-34), or busy sessions fail repeatedly."""
    dsn = defaulting_to(default)
    stores: list[PostgresStore] = []

    def opened(clock: Any) -> PostgresStore:
        stores.append(store_of(schema, dsn, clock=clock))
        return stores[-1]

    StoreConformance().test_two_writers_lose_nothing(opened, made=True)
    for store in stores:
        store.close()


@asynchronous
async def hold_and_begin(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_writer, "LOCK_MS", 5_000)
    store = store_of(schema)
    await store.execute(prompt("s", 1))
    first = await store.execute(begin("s", 1, ttl_ms=200, owner="a"))
    assert isinstance(first, Begun)

    with psycopg.connect(shared()) as other:
        other.execute(f'SELECT * FROM "{schema}".session FOR UPDATE'.encode())
        waiting = asyncio.ensure_future(store.execute(begin("s", 2, ttl_ms=200, owner="b")))
        await asyncio.sleep(0.6)
        assert not waiting.done()
        let_go_ms = await store.now_ms()
    second = await waiting

    assert isinstance(second, NothingDue), (
        second
    )  # it ended the lease and counted a loss; the run waits
    assert second.due_at_ms is not None and second.due_at_ms > let_go_ms
    await store.aclose()


def test_the_clock_is_read_after_the_lock(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_and_begin(schema, monkeypatch)  # STORE-10


@asynchronous
async def test_a_locked_session_does_not_delay_other_sessions(schema: str) -> None:
    store = store_of(schema)
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "xyz"])

    with psycopg.connect(shared()) as other:
        other.execute(
            f"SELECT * FROM \"{schema}\".session WHERE session_id = 'x' FOR UPDATE".encode()
        )
        held = [asyncio.ensure_future(store.execute(prompt("x", at))) for at in (2, 3)]
        began = time.monotonic()
        for at in range(2, 30):
            await asyncio.gather(*[store.execute(prompt(s, at)) for s in "yz"])
        taken = time.monotonic() - began
        assert not any(task.done() for task in held)
    await asyncio.gather(*held)

    assert taken < 3
    ranks = {r.input_id: r.seq for r in await store.dump() if isinstance(r, QueueEntry)}
    assert ranks["x-1"] < ranks["x-2"] < ranks["x-3"]
    await store.aclose()


@asynchronous
async def test_a_locked_row_delays_only_its_session_and_not_the_groups(
    schema: str,
) -> None:
    store = store_of(schema)
    await asyncio.gather(*[store.execute(Put(s, "d", "0")) for s in "abcdefgh"])

    with psycopg.connect(shared()) as other, psycopg.connect(shared(), autocommit=True) as asking:
        other.execute(f"SELECT * FROM \"{schema}\".blob WHERE session_id = 'a' FOR UPDATE".encode())
        waiting = [asyncio.ensure_future(store.execute(Put("a", "d", body))) for body in "12"]
        first = transactions(asking)
        for at in range(30):
            await asyncio.gather(*[store.execute(Put(s, "d", str(at))) for s in "bcdefgh"])
        assert (
            transactions(asking) - first < 30 * 7 / 2
        )  # the other sessions still share transactions
        assert not any(one.done() for one in waiting)
    assert await asyncio.gather(*waiting) == ["0", "1"]
    await store.aclose()


@asynchronous
async def test_large_commands_are_split_into_groups_and_fail_no_neighbour(schema: str) -> None:
    """STORE-44."""
    store = store_of(schema)
    await store.execute(prompt("s", 0))
    before = store.group.groups
    texts = ["x" * 3_000_000 if at % 4 else "small" for at in range(16)]

    answers = await asyncio.gather(
        *[store.execute(prompt(f"s{i}", 1, t)) for i, t in enumerate(texts)]
    )

    assert not any(isinstance(answer, Refused) for answer in answers)
    assert store.group.groups - before == 6  # two large ones in each
    await store.aclose()


@asynchronous
async def test_a_large_command_has_more_time_in_its_transaction(schema: str) -> None:
    """STORE-34."""
    store = store_of(schema, idle_ms=700)
    large = Admit("s", tuple([NewInput(f"i{n}", "prompt", "x" * 5_000_000) for n in range(4)]))

    assert store._writer._limits_for([prompt("s", 1)])[1][-1] == "700"
    assert store._writer._limits_for([large])[1][-1] == "10700"
    assert not isinstance(await store.execute(large), Refused)
    await store.aclose()


def test_groups_of_two_processes_in_opposite_orders_do_not_deadlock(schema: str) -> None:
    store_of(schema).close()
    names = ("x", "y", "z")

    one = child("groups", shared(), schema, "one", 60, *names)
    two = child("groups", shared(), schema, "two", 60, *names[::-1])

    assert [one.communicate(timeout=60)[0], two.communicate(timeout=60)[0]] == ["done\n"] * 2
    with psycopg.connect(shared()) as looking:
        found = looking.execute(
            f'SELECT session_id, count(*), count(DISTINCT seq) FROM "{schema}".queue_entry '
            "GROUP BY 1 ORDER BY 1".encode()
        ).fetchall()
    assert found == [(name, 120, 120) for name in names]


@asynchronous
async def test_a_process_stopped_inside_a_transaction_frees_its_sessions(schema: str) -> None:
    store = store_of(schema)
    await store.execute(prompt("s", 1))
    stopped = child("stopped", shared(), schema, "s")
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "locked\n"
    try:
        began = time.monotonic()
        assert not isinstance(await store.execute(prompt("s", 2)), Refused)
        taken = time.monotonic() - began
    finally:
        stopped.send_signal(signal.SIGCONT)

    assert 0.2 < taken < 8
    assert "s-99" in (await asyncio.to_thread(stopped.communicate, timeout=30))[0]
    inputs = [r.input_id for r in await store.dump() if isinstance(r, Input)]
    assert sorted(inputs) == ["s-1", "s-2", "s-99"]
    await store.aclose()


@asynchronous
async def test_two_processes_may_create_the_same_sessions_at_once(schema: str) -> None:
    one, two = store_of(schema), store_of(schema)

    commands = [(store, Admit(f"s{n}", (NewInput(f"{name}-{n}", "prompt", "x"),)))
                for n in range(50) for name, store in (("one", one), ("two", two))]  # fmt: skip
    answers = await asyncio.gather(*[store.execute(command) for store, command in commands])

    assert not any(isinstance(answer, Refused) for answer in answers)
    found = await one.dump()
    assert len([r for r in found if isinstance(r, Session)]) == 50
    assert len([r for r in found if isinstance(r, Input)]) == 100
    positions = [(r.session_id, r.seq) for r in found if isinstance(r, QueueEntry)]
    assert len(set(positions)) == 100
    await one.aclose()
    await two.aclose()


# -- connections


@pytest.mark.parametrize("when", ("before the first", "between the rounds"))
def test_a_command_is_retried_after_a_connection_lost_before_the_commit(
    schema: str, when: str
) -> None:
    @asynchronous
    async def run() -> None:
        store = store_of(schema)
        await store.execute(prompt("s", 1))
        link = store._writer.connection
        real, rounds = link.run, 0

        def run_killed(statements: Any) -> Any:
            nonlocal rounds
            rounds += 1
            if rounds == (1 if when == "before the first" else 2):
                pid = link.raw.info.backend_pid
                with psycopg.connect(shared()) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", (pid,))
                time.sleep(0.1)
            return real(statements)

        link.run = run_killed  # type: ignore[method-assign]

        try:
            await store.execute(prompt("s", 2))
        except OutcomeUnknown:  # it was sent with the commit
            assert when == "between the rounds"
            await store.execute(prompt("s", 2))

        assert sorted(r.input_id for r in await store.dump() if isinstance(r, Input)) == [
            "s-1",
            "s-2",
        ]
        await store.aclose()

    run()


@pytest.mark.parametrize("how", ("before", "after"))
def test_a_retry_resolves_the_unknown_outcome_of_a_connection_lost_in_the_commit(
    schema: str, how: str, folder: Path
) -> None:
    @asynchronous
    async def run() -> None:
        known = conninfo_to_dict(shared())
        if not str(known.get("host", "")).startswith("/"):
            pytest.skip("the server is not on this machine")
        proxy = Proxy(str(known["host"]), folder)
        dsn = make_conninfo(shared(), host=str(folder))
        store = store_of(schema, dsn, prepare=False)
        await store.execute(prompt("s", 1))

        proxy.cut = how
        commands = [prompt("s", 2), prompt("t", 1)]
        lost = await asyncio.gather(*[store.execute(c) for c in commands], return_exceptions=True)
        answers = [await store.decide(command) for command in commands]

        assert proxy.cuts == 1
        assert [type(error) for error in lost] == [OutcomeUnknown] * 2
        assert [getattr(a, "replayed", None) for a in answers] == [how == "after"] * 2
        await store.aclose()
        proxy.close()

    run()  # STORE-12


@asynchronous
async def test_nothing_is_lost_when_the_server_crashes_under_load() -> None:
    needed()
    with server() as found:
        store = PostgresStore(found.dsn)
        over = False
        told: list[str] = []

        async def load(name: str) -> None:
            for at in itertools.count():
                if over:
                    return
                await insist(store, prompt(name, at))
                told.append(f"{name}-{at}")

        loads = [asyncio.ensure_future(load(f"s{n}")) for n in range(16)]
        for _ in range(3):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(found.stop, signal.SIGQUIT)
            await asyncio.to_thread(found.start)
        await asyncio.sleep(0.2)
        over = True
        await asyncio.gather(*loads)

        records = await store.dump()
        await store.aclose()
    assert sorted(r.input_id for r in records if isinstance(r, Input)) == sorted(told)
    assert len(told) > 50
    for session in [r for r in records if isinstance(r, Session)]:
        numbers = sorted(
            r.seq
            for r in records
            if isinstance(r, QueueEntry) and r.session_id == session.session_id
        )
        assert numbers == list(range(numbers[0], session.next_event))


@asynchronous
async def test_an_unreachable_server_makes_a_store_unavailable() -> None:
    needed()
    with server() as found:
        store = PostgresStore(found.dsn)
        await store.execute(prompt("s", 1))
        found.stop()
        with pytest.raises(Unavailable):
            await store.execute(prompt("s", 2))
        with pytest.raises(Unavailable):
            await store.due(1)
        found.start()

        await insist(store, prompt("s", 2))
        assert len(await store.due(5)) == 1
        await store.aclose()
    with pytest.raises(Unavailable):
        PostgresStore(found.dsn)


@asynchronous
async def test_a_commit_that_is_never_confirmed_is_unknown(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed()
    with server() as found:
        store = PostgresStore(found.dsn, schema=schema)
        await store.execute(prompt("s", 1))
        with psycopg.connect(found.dsn, autocommit=True) as other:
            other.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            other.execute("SELECT pg_reload_conf()")
            monkeypatch.setattr(postgres_pipeline, "ANSWER_S", 0.5)
            await asyncio.sleep(0.2)
            with pytest.raises(OutcomeUnknown):
                await store.execute(prompt("s", 2))

            monkeypatch.setattr(postgres_pipeline, "ANSWER_S", 60.0)
            waiting = asyncio.ensure_future(store.execute(prompt("t", 1)))
            await asyncio.sleep(0.5)
            other.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
            with pytest.raises(OutcomeUnknown, match="synchronous"):
                await waiting
            other.execute("ALTER SYSTEM RESET synchronous_standby_names")
            other.execute("SELECT pg_reload_conf()")
        for command in (prompt("s", 2), prompt("t", 1)):
            assert (await insist(store, command)).admissions
        await store.aclose()


@asynchronous
async def test_a_store_opens_few_connections(schema: str) -> None:
    store = store_of(schema, make_conninfo(shared(), application_name=schema))
    store.hints()
    await asyncio.gather(*[store.execute(prompt(f"s{n}", 1)) for n in range(100)])
    await asyncio.gather(*[store.due(3) for _ in range(50)])

    with psycopg.connect(shared()) as other:
        (count,) = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (schema,)
        ).fetchone() or (0,)

    assert count <= 5
    await store.aclose()


# -- schema


@pytest.mark.parametrize("default", ("read committed", "serializable"))
def test_many_processes_may_create_the_schema_at_once(schema: str, default: str) -> None:
    dsn = defaulting_to(default)
    errors: list[BaseException] = []

    def open_one() -> None:
        try:
            store_of(schema, dsn).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_a_store_can_be_opened_in_a_process_with_a_thousand_open_files(schema: str) -> None:
    with a_thousand_files():
        store = store_of(schema)
        store.execute_now(prompt("s", 1))
        store.close()


def test_a_newer_schema_is_refused(schema: str) -> None:
    store_of(schema).close()
    with psycopg.connect(shared()) as other:
        other.execute(f'UPDATE "{schema}".tenure_schema SET version = 99'.encode())

    with pytest.raises(SchemaTooNew, match="99"):
        store_of(schema)


def test_a_schema_is_not_created_without_create(schema: str) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        store_of(schema, create=False)


@pytest.mark.parametrize("name", ('Mixed "quotes" {}', "it's", "\u00e9\u4e2d"))
def test_a_schema_may_have_any_name(name: str) -> None:
    @asynchronous
    async def run() -> None:
        store = store_of(name)
        hints = store.hints()
        store._notifier.listening(10)
        await store.execute(prompt("s", 1))
        assert await asyncio.wait_for(anext(hints), 10) == Hint("s", 0)
        assert len(await store.due(5)) == 1
        await store.aclose()

    try:
        run()
    finally:
        drop(shared(), name.replace('"', '""'))


@pytest.mark.parametrize("name", ("", "x" * 57, "a\0b", "100%"))
def test_an_invalid_schema_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        PostgresStore("host=nowhere", schema=name)


@asynchronous
async def test_an_unreadable_row_puts_only_its_session_into_quarantine(
    schema: str,
) -> None:
    store = store_of(schema)
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "abc"])
    with psycopg.connect(shared()) as other:
        other.execute(
            f"UPDATE \"{schema}\".session SET phase = 'nonsense' WHERE session_id = 'b'".encode()
        )

    answers = await asyncio.gather(
        *[store.execute(prompt(s, 2)) for s in "abc"], return_exceptions=True
    )

    assert [isinstance(answer, Corrupt) for answer in answers] == [False, True, False]
    assert {due.session_id for due in await store.due(9)} == {"a", "c"}
    assert [q.session_id for q in await store.quarantined()] == ["b"]
    with psycopg.connect(shared()) as other:
        other.execute(f"UPDATE \"{schema}\".session SET phase = 'open'".encode())
    await store.readmit("b\0")
    assert [q.session_id for q in await store.quarantined()] == ["b"]
    await store.readmit("b")
    assert {due.session_id for due in await store.due(9)} == {"a", "b", "c"}
    await store.aclose()


@asynchronous
async def test_a_session_whose_rows_do_not_fit_together_is_put_into_quarantine(schema: str) -> None:
    store = store_of(schema)
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "abcd"])
    with psycopg.connect(shared()) as other:
        other.execute(
            f"UPDATE \"{schema}\".session SET generation = {2**63 - 1} WHERE session_id = 'b'".encode()
        )
    commands: list[Command[Any, Any]] = [begin("a", 1), begin("b", 1), Explode("c")]

    answers = await asyncio.gather(
        *[store.execute(command) for command in commands], return_exceptions=True
    )

    assert [isinstance(answer, Inconsistent) for answer in answers] == [False, True, True]
    assert {q.session_id for q in await store.quarantined()} == {"b", "c"}
    assert [due.session_id for due in await store.due(9)] == ["d"]
    await store.aclose()


@asynchronous
async def test_a_lease_that_cannot_be_read_is_found_once(schema: str) -> None:  # STORE-49
    store = store_of(schema)
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "abc"])
    await asyncio.gather(*[store.execute(begin(s, 1)) for s in "abc"])
    with psycopg.connect(shared()) as other:
        other.execute(
            f"UPDATE \"{schema}\".session SET phase = 'nonsense' WHERE session_id = 'b'".encode()
        )

    with pytest.raises(Corrupt, match="nonsense"):
        await store.ask(HeldLeases())

    assert {session.session_id for session in await store.ask(HeldLeases())} == {"a", "c"}
    await store.aclose()


@asynchronous
async def test_a_trigger_that_refuses_a_write_makes_the_store_unusable(schema: str) -> None:
    store = store_of(schema)
    await store.execute(prompt("a", 1))
    with psycopg.connect(shared()) as other:
        other.execute(
            f"CREATE FUNCTION \"{schema}\".no() RETURNS trigger AS $$BEGIN RAISE EXCEPTION 'not here'; "
            f'END$$ LANGUAGE plpgsql; CREATE TRIGGER t BEFORE INSERT ON "{schema}".run '
            f'FOR EACH ROW EXECUTE FUNCTION "{schema}".no()'.encode()
        )

    with pytest.raises(Unusable, match="a trigger refuses a write: not here"):
        await store.execute(begin("a", 1))

    assert await store.quarantined() == ()
    await store.aclose()


@asynchronous
async def test_a_reader_that_may_not_write_the_quarantine_raises_corrupt(schema: str) -> None:
    writer = store_of(schema)
    await writer.execute(prompt("s", 1))
    with psycopg.connect(shared()) as other:
        other.execute(f"UPDATE \"{schema}\".session SET phase = 'nonsense'".encode())
    reader = store_of(
        schema, make_conninfo(shared(), options="-c default_transaction_read_only=on"), create=False
    )

    with pytest.raises(Corrupt):
        await reader.ask(LoadOverview("s"))
    assert await reader.quarantined() == ()
    await reader.aclose()
    await writer.aclose()


# -- statements that the server receives

NAMES_SESSIONS = re.compile(
    r"WHERE session_id = ANY\(%b|s\.session_id = q\.i"  # locks
    r'|t\."session_id" = q\.[kc]\d|"session_id" = q\.p0'  # by key, by index
    r'|^INSERT INTO \S+ \("session_id"'
    r"|^INSERT INTO \S+quarantine"
)
OF_NOBODY = re.compile(r"^(BEGIN|COMMIT|ROLLBACK|SELECT set_config|SELECT \(extract)")


@asynchronous
async def test_every_statement_of_a_decision_names_its_sessions(schema: str) -> None:
    store, watch, dice = store_of(schema), ManualClock(), random.Random(1)
    client, link, said = CommandGenerator(dice.choice), store._writer.connection, dict[str, Any]()
    real = link.run

    def listen(statements: Any) -> Any:
        said.update(statements)
        for text, values in statements:
            if not OF_NOBODY.search(text):
                assert NAMES_SESSIONS.search(text), text
                ids = next((v for v in values if isinstance(v, Texts)), Texts(values[:1]))
                assert set(ids) <= set(SESSIONS), (text, values)
        return real(statements)

    link.run = listen  # type: ignore[method-assign]
    for _ in range(300):
        watch.now_ms += 40
        group = client.send_some(watch.now_ms)
        for command, answer in zip(
            group, await asyncio.gather(*[executed(store, c) for c in group]), strict=True
        ):
            client.observe(command, answer)

    words = {text.split()[0] for text in said}
    assert words >= {"SELECT", "INSERT", "WITH", "DELETE"}
    await store.aclose()


@asynchronous
async def test_a_decision_is_planned_once_with_an_index_and_any_statistics(
    schema: str,
) -> None:
    """STORE-40: the planner would scan tables as small as these, and plan again at every call."""
    store, watch, client = (
        store_of(schema),
        ManualClock(),
        CommandGenerator(random.Random(5).choice),
    )
    count = (
        f"SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE schemaname = '{schema}' "
        "AND relname <> 'tenure_schema'"  # which has one row
    )

    async def work(groups: int) -> None:
        for _ in range(groups):
            watch.now_ms += 40
            group = client.send_some(watch.now_ms)
            answers = await asyncio.gather(*[executed(store, command) for command in group])
            for command, answer in zip(group, answers, strict=True):
                client.observe(command, answer)

    await work(20)
    flush = "SELECT pg_stat_force_next_flush()"
    if store._writer.connection.raw.info.server_version < 150_000:
        pytest.skip("this server cannot be told to write its statistics")
    with psycopg.connect(shared(), autocommit=True) as looker:
        looker.execute("ANALYZE")
        store._writer.connection.run([(flush, ())])
        before = looker.execute(count.encode()).fetchone()
        await work(40)
        read = 0
        for session in SESSIONS:
            await store.ask(LoadOverview(session))
            lines = await store.ask(questions.LoadTranscript(session))
            read += len(lines)
        for link in (store._writer.connection, *store._connections):
            link.run([(flush, ())])
        assert read > 0
        looker.execute("SELECT pg_stat_clear_snapshot()")
        assert looker.execute(count.encode()).fetchone() == before
    planned = (
        "SELECT sum(custom_plans)::bigint, sum(generic_plans)::bigint FROM pg_prepared_statements"
    )
    custom, generic = store._writer.connection.run([(planned, ())])[0][0][0]
    assert generic > 200 and custom < generic / 20, (custom, generic)
    await store.aclose()


@asynchronous
async def test_tables_may_be_partitioned_by_session_id(schema: str) -> None:
    """STORE-36: a decision reads and writes one shard."""
    store_of(schema).close()
    other = StoreConnection(shared(), Sql(f"{schema}_p", layout_of(RELEASE)))
    lines = creating(other)
    other.close()
    with psycopg.connect(shared()) as owner:
        for line in lines:
            table = re.match(r'CREATE TABLE (\S+)\."(\w+)"', line)
            by_session = table is not None and table[2] not in ("tenure_schema", "quarantine")
            owner.execute(f"{line}{' PARTITION BY HASH (session_id)' * by_session}".encode())
            for part in range(4 * by_session):
                assert table is not None
                owner.execute(
                    f'CREATE TABLE {table[1]}."{table[2]}_{part}" PARTITION OF {table[1]}."{table[2]}" '
                    f"FOR VALUES WITH (MODULUS 4, REMAINDER {part})".encode()
                )
    try:
        watch, dice, world = ManualClock(), random.Random(3), EMPTY
        store, client = store_of(f"{schema}_p", clock=watch), CommandGenerator(dice.choice)
        for _ in range(60):
            watch.now_ms += 40
            group = client.send_some(watch.now_ms)
            answers = await asyncio.gather(*[executed(store, command) for command in group])
            for at in in_turn(group):
                expected, world = decided(world, group[at], watch.now_ms)
                assert answers[at] == expected
                client.observe(group[at], expected)
        assert world_of(await store.dump()) == world
        await store.aclose()
    finally:
        drop(shared(), f"{schema}_p")


# -- a pooler


@asynchronous
async def test_a_store_works_with_pgbouncer_in_transaction_mode(schema: str, folder: Path) -> None:
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian: apt install pgbouncer)")
    known = conninfo_to_dict(shared())
    (folder / "users").write_text(f'"{known["user"]}" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n* = host={known['host']}\n[pgbouncer]\nunix_socket_dir = {folder}\n"
        "listen_addr =\nlisten_port = 5432\nauth_type = trust\npool_mode = transaction\n"
        f"auth_file = {folder}/users\ndefault_pool_size = 3\n"
    )
    as_nobody: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    with subprocess.Popen(
        [program, str(folder / "ini")], stderr=subprocess.DEVNULL, **as_nobody
    ) as pooler:
        try:
            await until((folder / ".s.PGSQL.5432").exists)
            dsn = make_conninfo(shared(), host=str(folder))
            stores = [store_of(schema, dsn, prepare=False) for _ in range(4)]

            await asyncio.gather(
                *[stores[n % 4].execute(prompt(f"s{n % 10}", n)) for n in range(200)],
                *[store.due(5) for store in stores],
            )

            assert len([r for r in await stores[0].dump() if isinstance(r, Input)]) == 200
            for store in stores:
                await store.aclose()
        finally:
            pooler.terminate()


# -- hints


@asynchronous
async def test_hints_reach_other_processes_and_resume_after_a_lost_connection(schema: str) -> None:
    speaking, hearing = store_of(schema), store_of(schema)
    hints = hearing.hints()
    assert await asyncio.to_thread(hearing._notifier.listening, 10)

    await speaking.execute(prompt("s", 1))
    assert await asyncio.wait_for(anext(hints), 10) == Hint("s", 0)

    with psycopg.connect(shared()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s",
            (f"LISTEN%{schema}%",),
        )
    await speaking.execute(prompt("t", 1))  # sent while no connection listens
    found = [await asyncio.wait_for(anext(hints), 10)]
    while found[-1].session_id:
        found.append(await asyncio.wait_for(anext(hints), 10))
    await speaking.execute(prompt("u", 1))
    while found[-1] != Hint("u", 0):
        found.append(await asyncio.wait_for(anext(hints), 10))
    await speaking.aclose()
    await hearing.aclose()


@pytest.mark.parametrize(
    "payload",
    ("", "[]", "{}", "7", '[["s"]]', '[["s", "soon", null, null]]', "[[1, 2, null, null]]", '"s"'),
)
def test_an_invalid_notification_means_that_something_changed(payload: str) -> None:
    assert hints_of(payload) == [Hint("", None)]
    whole = [Hint("s", 5, "r"), Hint("t", None), Hint("u", 0, steer_run="q")]
    whole += [Hint("v", None, outbound=True)]
    assert hints_of(*payloads(whole)) == whole


# -- the caller's transaction


@pytest.mark.parametrize("commits", (True, False))
def test_a_command_joins_the_callers_transaction(schema: str, commits: bool) -> None:
    @asynchronous
    async def run() -> None:
        store = store_of(schema)
        with psycopg.connect(shared()) as other:
            other.execute(f'CREATE TABLE "{schema}".mine (id text PRIMARY KEY)'.encode())
        async with await psycopg.AsyncConnection.connect(shared()) as mine:
            await mine.execute(f"INSERT INTO \"{schema}\".mine VALUES ('order')".encode())
            answer = await store.execute_in(mine, prompt("s", 1))
            refused = await store.execute_in(mine, begin("nobody", 1))
            assert not isinstance(answer, Refused)
            assert isinstance(refused, Refused) and refused.reason is Refusal.UNKNOWN_SESSION
            assert [r for r in await store.dump() if isinstance(r, Input)] == []
            await (mine.commit() if commits else mine.rollback())
            rows = await (await mine.execute(f'SELECT * FROM "{schema}".mine'.encode())).fetchall()

        inputs = [r.input_id for r in await store.dump() if isinstance(r, Input)]
        assert (rows, inputs) == (([("order",)], ["s-1"]) if commits else ([], []))
        await store.aclose()

    run()


@asynchronous
async def test_the_feed_names_a_session_whose_transaction_commits_late(schema: str) -> None:
    """FEED-3: another session has a later time, and is read long before."""
    store, position, named = store_of(schema), FROM_THE_BEGINNING, list[str]()

    async def read(position: FeedPosition, now_ms: int) -> FeedPosition:
        position = position.next_pass(now_ms)
        page = await store.ask(position.question(wall_clock_ms()))
        named.extend(session.session_id for session in page)
        return position.read(page)

    async with await psycopg.AsyncConnection.connect(shared()) as mine:
        await store.execute_in(mine, prompt("late", 1))
        await asyncio.sleep((SHORT_MS + 100) / 1000)
        await store.execute(prompt("early", 1))
        position = await read(position, 0)
        await mine.commit()
    assert named == ["early"]

    position = await read(position, LIFETIME_MS - 1)
    assert named == ["early", "early"]
    await read(position, LIFETIME_MS)

    assert named == ["early", "early", "late", "early"]
    await store.aclose()


@asynchronous
async def test_a_command_joins_a_transaction_without_an_event_loop(schema: str) -> None:
    store = store_of(schema)
    hints = store.hints()
    assert store._notifier.listening(10)

    with psycopg.connect(shared(), row_factory=psycopg.rows.dict_row) as mine:
        store.execute_in_now(mine, prompt("s", 1))
        store.execute_in_now(mine, prompt("s", 2))
        with pytest.raises(AssertionError):
            store.execute_in_now(mine, Put("s", "d", "twice", wrong=True))
        with pytest.raises(ValueError):
            store.execute_in_now(mine, Put("s", "d", "\0"))

    assert await asyncio.wait_for(anext(hints), 10) == Hint("s", 0)
    assert sorted(r.input_id for r in await store.dump() if isinstance(r, Input)) == ["s-1", "s-2"]
    with (
        psycopg.connect(shared(), autocommit=True) as idle,
        pytest.raises(ValueError, match="no open transaction"),
    ):
        store.execute_in_now(idle, prompt("s", 3))
    await store.aclose()


@asynchronous
async def test_two_transactions_may_create_one_session_at_once(schema: str) -> None:
    store = store_of(schema)

    with psycopg.connect(shared()) as mine:
        store.execute_in_now(mine, prompt("s", 1))
        waiting = asyncio.ensure_future(store.execute(prompt("s", 2)))
        await asyncio.sleep(0.2)
        assert not waiting.done()
    await waiting

    assert sorted(r.input_id for r in await store.dump() if isinstance(r, Input)) == ["s-1", "s-2"]
    await store.aclose()


@asynchronous
async def test_texts_are_stored_unchanged_with_any_client_encoding(schema: str) -> None:
    store = store_of(schema, make_conninfo(shared(), client_encoding="latin1"))
    await store.execute(prompt("s", 1, "ü \u20ac"))

    (kept,) = [r for r in await store.dump() if isinstance(r, Input)]
    assert kept.payload == "ü \u20ac"
    with (
        psycopg.connect(shared(), client_encoding="latin1") as mine,
        pytest.raises(ValueError, match="must be UTF8"),
    ):
        store.execute_in_now(mine, prompt("s", 2, "ü"))
    await store.aclose()


@asynchronous
async def test_a_transaction_that_waited_for_a_new_session_finds_it(schema: str) -> None:
    store = store_of(schema)
    with psycopg.connect(shared()) as mine, psycopg.connect(shared()) as theirs:
        store.execute_in_now(mine, prompt("s", 1))
        waiting = asyncio.ensure_future(
            asyncio.to_thread(store.execute_in_now, theirs, begin("s", 1))
        )
        await until_locked(theirs)
        mine.commit()

        assert isinstance(await waiting, Begun)
    await store.aclose()


@pytest.mark.parametrize("isolation", ("REPEATABLE READ", "SERIALIZABLE"))
def test_an_older_snapshot_of_the_caller_causes_no_wrong_answer(
    schema: str, isolation: str
) -> None:
    store = store_of(schema)
    commands: tuple[Any, ...] = (begin("young", 1), prompt("young", 2))
    store.execute_now(prompt("old", 1))
    with psycopg.connect(shared()) as mine:
        mine.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
        mine.execute("SELECT 1")
        store.execute_now(prompt("young", 1))

        for command in commands:
            with pytest.raises(ValueError, match="not in the snapshot"):
                store.execute_in_now(mine, command)
        assert isinstance(store.execute_in_now(mine, begin("old", 1)), Begun)
        store.close()


@asynchronous
async def test_a_callers_connection_may_have_another_cursor_factory(schema: str) -> None:
    store = store_of(schema)

    for at, kind in enumerate((psycopg.ClientCursor, psycopg.RawCursor)):
        with psycopg.connect(shared(), cursor_factory=kind) as mine:
            store.execute_in_now(mine, prompt("s", at))
    for at, other in enumerate((psycopg.AsyncClientCursor, psycopg.AsyncRawCursor), 2):
        async with await psycopg.AsyncConnection.connect(shared(), cursor_factory=other) as its:
            await store.execute_in(its, prompt("s", at))

    with psycopg.connect(shared()) as mine, mine.pipeline():
        with pytest.raises(ValueError, match="pipeline"):
            store.execute_in_now(mine, prompt("s", 5))
    assert len([r for r in await store.dump() if isinstance(r, Input)]) == 4
    await store.aclose()


# -- opening


def url_of(dsn: str, query: str) -> str:
    known = conninfo_to_dict(dsn)
    host = str(known["host"]).replace("/", "%2F")
    return f"postgresql://{known['user']}@/{known['dbname']}?host={host}&{query}"


def test_a_url_names_schema_and_pooler(schema: str) -> None:
    store = open_store(url_of(shared(), f"tenure_schema={schema}&connect_timeout=3&prepare=off"))

    assert isinstance(store, PostgresStore)
    assert (store.schema, store._prepare, store._clock) == (schema, False, None)
    assert "connect_timeout=3" in store.dsn and "tenure_schema" not in store.dsn
    store.close()


@pytest.mark.parametrize("url", ("postgresql://h/d?prepare=maybe", "postgresql://h/d?nonsense=1"))
def test_a_url_with_an_unknown_parameter_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    (
        "postgres+psycopg://u:secret@h/d",
        "u:secret@h/d",
        "postgresql://u:se%cret@h/d",
        "postgresql://u:se cret@h/d",
        "postgresql://u:se/cret@h/d",
        "postgresql://u:se@cret@h/d",
        "postgresql://u:secret@[h/d",
        "postgresql://u:secret@h:port/d",
        "postgresql://h/d?password=se%zzcret",
        "postgresql://h/d?sslpassword=secret&prepare=maybe",
        "postgres:/u:secret@h/d",
    ),
)
def test_a_malformed_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        open_store(url)

    told = f"{refused.value} {redact(url)}"
    assert "cret" not in told and "se" not in re.findall(r"[a-z]+", told), told
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("url", ("postgresql://u@h/d", "sqlite:a:b@c.db", "files:b@c"))
def test_a_url_without_a_password_is_shown_unchanged(url: str) -> None:
    assert redact(url) == url


def test_the_error_without_psycopg_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.startswith("tenure_drivers.stores.postgres.store")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ValueError, match=r"pip install 'tenure\[postgres\]'") as refused:
        open_store("postgresql://me:secret@h/d")

    assert "secret" not in str(refused.value)
