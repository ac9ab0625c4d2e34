"""PostgreSQL: many workers on many machines; a group of commands is two round trips and one commit."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from tenure.outcome import Decided, Hint, Refused
from tenure.queries import Command, Question, Record
from tenure.records import RECORDS, Session

from .contract import (
    Capability,
    Clock,
    Corrupt,
    Due,
    Durability,
    OutcomeUnknown,
    Quarantined,
    Rounds,
    Unavailable,
    outcome_of,
)
from .group import Answer, Busy, GroupCommit, waves
from .hints import Audience
from .postgres_group import NOW_MS, TIMEOUTS, Readings, Statement, locking, setting_aside, writing
from .postgres_link import Link, Newsroom, prepared, translated
from .postgres_sql import Sql, listed
from .rows import codec_of

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

LOCK_MS, STATEMENT_MS, IDLE_MS = 10_000, 30_000, 10_000
RETRIES = 5


class PostgresStore:
    """`dsn` as libpq takes it.  Makes its schema if it is not there.

    Raises Unavailable, SchemaTooNew or Corrupt if that fails.  The clock is the server's, unless one is given (tests).
    """

    durability = Durability.CRASH
    capabilities = frozenset((Capability.REOPEN, Capability.PROCESSES, Capability.QUARANTINE))

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "tenure",
        clock: Clock | None = None,
        prepare: bool = True,
        readers: int = 2,
        group_max: int = 256,
    ) -> None:
        self.dsn, self.schema = dsn, schema
        self._sql = Sql(schema)
        self._clock = clock
        self._pid = os.getpid()
        self._closed = False
        self._writer = Link(dsn, prepare)
        prepared(self._writer, self._sql)
        self._readers = ThreadPoolExecutor(readers, "tenure-pg-ask")
        self._local = threading.local()
        self._links: list[Link] = []
        self._prepare = prepare
        self._rounds = Rounds()
        self._audience = Audience()
        self._news = Newsroom(dsn, f"tenure_{schema}", self._audience.tell)
        self.group = GroupCommit(self._transact, name="tenure-pg-write", most=group_max)

    # -- commands

    async def execute(self, command: Command[V, O]) -> O | Refused:
        return outcome_of(await self.carry_out(command))

    async def carry_out(self, command: Command[V, O]) -> Decided[O] | Refused:
        self._usable()
        return await self.group.submit(command)

    def execute_now(self, command: Command[V, O]) -> O | Refused:
        self._usable()
        return outcome_of(self.group.run_now(command))

    async def execute_in(
        self, connection: psycopg.AsyncConnection[Any], command: Command[V, O]
    ) -> O | Refused:
        """Carry a command out inside the caller's own transaction; it is done when the caller commits.

        Waits for the session's lock.  The hints are sent by the server with the commit.
        """
        plan = self._plan([command], wait=True)
        statement = next(plan)
        while True:
            rows = []
            for text, values in statement:
                cursor = connection.cursor(binary=True)
                await cursor.execute(text.encode(), values)
                found = await cursor.fetchall() if cursor.description else ()
                rows.append((found, cursor.rowcount))
            try:
                statement = plan.send(rows)
            except StopIteration as stop:
                (answer,) = stop.value
                break
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Decided) and answer.hints:
            payload = self._news.payload(answer.hints)
            await connection.execute("SELECT pg_notify(%s, %s)", (self._news.channel, payload))
        return outcome_of(answer)

    # -- the transaction of a group

    def _transact(self, commands: Sequence[Command[Any, Any]], wait: bool) -> Sequence[Answer]:
        if not wait:
            raise Busy  # a round trip is not for an event loop to wait for
        answers: list[Answer] = [Unavailable("not reached")] * len(commands)
        alone: list[int] = []
        for wave in waves(commands):
            if alone and len(wave) < len(commands):
                alone += wave  # an earlier command of one of these sessions is still to come
                continue
            found = self._attempt([commands[at] for at in wave], len(wave) == 1)
            for at, answer in zip(wave, found, strict=True):
                answers[at] = answer
                if isinstance(answer, _Again):
                    alone.append(at)
        for at in alone:
            answers[at] = self._alone(commands[at])
        hints = [h for a in answers if isinstance(a, Decided) for h in a.hints]
        if hints:
            self._audience.tell(hints)
            self._news.tell(hints)
        return answers

    def _alone(self, command: Command[Any, Any]) -> Answer:
        for attempt in range(RETRIES):
            (answer,) = self._attempt([command], True)
            if not isinstance(answer, _Again):
                return answer
            time.sleep(0.002 * 2**attempt)
        return Unavailable(
            f"session {command.session_id}: not done in {RETRIES} attempts: {answer}"
        )

    def _attempt(self, commands: Sequence[Command[Any, Any]], wait: bool) -> Sequence[Answer]:
        """One transaction; nobody is answered before its commit."""
        committing = False
        try:
            plan = self._plan(commands, wait)
            limits = (TIMEOUTS, tuple(map(str, (LOCK_MS, STATEMENT_MS, IDLE_MS))))
            statements: list[Statement] = [("BEGIN", ()), limits, *next(plan)]
            rows = self._writer.run(statements)[2:]
            while True:
                statements = list(plan.send(rows))
                committing = True
                rows = self._writer.run([*statements, ("COMMIT", ())])[:-1]
                try:
                    plan.send(rows)
                except StopIteration as stop:
                    return list(stop.value)
                raise AssertionError("a plan has two rounds")
        except StopIteration as stop:  # nothing to write
            self._writer.run([("COMMIT", ())])
            return list(stop.value)
        except psycopg.Error as error:
            if len(commands) > 1 and not isinstance(error, psycopg.OperationalError):
                self._writer.roll_back()
                return [_Again(str(error))] * len(
                    commands
                )  # whoever it was, the others are not to suffer
            return [self._failed(error, committing, len(commands) == 1)] * len(commands)
        except BaseException:
            self._writer.roll_back()
            raise

    def _failed(self, error: psycopg.Error, committing: bool, alone: bool) -> Exception:
        lost = self._writer.roll_back()
        if isinstance(error, errors.UniqueViolation) and alone and not _met_a_new_session(error):
            return AssertionError(f"a decision inserts what exists: {error}")
        if isinstance(error, errors.DivisionByZero):
            return AssertionError("a decision updates what does not exist")
        if isinstance(error, AGAIN):
            return _Again(str(error))
        if isinstance(error, psycopg.DataError):
            return ValueError(f"the server cannot store that: {error}")
        if lost and committing:
            return OutcomeUnknown(f"the connection was lost while committing: {error}")
        return translated(error, self.schema)

    def _plan(
        self, commands: Sequence[Command[Any, Any]], wait: bool
    ) -> Generator[list[Statement], list[tuple[Any, int]], list[Answer]]:
        """Two rounds: lock, clock and reads; then writes.  Returns the answers, by position."""
        reads = [command.reads() for command in commands]
        readings = Readings(self._sql, [q for wanted in reads for q in wanted.queries])
        rows = yield [
            locking(self._sql, {c.session_id for c in commands}, wait),
            (f"SELECT {NOW_MS}", ()),
            *readings.statements(),
        ]
        locked = {row[0] for row in rows[0][0]}
        now_ms = rows[1][0][0][0] if self._clock is None else self._clock()
        readings.hear([found for found, _ in rows[2:]])
        answers: list[Answer] = []
        found = iter(readings.answers())
        for command, wanted in zip(commands, reads, strict=True):
            view = [next(found) for _ in wanted.queries]
            if isinstance(view[0], Session) and command.session_id not in locked:
                answers.append(_Again("another transaction holds the session"))
                continue
            answers.append(_decide(command, wanted.view, view, now_ms))
        decisions = [a for a in answers if isinstance(a, Decided) and a.writes]
        suspects = [
            (c.session_id, str(a))
            for c, a in zip(commands, answers, strict=True)
            if isinstance(a, Corrupt)
        ]
        batches = writing(self._sql, decisions)
        if not batches and not suspects:
            return answers
        yield [*batches, *((setting_aside(self._sql), suspect) for suspect in suspects)]
        return answers

    # -- looking

    async def ask(self, question: Question[A]) -> A:
        return await self._read(lambda link: self._ask(link, question))

    def _ask(self, link: Link, question: Question[A]) -> A:
        link.run([("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ())])
        plan = question.steps()
        try:
            query = next(plan)
            while True:
                readings = Readings(self._sql, [query])
                readings.hear([found for found, _ in link.run(readings.statements())])
                query = plan.send(readings.answers()[0])
        except StopIteration as stop:
            answer: A = stop.value
            return answer
        finally:
            link.roll_back()

    async def due(self, limit: int) -> tuple[Due, ...]:
        return await self._read(lambda link: self._due(link, limit))

    def _due(self, link: Link, limit: int) -> tuple[Due, ...]:
        now_ms = self._now(link)
        table, aside = self._sql.name("session"), self._sql.name("quarantine")
        select = (
            "SELECT {0}, session_id FROM {1} s WHERE {0} {2} %s {3} AND NOT EXISTS "
            "(SELECT 1 FROM {4} q WHERE q.session_id = s.session_id) "
            "ORDER BY {0}, session_id LIMIT %s"
        )

        def look(after: tuple[int, str] | None, most: int) -> list[tuple[int, str]]:
            behind = "AND (due_at_ms, session_id) > (%s, %s)" if after else ""
            text = select.format("due_at_ms", table, "<=", behind, aside)
            return list(link.run([(text, (now_ms, *(after or ()), most))])[0][0])

        found = self._rounds.sample(limit, look)
        if len(found) < limit:
            text = select.format("lease_from_ms", table, ">", "", aside)
            rows = link.run([(text, (now_ms, limit - len(found)))])[0][0]
            found += [(now_ms, session_id) for _, session_id in rows]
        return tuple([Due(session_id, at) for at, session_id in found])

    async def horizon(self) -> int | None:
        def look(link: Link) -> int | None:
            text = f"SELECT min(due_at_ms) FROM {self._sql.name('session')} WHERE due_at_ms > %s"
            found: int | None = link.run([(text, (self._now(link),))])[0][0][0][0]
            return found

        return await self._read(look)

    def _now(self, link: Link) -> int:
        if self._clock is not None:
            return self._clock()
        return int(link.run([(f"SELECT {NOW_MS}", ())])[0][0][0][0])

    async def now_ms(self) -> int:
        """The clock that the store decides by."""
        return await self._read(self._now)

    async def quarantined(self) -> tuple[Quarantined, ...]:
        text = f"SELECT session_id, reason, at_ms FROM {self._sql.name('quarantine')}"
        rows = await self._read(lambda link: link.run([(text, ())])[0][0])
        return tuple([Quarantined(*row) for row in rows])

    async def readmit(self, session_id: str) -> None:
        text = f"DELETE FROM {self._sql.name('quarantine')} WHERE session_id = %s"
        await self._read(lambda link: link.run([(text, (session_id,))]))

    async def dump(self) -> tuple[Record, ...]:
        def look(link: Link) -> tuple[Record, ...]:
            found: list[Record] = []
            for record in RECORDS:
                codec = codec_of(record)
                text = f"SELECT {listed(codec.stored)} FROM {self._sql.name(codec.table)}"
                found += [codec.decode(row) for row in link.run([(text, ())])[0][0]]
            return tuple(found)

        return await self._read(look)

    async def _read(self, look: Callable[[Link], A]) -> A:
        self._usable()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._look, look)

    def _look(self, look: Callable[[Link], A]) -> A:
        link: Link | None = getattr(self._local, "link", None)
        if link is None:
            link = self._local.link = Link(self.dsn, self._prepare)
            self._links.append(link)
        for attempt in (1, 2):
            try:
                return look(link)
            except psycopg.Error as error:
                lost = link.roll_back()
                if not (
                    lost and attempt == 1
                ):  # a look changes nothing: once more on a new connection
                    raise translated(error, self.schema) from error
            except Corrupt as error:
                link.roll_back()
                if error.key:
                    link.run([(setting_aside(self._sql), (str(error.key[0]), str(error)))])
                raise
        raise AssertionError("unreachable")

    # -- hints, and the end

    def hints(self) -> AsyncIterator[Hint]:
        self._usable()
        self._news.listen()
        return self._audience.listen()

    async def aclose(self) -> None:
        if not self._closed:
            await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:
            return
        self.group.close()
        self._news.close()
        self._audience.end()
        self._readers.shutdown()
        for link in (self._writer, *self._links):
            link.close()

    def _usable(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("a store does not survive a fork: open it again")
        if self._closed:
            raise Unavailable("this store is closed")


AGAIN = (
    errors.UniqueViolation,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
)


def _met_a_new_session(error: psycopg.Error) -> bool:
    """Two made the same session at once: the other one was faster, and now it is there to be locked."""
    return error.diag.table_name == "session"


class _Again(Exception):
    """Not done; to be executed again alone."""


def _decide(command: Any, make: Callable[..., Any], answers: list[Any], now_ms: int) -> Answer:
    try:
        answer: Answer = command.decide(make(*answers), now_ms)
    except Exception as error:
        return error
    return answer
