"""The connection of `rows:` to PostgreSQL.  Needs the extra `postgres`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import errors, sql

from ..stores.base import Unusable
from ..stores.postgres.connection import translated
from .rows import TABLES

__all__ = ["PostgresDatabase"]


CONNECT_TIMEOUT_S: Final = 10
LOCK: Final = "tables of tenure for attachments"


class PostgresDatabase:
    """A connection to the schema of a store, opened again when it is broken.

    Raises Unusable with the statements to run if the tables are missing and may not be made.
    """

    def __init__(self, dsn: str, schema: str = "tenure", *, prepare: bool = True) -> None:
        self._dsn, self._schema, self._prepare = dsn, schema, prepare
        self._connection: psycopg.Connection[Any] | None = None
        self._ready = False

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            connection = self._open()
            if not self._ready:
                self._make(connection)
            return self._run(connection, statement, values)
        except psycopg.Error as error:
            self.close()
            found = translated(error, f"schema {self._schema!r}")
            if found is error:
                raise
            raise found from error

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
            )
            if not self._prepare:
                self._connection.prepare_threshold = None
        return self._connection

    def _run(
        self, connection: psycopg.Connection[Any], statement: str, values: Sequence[object] = ()
    ) -> list[tuple[Any, ...]]:
        at = sql.Identifier(self._schema).as_string(connection) + "."
        text = statement.replace("?", "%s").replace("{at}", at).replace("{bytes}", "BYTEA")
        done = connection.execute(text.encode(), values)
        return done.fetchall() if done.description else []

    def _make(self, connection: psycopg.Connection[Any]) -> None:
        found = self._run(
            connection,
            "SELECT count(*) FROM pg_tables WHERE schemaname = ?"
            " AND tablename IN ('attachment_bytes', 'attachment_piece')",
            (self._schema,),
        )
        if found != [(len(TABLES),)]:
            try:
                with (
                    connection.transaction()
                ):  # CREATE IF NOT EXISTS fails where another one is at it
                    self._run(connection, "SELECT pg_advisory_xact_lock(hashtext(?))", (LOCK,))
                    for table in TABLES:
                        self._run(connection, table)
            except errors.InsufficientPrivilege as error:
                by_hand = "; ".join(TABLES).format(at=f"{self._schema}.", bytes="BYTEA")
                raise Unusable(
                    f"schema {self._schema!r} has no tables for attachments, and this user may not make them; "
                    f"run as its owner: {by_hand}"
                ) from error
        self._ready = True
