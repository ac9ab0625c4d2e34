"""A PostgreSQL server to measure on, and an empty database of it for each case."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote, urlencode

from .children import SUPPORT
from .measure import Missing


class Databases:
    """Databases of one server, made and dropped."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        self._connection = psycopg.connect(dsn, autocommit=True)
        self._parameters = {**psycopg.conninfo.conninfo_to_dict(dsn)}
        self._numbers = itertools.count()

    def version(self) -> str:
        return str(self._ask("show server_version").split()[0])

    def settings(self) -> dict[str, str]:
        names = ("fsync", "synchronous_commit", "shared_buffers", "max_connections")
        return {name: self._ask(f"show {name}") for name in names}

    def _ask(self, sql: str) -> Any:
        row = self._connection.execute(cast(Any, sql)).fetchone()
        assert row is not None
        return row[0]

    def written(self) -> int:
        """Bytes of the write-ahead log so far, of the whole server: nobody else may use it meanwhile."""
        return int(self._ask("select pg_current_wal_insert_lsn() - '0/0'"))

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty one."""
        name = f"bench_{os.getpid()}_{next(self._numbers)}"
        self._connection.execute(cast(Any, f"create database {name}"))
        try:
            yield self._url(name)
        finally:
            self._connection.execute(cast(Any, f"drop database {name} with (force)"))

    def _url(self, name: str) -> str:
        rest = dict(self._parameters)
        host, port = rest.pop("host", ""), rest.pop("port", "")
        user, password = rest.pop("user", ""), rest.pop("password", "")
        rest.pop("dbname", None)
        who = quote(str(user), "") + (f":{quote(str(password), '')}" if password else "")
        query = {**rest, "host": host} if str(host).startswith("/") else rest
        at = "" if "host" in query else f"{host}{f':{port}' if port else ''}"
        if "host" in query and port:
            query["port"] = port
        return f"postgresql://{who}{'@' if who else ''}{at}/{name}" + (
            f"?{urlencode(query)}" if query else ""
        )

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def databases(dsn: str | None) -> Iterator[Databases]:
    """On the server that is named, or on one of our own that dies with us."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise Missing("psycopg is not installed: install the extra 'test'") from None
    with contextlib.ExitStack() as stack:
        if dsn is None:
            if str(SUPPORT) not in sys.path:
                sys.path.insert(0, str(SUPPORT))  # where pytest finds it too
            import pg_server

            if why := pg_server.missing():
                raise Missing(why)
            dsn = stack.enter_context(pg_server.server()).dsn
        found = Databases(dsn)
        stack.callback(found.close)
        yield found
