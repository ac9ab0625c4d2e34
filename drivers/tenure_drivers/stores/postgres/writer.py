"""The writing end of a PostgreSQL store: one transaction a group, and commands in other people's transactions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, pq
from psycopg.rows import tuple_row

from tenure.outcome import Decided, Refused
from tenure.queries import Command

from ..base import Clock, OutcomeUnknown, Unavailable
from ..group_commit import Answer, Busy, Deferred
from ..grouped_store import Commands, run_or_split
from .connection import BEGIN, Connection, ConnectionLost, translated
from .notify import NOTIFY, payloads
from .pipeline import Rows, Statement
from .sql import Bigints, BigintsDumper, Sql, Texts, TextsDumper
from .transaction import Plan, Wait, decide_group

O = TypeVar("O")
V = TypeVar("V")

LOCK_MS = 50  # for one who is alone; a group leaves out what others hold
STATEMENT_MS = 30_000
IDLE_MS = 5_000  # in a transaction: a process that was stopped in one must not keep its sessions
HELD_S = 0.1  # between two looks at a session of which others hold more than its row, at first
HELD_S_MAX = 0.5
TRIES = 4
LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
PLANNING = {  # STORE-40: along an index, whatever the statistics say, and planned once
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
ALONG_INDEXES = ", ".join(
    f"set_config('{name}', '{value}', true)" for name, value in PLANNING.items()
)
SETTING = "SELECT " + ", ".join(  # STORE-34
    [*(f"set_config('{name}', %s, true)" for name in LIMITS), ALONG_INDEXES]
)
AGAIN = (
    errors.UniqueViolation,  # or a bug; who was faster shows when we look again
    errors.SerializationFailure,
    errors.DeadlockDetected,
)


class _Again(Exception):
    """Not done; the same may well be done at the next attempt."""


class Writer:
    """`transact` is called by one thread at a time."""

    def __init__(
        self,
        link: Connection,
        sql: Sql,
        clock: Clock | None,
        idle_ms: int = IDLE_MS,
    ) -> None:
        self.link, self.sql, self.clock = link, sql, clock
        self._held: dict[str, tuple[float, float]] = {}  # until when it is let be, and for how long
        self._limits = (SETTING, tuple(map(str, (LOCK_MS, STATEMENT_MS, idle_ms))))

    def transact(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        """Answer each command by position.  Raises Busy at once where waiting is not allowed."""
        if not wait:
            raise Busy  # a round trip is not for an event loop to wait for
        return self._answers(commands) if not self._held else self._beside(commands)

    def _beside(self, commands: Commands) -> list[Answer]:
        """Sessions that made a group wait come by themselves, one at a time and not all the time."""
        now = time.monotonic()
        asked = dict.fromkeys([command.session_id for command in commands])
        due = [s for s in asked if s in self._held and self._held[s][0] <= now][:1]
        alone = [at for at, c in enumerate(commands) if c.session_id in due]
        others = [at for at, c in enumerate(commands) if c.session_id not in self._held]
        answers: list[Answer] = [
            Deferred(f"session {c.session_id}: others have it") for c in commands
        ]
        for part, carried_out in ((others, self._answers), (alone, self._one_by_one)):
            if part:
                for at, answer in zip(part, carried_out([commands[p] for p in part]), strict=True):
                    answers[at] = answer
        return answers

    def _answers(self, commands: Commands) -> Sequence[Answer]:
        return run_or_split(
            self._attempt,
            commands,
            meaning=self._translated,
            alone=self._one_by_one,
        )

    def _attempt(self, commands: Commands) -> Sequence[Answer]:
        """Run one transaction, again if that may help (STORE-35).  Raises what `_once` raises."""
        error: Exception = Unavailable("not tried")
        for attempt in range(TRIES):
            try:
                return self._once(commands)
            except _Again as failed:
                error = failed
                time.sleep(0.001 * (4**attempt - 1))
        raise error.__cause__ or error

    def _translated(self, error: Exception) -> Exception:
        return translated(error, self.sql.schema) if isinstance(error, psycopg.Error) else error

    def _one_by_one(self, commands: Commands) -> list[Answer]:
        """Somebody's writes failed and nothing is changed: each alone, in order, at a new reading of the clock."""
        answers: list[Answer] = []
        waiting: dict[str, Answer] = {}
        for command in commands:
            answer = waiting.get(command.session_id)
            if answer is None:
                (answer,) = self._answers([command])
                _, pause_s = self._held.get(command.session_id, (0, 0.0))
                if isinstance(answer, Deferred):  # nobody overtakes it in its session
                    waiting[command.session_id] = answer
                    pause_s = min(2 * pause_s or HELD_S, HELD_S_MAX)
                    self._held[command.session_id] = time.monotonic() + pause_s, pause_s
                elif pause_s:  # what others had they may have let go of everywhere
                    self._held.clear()
            answers.append(answer)
        return answers

    def _once(self, commands: Commands) -> list[Answer]:
        """One transaction.  Raises what went wrong, and then nothing was changed, but for OutcomeUnknown."""
        alone = len(commands) == 1
        committing = False
        plan = decide_group(self.sql, commands, Wait.LOCK if alone else Wait.NOT, self.clock)
        opening: list[Statement] = [(BEGIN, ()), self._limits]
        try:
            statements, last = next(plan)
            while not last:
                rows = self.link.run([*opening, *statements])[len(opening) :]
                opening = []
                statements, last = plan.send(rows)
            if not self.link.alive():
                raise psycopg.OperationalError("the server has hung up")
            committing = True
            self.link.commit(statements)
            return list(_returned(plan))
        except StopIteration as stop:  # nothing to write
            return self._looked(stop.value)
        except errors.LockNotAvailable:
            self.link.roll_back()
            if not alone:
                raise AssertionError("a group waits for no lock") from None
            return [Deferred(f"session {commands[0].session_id}: others have it all the time")]
        except psycopg.Error as error:
            raise self._meaning(error, committing) from error
        except BaseException:
            self.link.roll_back()
            raise

    def _looked(self, answers: list[Answer]) -> list[Answer]:
        try:
            self.link.run([("ROLLBACK", ())])
        except psycopg.Error:
            self.link.roll_back()
        return answers

    def _meaning(self, error: psycopg.Error, committing: bool) -> Exception:
        """STORE-35: whether it may be done again, or nobody knows."""
        if isinstance(error, ConnectionLost):
            return translated(error, self.sql.schema)
        lost = self.link.roll_back()
        if lost and committing:
            return OutcomeUnknown(f"the connection was lost while committing: {error}")
        if lost or isinstance(error, AGAIN):
            return _Again(str(error))
        return translated(error, self.sql.schema)


