"""Negative controls: the suite rejects PostgreSQL stores with faults that only a server shows."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
import pytest
from pg_server import drop, shared
from stores.test_postgres import hold_and_begin

from tenure.queries import Command
from tenure_drivers.stores.base import Clock, Unavailable
from tenure_drivers.stores.postgres import (
    connection as postgres_connection,
)
from tenure_drivers.stores.postgres import (
    transaction as postgres_transaction,
)
from tenure_drivers.stores.postgres import (
    writer as postgres_writer,
)
from tenure_drivers.stores.postgres.connection import Connection
from tenure_drivers.stores.postgres.pipeline import Statement
from tenure_drivers.stores.postgres.sql import Sql, Texts
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.stores.postgres.transaction import Plan, Wait
from tenure_drivers.testing.conformance import Opener, StoreConformance

pytestmark = pytest.mark.postgres

Breaking: TypeAlias = Callable[[pytest.MonkeyPatch], None]
NUMBERS = itertools.count()
MEETING_S = 60  # then a writer has ended without the other, and the test fails


# -- broken ones


def meet_after_reading(breaking: pytest.MonkeyPatch) -> None:
    """Let two writers meet once between their reads and their writes, so that both decide on the same rows.

    They meet in the second transaction of each that puts: the first inserts the row, which only one of them can.
    """
    real, meeting = Connection.run, threading.Barrier(2)
    rounds = Counter[Connection]()

    def run(link: Connection, statements: list[Statement]) -> Any:
        rows = real(link, statements)
        begins = statements[0][0] == postgres_connection.BEGIN
        if begins and any('"blob"' in text for text, _ in statements):
            rounds[link] += 1
            if rounds[link] == 2:
                meeting.wait(MEETING_S)
        return rows

    breaking.setattr(Connection, "run", run)


def locks_one_by_one(breaking: pytest.MonkeyPatch) -> None:
    """Lock one session after another in any order, and do not retry after a deadlock."""

    real = postgres_transaction.lock_rows

    def lock_rows(sql: Sql, ids: Sequence[str], wait: Wait) -> Statement:
        columns = real(sql, ids, wait)[0].partition("SELECT ")[2].partition(" FROM ")[0]
        return (
            f"SELECT {columns} FROM (SELECT i FROM unnest(%b::text[]) AS u(i) ORDER BY random()) q, "
            f"LATERAL (SELECT *, pg_sleep(0.002) FROM {sql.name('session')} s "
            "WHERE s.session_id = q.i FOR UPDATE) l",
            (Texts(ids),),
        )

    breaking.setattr(postgres_transaction, "lock_rows", lock_rows)
    breaking.setattr(postgres_writer, "LOCK_MS", 10_000)
    breaking.setattr(postgres_writer, "RETRYABLE", (psycopg.errors.UniqueViolation,))


def locks_nothing(breaking: pytest.MonkeyPatch) -> None:
    real = postgres_transaction.lock_rows

    def lock_rows(sql: Sql, ids: Sequence[str], wait: Wait) -> Statement:
        text, values = real(sql, ids, wait)
        return text.partition("FOR UPDATE")[0], values

    breaking.setattr(postgres_transaction, "lock_rows", lock_rows)
    meet_after_reading(breaking)


def reads_the_workers_clock_first(breaking: pytest.MonkeyPatch) -> None:
    """Read the clock before the lock; the first attempt waits for the lock until it has it."""
    real = postgres_transaction.decide_group

    def with_early_clock(
        sql: Sql, commands: Sequence[Command[Any, Any]], wait: Wait, clock: Clock | None
    ) -> Plan:
        now_ms = 0 if clock is None else clock()
        return real(sql, commands, wait, None if clock is None else lambda: now_ms)

    breaking.setattr(postgres_writer, "decide_group", with_early_clock)
    breaking.setattr(postgres_writer, "LOCK_MS", 10_000)


def commits_each_round(breaking: pytest.MonkeyPatch) -> None:
    """No transaction: the locks end before the writes, and a failure leaves partial writes."""
    real = Connection.run

    def run(link: Connection, statements: list[Statement]) -> Any:
        rows = real(link, statements)
        if len(statements) > 2 and statements[0][0] == postgres_connection.BEGIN:
            real(link, [("COMMIT", ())])
        return rows

    breaking.setattr(Connection, "run", run)
    meet_after_reading(breaking)


def reads_the_time_of_the_transaction(breaking: pytest.MonkeyPatch) -> None:
    text = postgres_transaction.NOW_MS.replace("clock_timestamp()", "now()")
    breaking.setattr(postgres_transaction, "NOW_MS", text)


# -- who catches them


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"broken_{os.getpid()}_{next(NUMBERS)}"
    yield name
    drop(shared(), name)


@contextmanager
def opening(schema: str) -> Iterator[Opener]:
    stores: list[PostgresStore] = []

    def opened(clock: Clock) -> PostgresStore:
        stores.append(PostgresStore(shared(), schema=schema, clock=clock))
        return stores[-1]

    try:
        yield opened
    finally:
        for store in stores:
            store.close()


@contextmanager
def locked_in(schema: str, session_id: str) -> Iterator[Callable[[], Awaitable[None]]]:
    """Hold a session; yield a function that waits until a command waits for it."""
    text = f'SELECT 1 FROM "{schema}".session WHERE session_id = %s FOR UPDATE'
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"

    async def until_waiting() -> None:
        while other.execute(waits).fetchone() is None:
            await asyncio.sleep(0.001)

    with psycopg.connect(shared()) as other:
        other.execute(text.encode(), (session_id,))
        yield until_waiting


OPPOSITE = "test_groups_of_two_writers_in_opposite_orders_all_succeed"
CHAIN = "test_two_writers_lose_nothing"
CLOCK = "test_the_clock_is_read_after_the_lock"


def carry_through(test: str, schema: str) -> None:
    suite = StoreConformance()
    with opening(schema) as opened:
        given: dict[str, Any] = {"made": True} if test == CHAIN else {}
        if test == CLOCK:
            given["locked"] = lambda session_id: locked_in(schema, session_id)
        getattr(suite, test)(opened=opened, **given)


@pytest.mark.parametrize("test", (OPPOSITE, CHAIN, CLOCK))
def test_the_suite_passes_the_real_store(test: str, schema: str) -> None:
    carry_through(test, schema)


@pytest.mark.parametrize(
    ("test", "broken"),
    (
        (OPPOSITE, locks_one_by_one),
        (CHAIN, locks_nothing),
        (CHAIN, commits_each_round),
        (CLOCK, reads_the_workers_clock_first),
    ),
    ids=lambda each: getattr(each, "__name__", None),
)
def test_the_suite_catches_a_store_that(
    test: str, broken: Breaking, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)

    with pytest.raises((AssertionError, Unavailable)):
        carry_through(test, schema)


def test_a_lease_taken_at_the_beginning_of_the_transaction_is_caught(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads_the_time_of_the_transaction(monkeypatch)

    with pytest.raises(AssertionError):
        hold_and_begin(schema, monkeypatch)
