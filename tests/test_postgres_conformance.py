"""PostgreSQL passes the suite that is shipped for stores."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from pg_server import drop, shared

from tenure_drivers.conformance import Opener, StoreConformance
from tenure_drivers.postgres import PostgresStore

NUMBERS = itertools.count()


@pytest.mark.postgres
class TestPostgres(StoreConformance):
    @pytest.fixture
    def opener(self) -> Iterator[Opener]:
        database, schema = shared(), f"conformance_{os.getpid()}_{next(NUMBERS)}"
        yield lambda clock: PostgresStore(database, schema=schema, clock=clock)
        drop(database, schema)


@pytest.mark.postgres
class TestPostgresBehindAPooler(TestPostgres):
    """Without prepared statements, in groups of three."""

    @pytest.fixture
    def opener(self) -> Iterator[Opener]:
        database, schema = shared(), f"pooled_{os.getpid()}_{next(NUMBERS)}"
        yield lambda clock: PostgresStore(
            database, schema=schema, clock=clock, prepare=False, group_max=3
        )
        drop(database, schema)
