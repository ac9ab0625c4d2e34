"""A session whose rows do not fit together is put into quarantine, on every store (STORE-47)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenure.questions.core import LoadRun
from tenure.worker.protocol import HeldLeases
from tenure_drivers.stores.base import Corrupt, Inconsistent, Unusable
from tenure_drivers.stores.registry import open_store
from tenure_drivers.testing.conformance import asynchronous
from tenure_drivers.testing.fixtures import Explode, Put, begin, prompt

URLS = ("memory:", "sqlite:{}/a.db", "files:{}/f")


@pytest.fixture(params=URLS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return open_store(request.param.format(tmp_path))


async def quarantined(store: Any) -> dict[str, str]:
    return {aside.session_id: aside.reason for aside in await store.quarantined()}


WRONG: dict[str, Callable[[], Any]] = {
    "Explode: ZeroDivisionError": lambda: Explode("b"),
    "Put: update of what does not exist": lambda: Put("b", "d", "text", wrong=True),
}


@asynchronous
@pytest.mark.parametrize("why", WRONG)
async def test_a_session_whose_command_cannot_be_carried_out_is_left_alone(
    store: Any, why: str
) -> None:
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "abc"])

    answers = await asyncio.gather(
        store.execute(prompt("a", 2)), store.execute(WRONG[why]()), return_exceptions=True
    )

    assert [isinstance(answer, Inconsistent) for answer in answers] == [False, True]
    found = await quarantined(store)
    assert list(found) == ["b"]
    assert found["b"].startswith("the rows of session 'b' do not fit together: "), found
    assert why.split(": ")[0] in found["b"]
    assert {due.session_id for due in await store.due(9)} == {"a", "c"}

    await store.readmit("b")

    assert await store.quarantined() == ()
    assert {due.session_id for due in await store.due(9)} == {"a", "b", "c"}
    await store.aclose()


@asynchronous
async def test_a_lease_of_a_session_in_quarantine_is_not_found(store: Any) -> None:  # STORE-49
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "abc"])
    await asyncio.gather(*[store.execute(begin(s, 1)) for s in "abc"])

    async def page(limit: int) -> list[str]:
        return [session.session_id for session in await store.ask(HeldLeases(limit=limit))]

    with pytest.raises(Inconsistent):
        await store.execute(Explode("b"))

    assert sorted(await page(9)) == ["a", "c"]
    assert len(await page(2)) == 2
    await store.readmit("b")
    assert sorted(await page(9)) == ["a", "b", "c"]
    await store.aclose()


@asynchronous
async def test_a_run_without_its_input_puts_its_session_into_quarantine(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:{tmp_path}/a.db")
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "ab"])
    begun = await store.execute(begin("a", 1))
    change(tmp_path, "DELETE FROM input WHERE session_id = 'a'")

    with pytest.raises(Inconsistent, match="LoadRun: no input a-1 of run"):
        await store.ask(LoadRun("a", begun.run_id))

    assert list(await quarantined(store)) == ["a"]
    await store.aclose()


@asynchronous
async def test_a_number_at_its_maximum_puts_its_session_into_quarantine(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:{tmp_path}/a.db")
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "ab"])
    change(tmp_path, f"UPDATE session SET generation = {2**63 - 1} WHERE session_id = 'a'")

    answers = await asyncio.gather(
        *[store.execute(begin(s, 1)) for s in "ab"], return_exceptions=True
    )

    assert [isinstance(answer, Inconsistent) for answer in answers] == [True, False]
    assert list(await quarantined(store)) == ["a"]
    await store.aclose()


@asynchronous
async def test_a_state_without_a_needed_value_is_corrupt(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:{tmp_path}/a.db")
    await store.execute(prompt("a", 1))
    change(tmp_path, "UPDATE queue_entry SET mark = NULL, ready_rank = NULL")

    with pytest.raises(Corrupt, match="queue_entry .* cannot be read: .*NULL"):
        await store.dump()
    await store.aclose()


@asynchronous
async def test_a_text_that_is_not_utf_8_is_corrupt_and_blocks_nobody(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:{tmp_path}/a.db")
    await asyncio.gather(*[store.execute(prompt(s, 1)) for s in "abc"])
    change(tmp_path, "UPDATE session SET frame = CAST(x'61ff' AS TEXT) WHERE session_id = 'a'")
    change(tmp_path, "UPDATE session SET session_id = CAST(x'ff' AS TEXT) WHERE session_id = 'c'")

    answers = await asyncio.gather(
        *[store.execute(begin(s, 1)) for s in "ab"], return_exceptions=True
    )

    assert [isinstance(answer, Corrupt) for answer in answers] == [True, False]
    assert str(answers[0]) == "session ('a',) cannot be read: not UTF-8: frame"
    assert list(await quarantined(store)) == ["a"]
    assert await store.due(9) == ()
    change(tmp_path, "UPDATE session SET frame = '' WHERE session_id = 'a'")
    with pytest.raises(Corrupt, match="not UTF-8: session_id"):
        await store.dump()
    await store.aclose()


@asynchronous
async def test_a_trigger_that_refuses_a_write_makes_the_store_unusable(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:{tmp_path}/a.db")
    await store.execute(prompt("a", 1))
    change(
        tmp_path,
        "CREATE TRIGGER t BEFORE INSERT ON run BEGIN SELECT RAISE(ABORT, 'not here'); END",
    )

    with pytest.raises(Unusable, match="a trigger refuses a write: not here"):
        await store.execute(begin("a", 1))

    assert await store.quarantined() == ()
    await store.aclose()


def change(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "a.db")) as connection, connection:
        connection.execute(sql)
