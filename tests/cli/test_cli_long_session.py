"""A long session is imported, forked, exported and restored by processes that are killed on the way; it reads back equal."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
from cli_process import DEADLINE_S, prompts, start, tenure, until

from tenure.messages.codec import decode
from tenure.questions import LoadPage
from tenure_drivers.stores.registry import open_store

LONG = "TENURE_TEST_LONG"
long = pytest.mark.skipif(not os.environ.get(LONG), reason=f"takes minutes: set {LONG}")


@pytest.mark.parametrize(
    ("nodes", "kills"),
    [
        (2_000, {"import": 1, "fork": 1, "restore": 1}),
        pytest.param(
            100_000,
            {"import": 3, "fork": 3, "export": 1, "restore": 3},
            marks=[long, pytest.mark.timeout(3_600)],
        ),
    ],
)
def test_a_session_survives_kills_on_its_way_through_every_copy(
    tmp_path: Path, nodes: int, kills: dict[str, int]
) -> None:
    roles = ("user", "assistant")
    said = [{"role": roles[n % 2], "content": f"{n} {'x' * 50}"} for n in range(nodes)]
    prompts(tmp_path / "said.jsonl", said)
    a, b = ("--store", "sqlite:a.db"), ("--store", "sqlite:b.db")
    steps: dict[str, tuple[tuple[str, ...], Callable[[], float]]] = {
        "import": (
            ("import", *a, "--from", "messages", "s", "said.jsonl"),
            lambda: stored(tmp_path / "a.db", "s") / nodes,
        ),
        "fork": (
            ("fork", *a, "s", "copy", "--whole"),
            lambda: stored(tmp_path / "a.db", "copy") / nodes,
        ),
        "export": (
            ("store", "export", *a, "all.jsonl"),
            lambda: 1.0 if list(tmp_path.glob("all.jsonl.*")) else 0.0,
        ),
        "restore": (
            ("store", "import", *b, "all.jsonl"),
            lambda: stored(tmp_path / "b.db") / nodes / 2,
        ),
    }
    killed = 0
    for name, (command, done) in steps.items():
        began = time.monotonic()
        for number in range(kills.get(name, 0)):
            killed += killed_at(tmp_path, command, done, (number + 0.5) / (kills[name] + 1))
        ended = tenure(*command, cwd=tmp_path)
        assert ended.code == 0, ended.err
        print(f"{name}: {time.monotonic() - began:.1f} s with {kills.get(name, 0)} kills")

    assert killed == sum(kills.values())
    texts = digest(each["content"] for each in said)
    assert asyncio.run(digests(tmp_path / "a.db", tmp_path / "b.db")) == [texts] * 4
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute("ATTACH ? AS b", (str(tmp_path / "b.db"),))
        for missing in ("main.node EXCEPT SELECT * FROM b", "b.node EXCEPT SELECT * FROM main"):
            assert db.execute(f"SELECT * FROM {missing}.node LIMIT 1").fetchall() == []
    checked = tenure("store", "check", *b, cwd=tmp_path)
    assert checked.code == 0, checked.out


def killed_at(
    folder: Path, command: tuple[str, ...], done: Callable[[], float], share: float
) -> bool:
    """Kill a process when this share of its work is done.  Return whether it was still at work."""
    process = start(*command, cwd=folder)
    until(lambda: done() >= share or process.poll() is not None)
    at_work = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return at_work


def stored(path: Path, session_id: str | None = None) -> int:
    """The number of nodes in a database that another process writes."""
    if not path.exists():
        return 0
    where, values = ("", ()) if session_id is None else (" WHERE session_id = ?", (session_id,))
    with closing(sqlite3.connect(path, timeout=DEADLINE_S)) as db:
        try:
            found = db.execute(f"SELECT count(*) FROM node{where}", values).fetchone()
        except sqlite3.OperationalError:
            return 0  # it is being made
    return int(found[0])


def digest(texts: Iterable[object]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(str(text).encode() + b"\0")
    return found.hexdigest()


async def digests(*paths: Path) -> list[str]:
    """The digest of the texts of each session and store, read page by page from the leaf."""
    found = []
    for path in paths:
        store = open_store(f"sqlite:{path}")
        for session_id in ("s", "copy"):
            texts: list[str] = []
            before: str | None = None
            while True:
                page = await store.ask(LoadPage(session_id, before=before, limit=1_000))
                assert page is not None
                texts += [line.node.body for line in reversed(page.lines)]
                before = page.before
                if before is None:
                    break
            found.append(digest(text_of(body) for body in reversed(texts)))
        await store.aclose()
    return found


def text_of(body: str) -> str:
    return decode(body).text
