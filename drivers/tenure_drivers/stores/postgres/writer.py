"""The writing connection of a PostgreSQL store, and commands inside a caller's transaction."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import errors, pq
from psycopg.rows import tuple_row

from tenure.outcome import Decided, Refused
from tenure.queries import Command

from ..base import Clock, OutcomeUnknown, Unavailable
from ..field_types import measure_command
from ..group_commit import GROUP_CHARACTERS_MAX, Answer, Busy, Deferred
from ..grouped_store import Commands, run_or_split
from ..layout import check_active
from .connection import BEGIN, ConnectionLost, StoreConnection, translated
from .notify import NOTIFY, payloads
from .pipeline import Rows, Statement
from .sql import Bigints, BigintsDumper, Sql, Texts, TextsDumper
from .transaction import ActiveChanged, Plan, Wait, decide_group

__all__ = ["ALONG_INDEXES", "IDLE_MS", "Writer", "execute_in", "execute_in_now"]


O = TypeVar("O")
V = TypeVar("V")

LOCK_MS = 50  # for a single command; a group skips locked sessions
STATEMENT_MS = 30_000
IDLE_MS = 5_000  # within a transaction: a stopped process must not keep its sessions
CHARACTERS_PER_MS = (
    2_000  # that are encoded and sent at least, on a busy machine over a slow network
)
CONTENDED_S = 0.1  # first pause before a contended session is tried again
CONTENDED_S_MAX = 0.5
TRIES = 4
LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
PLANNING = {  # STORE-40: use an index whatever the statistics say, and plan once
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
RETRYABLE = (
    errors.UniqueViolation,  # another transaction was faster, or it is a bug: the retry shows which
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.FeatureNotSupported,  # a plan that was cached before a column changed its type
)


class _Retry(Exception):
    """The transaction was rolled back and may succeed at the next attempt."""


class Writer:
    """Executes groups.  `transact` is called by one thread at a time."""

    def __init__(
        self,
        connection: StoreConnection,
        clock: Clock | None,
        idle_ms: int = IDLE_MS,
    ) -> None:
        self.connection, self.clock = connection, clock
        self._contended: dict[str, tuple[float, float]] = {}  # session -> (next attempt, pause)
        self._idle_ms = idle_ms
        self._limits = limits(idle_ms)

    @property
    def sql(self) -> Sql:
        """The statements for the active number that was read last."""
        return self.connection.sql

    def transact(self, commands: Commands, wait: bool) -> Sequence[Answer]:
        """Answer each command by position.  Raises Busy if `wait` is False."""
        if not wait:
            raise Busy  # an event loop must not wait for a round trip
        return self._answers(commands) if not self._contended else self._skip_contended(commands)

    def _skip_contended(self, commands: Commands) -> list[Answer]:
        """Run contended sessions alone, one at a time, with a growing delay (STORE-31)."""
        now = time.monotonic()
        asked = dict.fromkeys([command.session_id for command in commands])
        due = [s for s in asked if s in self._contended and self._contended[s][0] <= now][:1]
        alone = [at for at, c in enumerate(commands) if c.session_id in due]
        others = [at for at, c in enumerate(commands) if c.session_id not in self._contended]
        answers: list[Answer] = [
            Deferred(f"session {c.session_id} is locked by other processes") for c in commands
        ]
        for part, execute in ((others, self._answers), (alone, self._one_by_one)):
            if part:
                for at, answer in zip(part, execute([commands[p] for p in part]), strict=True):
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
        """Run one transaction, and again if it was rolled back for a transient reason (STORE-35)."""
        error: Exception = Unavailable("not tried")
        for attempt in range(TRIES):
            try:
                return self._once(commands)
            except _Retry as failed:
                error = failed
                time.sleep(0.001 * (4**attempt - 1))
        raise error.__cause__ or error

    def _translated(self, error: Exception) -> Exception:
        return translated(error, self.sql.schema) if isinstance(error, psycopg.Error) else error

    def _one_by_one(self, commands: Commands) -> list[Answer]:
        """Run each command in a transaction of its own, in order (STORE-14)."""
        answers: list[Answer] = []
        waiting: dict[str, Answer] = {}
        for command in commands:
            answer = waiting.get(command.session_id)
            if answer is None:
                (answer,) = self._answers([command])
                _, pause_s = self._contended.get(command.session_id, (0, 0.0))
                if isinstance(answer, Deferred):  # later commands of its session wait too
                    waiting[command.session_id] = answer
                    pause_s = min(2 * pause_s or CONTENDED_S, CONTENDED_S_MAX)
                    self._contended[command.session_id] = time.monotonic() + pause_s, pause_s
                elif pause_s:  # the other process may have released all its sessions
                    self._contended.clear()
            answers.append(answer)
        return answers

    def _once(self, commands: Commands) -> list[Answer]:
        """Run one transaction.  If it raises, nothing was changed, except after OutcomeUnknown."""
        alone = len(commands) == 1
        committing = False
        plan = decide_group(self.sql, commands, Wait.LOCK if alone else Wait.NOT, self.clock)
        opening: list[Statement] = [(BEGIN, ()), self._limits_for(commands)]
        try:
            statements, last = next(plan)
            while not last:
                rows = self.connection.run([*opening, *statements])[len(opening) :]
                opening = []
                statements, last = plan.send(rows)
            if not self.connection.alive():
                raise psycopg.OperationalError("the server has closed the connection")
            committing = True
            self.connection.commit(statements)
            return list(_result_of(plan))
        except StopIteration as stop:  # nothing to write
            return self._finish_reads(stop.value)
        except ActiveChanged as changed:
            self.connection.roll_back()
            self.connection.work_at(changed.active)
            raise _Retry from changed
        except errors.LockNotAvailable:
            self.connection.roll_back()
            if not alone:
                raise AssertionError("a group must not wait for a lock") from None
            return [Deferred(f"session {commands[0].session_id} stays locked by other processes")]
        except psycopg.Error as error:
            raise self._translate_lost(error, committing) from error
        except BaseException:
            self.connection.roll_back()
            raise

    def _limits_for(self, commands: Commands) -> Statement:
        """STORE-34: allow more time between two messages for a command whose texts are large."""
        if len(commands) > 1:
            return self._limits  # STORE-44: their texts are small
        size = measure_command(commands[0])
        assert isinstance(size, int), size
        if size <= GROUP_CHARACTERS_MAX:
            return self._limits
        return limits(self._idle_ms + size // CHARACTERS_PER_MS)

    def _finish_reads(self, answers: list[Answer]) -> list[Answer]:
        try:
            self.connection.run([("ROLLBACK", ())])
        except psycopg.Error:
            self.connection.roll_back()
        return answers

    def _translate_lost(self, error: psycopg.Error, committing: bool) -> Exception:
        """Translate a failure: may the transaction be repeated, or is its outcome unknown? (STORE-35)"""
        if isinstance(error, ConnectionLost):
            return translated(error, self.sql.schema)
        lost = self.connection.roll_back()
        if lost and committing and not isinstance(error, RETRYABLE):
            return OutcomeUnknown(f"the connection was lost while committing: {error}")
        if lost or isinstance(error, RETRYABLE):
            return _Retry(str(error))
        return translated(error, self.sql.schema)


def limits(idle_ms: int) -> Statement:
    """Return the statement that sets the limits of a transaction."""
    return SETTING, tuple(map(str, (LOCK_MS, STATEMENT_MS, idle_ms)))


def _result_of(plan: Plan) -> list[Answer]:
    try:
        plan.send([])
    except StopIteration as stop:
        answers: list[Answer] = stop.value
        return answers
    raise AssertionError("a plan yields after its last statements")


# -- in the caller's own transaction

UNDO = "ROLLBACK TO SAVEPOINT tenure"


class _EmbeddedCommand:
    """One command inside a caller's transaction, round trip by round trip.

    The last statements are NOTIFY: the server delivers the hints when the caller commits.
    """

    def __init__(self, sql: Sql, channel: str, command: Command[Any, Any]) -> None:
        self._plan = decide_group(sql, [command], Wait.ALWAYS, None)
        self._channel = channel
        self.answer: Decided[Any] | Refused | None = None
        self.statements: list[Statement] = next(self._plan)[0]

    def receive(self, rows: Sequence[Rows]) -> None:
        """Take the rows of the statements and set the next ones.  Raises the error of the command, or Deferred."""
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
    """Execute a command inside the caller's transaction, waiting for locks by the caller's settings (STORE-38)."""

    async def run(text: str, values: Sequence[Any] = ()) -> Rows:
        cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
        _prepare_cursor(cursor)
        await cursor.execute(text.encode(), values or None)
        return await cursor.fetchall() if cursor.description else (), cursor.rowcount

    return await _execute_in(connection, run, sql, channel, command)


def execute_in_now(
    connection: psycopg.Connection[Any], sql: Sql, channel: str, command: Command[V, O]
) -> Decided[O] | Refused:
    """`execute_in` on a connection without an event loop."""

    async def run(text: str, values: Sequence[Any] = ()) -> Rows:  # never suspends
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        _prepare_cursor(cursor)
        cursor.execute(text.encode(), values or None)
        return cursor.fetchall() if cursor.description else (), cursor.rowcount

    try:
        _execute_in(connection, run, sql, channel, command).send(None)
    except StopIteration as stop:
        answer: Decided[O] | Refused = stop.value
        return answer
    raise AssertionError("a statement without an event loop has suspended")


async def _execute_in(
    connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any],
    run: Callable[..., Awaitable[Rows]],
    sql: Sql,
    channel: str,
    command: Command[V, O],
) -> Decided[O] | Refused:
    _check_connection(connection)
    error: Exception = Unavailable("not tried")
    for _ in range(TRIES):
        await run("SAVEPOINT tenure")  # a failure must leave the caller's work
        try:
            embedded = _EmbeddedCommand(sql, channel, command)
            while embedded.statements:
                embedded.receive([await run(*statement) for statement in embedded.statements])
            await run("RELEASE SAVEPOINT tenure")
        except (errors.UniqueViolation, Deferred) as failed:  # another transaction was faster
            error = failed
            await run(UNDO)
            continue
        except ActiveChanged as changed:
            error = changed
            await run(UNDO)
            sql = sql.at(check_active(changed.active, f"schema {sql.schema!r}"))
            continue
        except psycopg.Error as failed:
            if not connection.closed:
                await run(UNDO)
            raise translated(failed, sql.schema) from failed
        except BaseException:
            await run(UNDO)
            raise
        assert embedded.answer is not None
        return embedded.answer
    raise translated(error, sql.schema) if isinstance(error, psycopg.Error) else Unavailable(error)


def _check_connection(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    if connection.autocommit and connection.info.transaction_status == pq.TransactionStatus.IDLE:
        raise ValueError("the connection has no open transaction; begin one first")
    if connection.pgconn.pipeline_status != pq.PipelineStatus.OFF:
        raise ValueError(
            "the connection is in pipeline mode, in which a statement cannot wait for an answer"
        )
    if connection.info.encoding != "utf-8":
        raise ValueError(f"client_encoding is {connection.info.encoding}, it must be UTF8")


def _prepare_cursor(cursor: psycopg.AsyncCursor[Any] | psycopg.Cursor[Any]) -> None:
    """Make a cursor return plain binary rows, whatever the caller's connection is set to."""
    cursor.format = pq.Format.BINARY
    cursor.adapters.register_dumper(Texts, TextsDumper)
    cursor.adapters.register_dumper(Bigints, BigintsDumper)
