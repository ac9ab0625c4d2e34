"""Several statements in one round trip, with functions of `psycopg.generators`.

psycopg's own pipeline sends a Flush after its last Sync.  After that the server's `idle_in_transaction_session_timeout`
does not run, so a process that was stopped within a transaction would keep its locks.  This also takes half the time.

The functions are not documented by psycopg; tests/stores/test_borrowed_internals.py names the versions that were
checked.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many, pipeline_communicate, send

from .sql import BIGINT_ARRAY, TEXT_ARRAY, Bigints, Texts, packed_bigints, packed_texts

__all__ = ["Pipeline", "Rows", "Statement"]


Statement: TypeAlias = tuple[str, Sequence[Any]]
Rows: TypeAlias = tuple[Sequence[Any], int]  # the rows of a statement, and how many it changed

MARK = re.compile(r"%[sb]")
BINARY, TEXT = 1, 0
ANSWER_S = 60.0  # longer than the server's statement_timeout

T = TypeVar("T")


def numbered(text: str) -> bytes:
    """Replace `%s` and `%b` by $1, $2, ..."""
    parts = MARK.split(text)
    found = parts[0]
    for number, part in enumerate(parts[1:], 1):
        found += f"${number}{part}"
    return found.encode()


def parameter(value: Any) -> tuple[bytes, int, int]:
    """Return the content, type and format of a parameter."""
    kind = value.__class__
    if kind is Texts:
        return packed_texts(value), TEXT_ARRAY, BINARY
    if kind is Bigints:
        return packed_bigints(value), BIGINT_ARRAY, BINARY
    return str(value).encode(), 0, TEXT


class Pipeline:
    """Runs statements over a connection; each is prepared once, unless `prepare` is off."""

    def __init__(self, connection: psycopg.Connection[Any], prepare: bool) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._prepare = prepare
        self._texts: dict[str, bytes] = {}
        self._names: dict[str, bytes] = {}
        self._rows = Transformer(connection)

    def run(self, statements: Sequence[Statement]) -> list[Rows]:
        """Run all statements.  Raises psycopg.Error for the first that fails; later ones are not executed."""
        commands, named = self._commands(statements)
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        try:
            exchange = _communicate(pgconn, commands, len(commands))
            answered = self._connection.wait(_bounded(exchange, ANSWER_S))
            pgconn.exit_pipeline_mode()
        except BaseException:
            self._connection.close()  # answers may still arrive
            raise
        found: list[Rows] = []
        at = 0
        for text, _ in statements:
            if text in named:
                self._checked(answered[at])
                self._names[text] = named.pop(text)
                at += 1
            found.append(self._rows_of(answered[at]))
            at += 1
        return found

    def _commands(
        self, statements: Sequence[Statement]
    ) -> tuple[deque[Callable[[], None]], dict[str, bytes]]:
        commands: deque[Callable[[], None]] = deque()
        named: dict[str, bytes] = {}
        pgconn = self._pgconn
        for text, values in statements:
            sql = self._texts.get(text)
            if sql is None:
                sql = self._texts[text] = numbered(text)
            content: list[bytes] = []  # psycopg 3.2 in C takes lists only
            types: list[int] = []
            formats: list[int] = []
            for value in values:
                data, oid, format_ = parameter(value)
                content.append(data)
                types.append(oid)
                formats.append(format_)
            if self._prepare:
                name = self._names.get(text) or named.get(text)
                if name is None:
                    name = named[text] = b"tenure%d" % (len(self._names) + len(named))
                    commands.append(_prepare(pgconn, name, sql, types))
                commands.append(_execute(pgconn, name, content, formats))
            else:
                commands.append(_query(pgconn, sql, content, types, formats))
        commands.append(pgconn.pipeline_sync)
        return commands, named

    def _checked(self, results: Sequence[Any]) -> Any:
        result = results[-1]
        status = result.status
        if status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            if status == pq.ExecStatus.PIPELINE_ABORTED:
                raise psycopg.OperationalError("an earlier statement failed")
            raise error_from_result(result)
        return result

    def _rows_of(self, results: Sequence[Any]) -> Rows:
        result = self._checked(results)
        if result.status != pq.ExecStatus.TUPLES_OK:
            return (), result.command_tuples or 0
        self._rows.set_pgresult(result)
        return self._rows.load_rows(0, result.ntuples, tuple), result.ntuples


def _prepare(
    pgconn: pq.abc.PGconn, name: bytes, sql: bytes, types: Sequence[int]
) -> Callable[[], None]:
    return lambda: pgconn.send_prepare(name, sql, types)


def _execute(
    pgconn: pq.abc.PGconn, name: bytes, content: Sequence[bytes], formats: Sequence[int]
) -> Callable[[], None]:
    return lambda: pgconn.send_query_prepared(name, content, formats, result_format=BINARY)


def _query(
    pgconn: pq.abc.PGconn, sql: bytes, content: Sequence[bytes], types: Sequence[int],
    formats: Sequence[int],
) -> Callable[[], None]:  # fmt: skip
    return lambda: pgconn.send_query_params(
        sql, content, param_types=types, param_formats=formats, result_format=BINARY
    )


def _bounded(exchange: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """Raise after a time without an answer: the server may be dead, or a commit waits for a standby that is."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(exchange)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise psycopg.OperationalError(f"the server has not answered for {seconds:g} s")
            wanted = exchange.send(ready)
    except StopIteration as stop:
        found: T = stop.value
        return found


def _communicate(
    pgconn: pq.abc.PGconn, commands: deque[Callable[[], None]], count: int
) -> Generator[Any, Any, list[list[Any]]]:
    """Return the results of each command; the last is that of the Sync."""
    answered: list[list[Any]] = yield from pipeline_communicate(pgconn, commands)
    yield from send(pgconn)  # the rest, if the socket's buffer was full
    while len(answered) < count:
        more = yield from fetch_many(pgconn)
        if more:
            answered.append(more)
    return answered
