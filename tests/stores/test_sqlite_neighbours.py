"""Several processes on one SQLite file: none starves, and a killed process does not affect the others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from bench.starvation import starvation
from paths import SUPPORT
from sqlite_child import Append

from tenure.records import Blob
from tenure_drivers.stores.sqlite.store import SqliteStore

CHILD = SUPPORT / "sqlite_child.py"
RENEWALS = 60
GROUPS_MEAN = (
    3  # measured: below 1; where the waiting sleeps 100 ms, as SQLite does by itself, 5 to 50
)


def test_a_renewal_succeeds_beside_a_process_that_writes_all_the_time(
    tmp_path: Path,
) -> None:
    waits = asyncio.run(starvation(tmp_path / "store.db", RENEWALS))

    assert sum(waits.groups) <= RENEWALS * GROUPS_MEAN, waits


@pytest.mark.parametrize("statement", (2, 3, 4, 5, 47))
def test_a_killed_process_does_not_affect_the_others(tmp_path: Path, statement: int) -> None:
    """The process is killed before its n-th statement: BEGIN, a read, a write or COMMIT."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    mine = 0
    with subprocess.Popen(
        [sys.executable, str(CHILD), "killed_among_others", str(path), "other", str(statement)],
        stdout=subprocess.PIPE,
        text=True,
    ) as dying:
        while dying.poll() is None or mine < 30:
            store.execute_now(Append("shared", "d", f"mine:{mine} "))
            mine += 1
        assert dying.stdout is not None
        answered = len(dying.stdout.read().splitlines())
    store.close()

    again = SqliteStore(path)  # with whatever the dead has left
    (text,) = [r.body for r in again.dump_now() if isinstance(r, Blob)]
    again.close()
    words = text.split()
    theirs = [word for word in words if word.startswith("other:")]
    assert [w for w in words if w.startswith("mine:")] == [f"mine:{at}" for at in range(mine)]
    assert theirs == [f"other:{at}" for at in range(len(theirs))]
    assert answered <= len(theirs) <= answered + 1
