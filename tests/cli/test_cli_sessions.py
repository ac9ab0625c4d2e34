"""`tenure sessions`: by label, parent, phase and creation, page after page, also beside a session that cannot be read."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cli_process import tenure

from tenure.commands import Child, Fork, NewProfile, Open, Retire
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.fixtures import ManualClock

STORE = ("--store", "sqlite:a.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(fill(tmp_path))
    return tmp_path


async def fill(folder: Path) -> None:
    clock = ManualClock()
    store = SqliteStore(folder / "a.db", clock=clock)
    try:
        for at, (name, profile) in enumerate(
            {
                "plain": None,
                "root": NewProfile("the plan", (("team", "red"),)),
                "kid": NewProfile(labels=(("team", "red"),), relation=Child("root", "r1")),
                "copy": NewProfile(relation=Fork("root", "r1:1:0:0"), data="{}"),
                "blue": NewProfile(labels=(("team", "blue"),)),
            }.items()
        ):
            clock.now_ms = 1_000 + at
            await store.execute(Open(name, profile))
        await store.execute(Retire("kid", "c"))
    finally:
        await store.aclose()


def listed(folder: Path, *options: str, code: int = 0) -> list[Any]:
    """The ids in their order; the last one is a cursor if there are more."""
    ran = tenure("sessions", *STORE, *options, cwd=folder)
    assert ran.code == code, ran.err
    return [line.get("session", line.get("after")) for line in ran.lines]


def test_sessions_are_found_by_what_people_know_them_by(folder: Path) -> None:
    lines = tenure("sessions", *STORE, "--parent", "root", cwd=folder).lines

    assert [line["relation"] for line in lines] == [
        {"kind": "child", "parent": "root", "cause": "r1"},
        {"kind": "fork", "origin": "root", "node": "r1:1:0:0"},
    ]
    assert listed(folder) == ["blue", "copy", "kid", "plain", "root"]
    assert listed(folder, "--label", "team=red") == ["root", "kid"]
    assert listed(folder, "--label", "team=red", "--phase", "open") == ["root"]
    assert listed(folder, "--label", "team=red", "--parent", "root") == ["kid"]
    assert listed(folder, "--newest") == ["blue", "copy", "kid", "root"]


def test_a_list_goes_on_where_the_one_before_has_ended(folder: Path) -> None:
    assert listed(folder, "--limit", "2") == ["blue", "copy", "copy"]
    assert listed(folder, "--limit", "9", "--after", "copy") == ["kid", "plain", "root"]
    assert listed(folder, "--newest", "--limit", "3") == ["blue", "copy", "kid", "1002/kid"]
    assert listed(folder, "--newest", "--after", "1002/kid") == ["root"]
    assert listed(folder, "--newest", "--after", "kid", code=2) == []


def test_a_session_that_cannot_be_read_is_left_out(folder: Path) -> None:
    with sqlite3.connect(folder / "a.db") as db:
        db.execute("UPDATE session SET phase = 'gone' WHERE session_id = 'kid'")

    assert listed(folder, code=1) == ["blue", "copy", "plain", "root"]
    assert listed(folder, "--label", "team=red", code=1) == ["root"]
