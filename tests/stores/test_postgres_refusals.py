"""PostgreSQL: what a person has to change is refused at once, and what changes under an open store is noticed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli_process import HELLO, prompts, tenure
from pg_server import drop, server, shared
from psycopg.conninfo import conninfo_to_dict

from tenure.questions.core import LoadOverview
from tenure_drivers.stores.base import Unusable
from tenure_drivers.stores.postgres.store import PostgresStore
from tenure_drivers.testing.fixtures import asynchronous, begin, prompt

pytestmark = pytest.mark.postgres

NUMBERS = itertools.count()


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"refusals_{os.getpid()}_{next(NUMBERS)}"
    yield name
    drop(shared(), name)


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """A server that asks one user for a password, with databases of other encodings; its host."""
    with server() as found:
        with psycopg.connect(found.dsn, autocommit=True) as asking:
            for name, encoding in (("latin", "LATIN1"), ("plain", "SQL_ASCII")):
                asking.execute(
                    f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' "
                    "TEMPLATE template0".encode()
                )
            asking.execute("CREATE ROLE poor LOGIN")
            asking.execute("CREATE ROLE secret LOGIN PASSWORD 'right'")
            row = asking.execute("SELECT pg_read_file('pg_hba.conf')").fetchone()
            assert row is not None
            rules = f"local all secret scram-sha-256\n{row[0]}"
            (found.data / "c" / "pg_hba.conf").write_text(rules)
            asking.execute("SELECT pg_reload_conf()")
        yield str(conninfo_to_dict(found.dsn)["host"])


REFUSED = {
    "no database": ("tenure@/nowhere", 4, 'FATAL:  database "nowhere" does not exist'),
    "no role": ("nobody@/postgres", 4, 'FATAL:  role "nobody" does not exist'),
    "no permission": ("poor@/postgres", 4, "permission denied for database postgres"),
    "a wrong password": (
        "secret:wrong@/postgres",
        4,
        'FATAL:  password authentication failed for user "secret"',
    ),
    "no password": ("secret@/postgres", 4, "no password supplied"),
    "another encoding": (
        "tenure@/latin",
        2,
        "database 'latin' has the encoding LATIN1, expected UTF8: create another one with ENCODING",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_person_has_to_change_is_said_at_once_in_one_line(  # STORE-46
    strict: str, tmp_path: Path, name: str
) -> None:
    where, code, why = REFUSED[name]
    prompts(tmp_path / "p", [HELLO])
    url = f"postgresql://{where}?host={strict}"

    ran = tenure("run", "--store", url, "--agent", "echo", "--patience", "600", "p", cwd=tmp_path)

    assert (ran.code, ran.out, len(ran.err.splitlines())) == (code, "", 1)
    assert why in ran.err and "wrong@" not in ran.err


def test_a_wrong_password_is_unusable(strict: str) -> None:
    with pytest.raises(Unusable, match="password authentication failed"):
        PostgresStore(f"postgresql://secret:wrong@/postgres?host={strict}")


@asynchronous
async def test_a_database_without_an_encoding_holds_any_text(strict: str) -> None:
    store = PostgresStore(f"postgresql://tenure@/plain?host={strict}")

    await store.execute(prompt("s", 1, "é 日本 \U0001f600"))

    found: Any = await store.dump()
    assert [r.payload for r in found if hasattr(r, "payload")] == ["é 日本 \U0001f600"]
    await store.aclose()


# -- the schema changes under an open store


@pytest.mark.parametrize("prepare", (True, False))
def test_a_column_may_change_its_type_under_an_open_store(schema: str, prepare: bool) -> None:
    """A plan that the server caches for a connection fails after that, so the statement is prepared anew."""
    change_type(schema, prepare)


@asynchronous
async def change_type(schema: str, prepare: bool) -> None:
    store = PostgresStore(shared(), schema=schema, prepare=prepare)
    await store.execute(prompt("s", 1))
    await store.execute(begin("s", 1))
    assert (await store.ask(LoadOverview("s"))) is not None

    for table, column in (("session", "frame"), ("input", "source"), ("run", "lane")):
        with psycopg.connect(shared(), autocommit=True) as other:
            other.execute(
                f'ALTER TABLE "{schema}".{table} ALTER COLUMN {column} TYPE varchar(300)'.encode()
            )
        assert (await store.ask(LoadOverview("s"))) is not None
        await store.execute(prompt("s", 2))
        assert len(await store.due(10)) <= 1

    await store.aclose()