def _returned(plan: Plan) -> list[Answer]:
    try:
        plan.send([])
    except StopIteration as stop:
        answers: list[Answer] = stop.value
        return answers
    raise AssertionError("a plan goes on after its last statements")


# -- in the caller's own transaction

UNDO = "ROLLBACK TO SAVEPOINT tenure"


class _Within:
    """One command, round by round; the last tells the server the hints, which it gives with the commit."""

    def __init__(self, sql: Sql, channel: str, command: Command[Any, Any]) -> None:
        self._plan = decide_group(sql, [command], Wait.ALWAYS, None)
        self._channel = channel
        self.answer: Decided[Any] | Refused | None = None
        self.statements: list[Statement] = next(self._plan)[0]

    def receive(self, rows: Sequence[Rows]) -> None:
        """Raises what went wrong with the command, or Deferred."""
        if self.answer is not None:
            self.statements = []
            return
        try:
            self.statements, _ = self._plan.send(rows)
        except StopIteration as stop:
            (answer,) = stop.value
            if isinstance(answer, Exception):
                raise answer from None
            self.answer = answer
            hints = answer.hints if isinstance(answer, Decided) else ()
            notifications = payloads(hints) if hints else ()
            self.statements = [(NOTIFY, (self._channel, payload)) for payload in notifications]


async def execute_in(
    connection: psycopg.AsyncConnection[Any], sql: Sql, channel: str, command: Command[V, O]
) -> Decided[O] | Refused:
    """STORE-38: waits for the session as the caller's own settings say."""
    _must_be_inside(connection)
    error: Exception = Unavailable("not tried")
    for _ in range(TRIES):
        await connection.execute("SAVEPOINT tenure")  # what fails leaves the caller's work
        try:
            within = _Within(sql, channel, command)
            while within.statements:
                rows: list[Rows] = []
                for text, values in within.statements:
                    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
                    _ready(cursor)
                    await cursor.execute(text.encode(), values or None)
                    found = await cursor.fetchall() if cursor.description else ()
                    rows.append((found, cursor.rowcount))
                within.receive(rows)
            await connection.execute("RELEASE SAVEPOINT tenure")
        except (errors.UniqueViolation, Deferred) as failed:  # somebody was faster: look again
            error = failed
            await connection.execute(UNDO)
            continue
        except psycopg.Error as failed:
            if not connection.closed:
                await connection.execute(UNDO)
            raise translated(failed, sql.schema) from failed
        except BaseException:
            await connection.execute(UNDO)
            raise
        assert within.answer is not None
        return within.answer
    raise _why_not(error, sql)


def execute_in_now(
    connection: psycopg.Connection[Any], sql: Sql, channel: str, command: Command[V, O]
) -> Decided[O] | Refused:
    """The same on a connection without an event loop."""
    _must_be_inside(connection)
    error: Exception = Unavailable("not tried")
    for _ in range(TRIES):
        connection.execute("SAVEPOINT tenure")  # what fails leaves the caller's work
        try:
            within = _Within(sql, channel, command)
            while within.statements:
                rows: list[Rows] = []
                for text, values in within.statements:
                    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
                    _ready(cursor)
                    cursor.execute(text.encode(), values or None)
                    found = cursor.fetchall() if cursor.description else ()
                    rows.append((found, cursor.rowcount))
                within.receive(rows)
            connection.execute("RELEASE SAVEPOINT tenure")
        except (errors.UniqueViolation, Deferred) as failed:
            error = failed
            connection.execute(UNDO)
            continue
        except psycopg.Error as failed:
            if not connection.closed:
                connection.execute(UNDO)
            raise translated(failed, sql.schema) from failed
        except BaseException:
            connection.execute(UNDO)
            raise
        assert within.answer is not None
        return within.answer
    raise _why_not(error, sql)


def _must_be_inside(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    if connection.autocommit and connection.info.transaction_status == pq.TransactionStatus.IDLE:
        raise ValueError("the connection is in no transaction; open one that this is to be part of")
    if connection.pgconn.pipeline_status != pq.PipelineStatus.OFF:
        raise ValueError("the connection is in a pipeline: each statement needs the answer before")
    if connection.info.encoding != "utf-8":
        raise ValueError(f"client_encoding is {connection.info.encoding}; it must be UTF8")


def _ready(cursor: psycopg.AsyncCursor[Any] | psycopg.Cursor[Any]) -> None:
    """Plain and binary, whatever cursors the caller's connection makes."""
    cursor.format = pq.Format.BINARY
    cursor.adapters.register_dumper(Texts, TextsDumper)
    cursor.adapters.register_dumper(Bigints, BigintsDumper)


def _why_not(error: Exception, sql: Sql) -> Exception:
    return translated(error, sql.schema) if isinstance(error, psycopg.Error) else Unavailable(error)
