"""PostgreSQL passes the suite that is shipped for stores."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from pg_server import dsn  # noqa: E402

from tenure_drivers.conformance import Opener, StoreConformance  # noqa: E402
from tenure_drivers.postgres import PostgresStore  # noqa: E402

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with dsn() as found:
        yield found


class TestPostgres(StoreConformance):
    @pytest.fixture
    def opener(self, database: str) -> Opener:
        schema = f"t{next(NUMBERS)}"
        return lambda clock: PostgresStore(database, schema=schema, clock=clock)
