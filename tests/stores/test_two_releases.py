"""This release and a made-up next one work on one store: before, during and after migration and activation.

The next release is a copy of the sources with the edits of specs/schema.md (`next_release`).  Its processes are started
with that copy on their path.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_process import TENURE
from next_release import NEXT, environment, make_next_release
from paths import SUPPORT
from pg_server import drop, needed, shared
from psycopg.conninfo import conninfo_to_dict
from stored_forms import FIXTURES

from tenure.commands import Admit, NewInput
from tenure.outcome import Refused
from tenure.release import RELEASE
from tenure_drivers.stores.base import SchemaTooNew
from tenure_drivers.stores.registry import open_store

CHILD = SUPPORT / "release_child.py"
SCHEMAS = itertools.count()
NOW, OLD = NEXT, RELEASE
PATIENCE_S = 60


@pytest.fixture(scope="module")
def next_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_next_release(tmp_path_factory.mktemp("next"))


@pytest.fixture(params=["files", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that does not exist yet."""
    if request.param == "postgres":
        with postgres_url() as found:
            yield found
    else:
        yield f"{request.param}:{tmp_path / 'store'}"


def store_of(kind: str, folder: Path) -> contextlib.AbstractContextManager[str]:
    """Return the URL of a store that several processes may open."""
    if kind == "sqlite":
        return contextlib.nullcontext(f"sqlite:{folder / 's.db'}")
    return postgres_url()


@contextlib.contextmanager
def postgres_url() -> Iterator[str]:
    needed()
    known, schema = conninfo_to_dict(shared()), f"release_{os.getpid()}_{next(SCHEMAS)}"
    host = str(known["host"]).replace("/", "%2F")
    yield f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"
    drop(shared(), schema)


class Process:
    """A process of one release that has the store open."""

    def __init__(self, url: str, sources: Path | None, migrate: str = "no") -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), url, migrate],
            env=environment(sources),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.opened = self.read()

    def read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def write(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def do(self, *words: str) -> Any:
        self.write(*words)
        return self.read()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def cli(sources: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tenure store ...` of a release."""
    return subprocess.run(
        [*TENURE, "store", *arguments],
        env=environment(sources),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def upgrade(url: str, sources: Path) -> None:
    """Migrate and activate the next release."""
    for command in ("migrate", "activate"):
        done = cli(sources, command, "--store", url)
        assert done.returncode == 0, done.stderr


# -- before activation


def test_the_next_release_writes_what_this_one_reads(url: str, next_sources: Path) -> None:
    """SCHEMA-1, SCHEMA-3, SCHEMA-4, SCHEMA-12."""
    with Process(url, None) as old:
        assert old.opened == {"release": OLD, "active": OLD}
        assert "Committed" in old.do("turn", "s", "1")["outcome"]

    with Process(url, next_sources) as new:
        assert new.opened == {"release": NOW, "active": OLD}
        assert "Committed" in new.do("turn", "s", "2")["outcome"]
        assert new.do("usage", "s") == [2000]
        for refused in (new.do("note", "s", "1"), new.do("bookmark", "s", "b")):
            assert refused["refused"] == "not_active" and f"release {NOW}" in refused["detail"]
        assert new.do("mood", "s", "1") is None  # accepted, and left out
        assert new.do("notes", "s") == [] and new.do("bookmarks", "s") == []
        assert new.do("check") == []

    with Process(url, None) as old:
        assert old.do("usage", "s") == [2]
        assert "Committed" in old.do("turn", "s", "3")["outcome"]
        assert old.do("check") == [] and old.do("usage", "s") == [3]


def test_a_store_in_memory_works_at_either_release(next_sources: Path) -> None:
    with Process("memory:", next_sources, str(OLD)) as new:
        assert new.opened == {"release": NOW, "active": OLD}
        assert "Committed" in new.do("turn", "s", "1")["outcome"]
        assert new.do("note", "s", "1")["refused"] == "not_active"
        assert new.do("mood", "s", "1") is None and new.do("bookmarks", "s") == []
    with Process("memory:", next_sources, str(NOW)) as new:
        assert "Committed" in new.do("turn", "s", "1")["outcome"]
        assert "Admitted" in new.do("note", "s", "1")["outcome"]
        assert "1" in new.do("bookmark", "s", "b")["outcome"] and new.do("check") == []


def test_opening_a_store_of_the_release_before_says_what_to_run(
    tmp_path: Path, next_sources: Path
) -> None:
    url = f"sqlite:{tmp_path / 's.db'}"
    open_store(url).close()  # type: ignore[attr-defined]

    opened = subprocess.run(
        [sys.executable, str(CHILD), url, "no"],
        env=environment(next_sources),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )

    (line,) = opened.stderr.splitlines()
    assert f"release {OLD} is active, this is release {NOW}: run `tenure store migrate`" in line


def test_a_store_that_others_have_open_is_not_migrated(
    url: str, next_sources: Path, request: pytest.FixtureRequest
) -> None:
    """SCHEMA-10."""
    if url.startswith("files"):
        pytest.skip("a folder has one process")
    with Process(url, None) as old:
        old.do("turn", "s", "1")
        with Process(url, next_sources, "auto") as new:
            assert new.opened["active"] == OLD
            assert "Committed" in new.do("turn", "s", "2")["outcome"]
        assert "Committed" in old.do("turn", "s", "3")["outcome"]


# -- migration and activation


def test_migrating_and_activating_while_this_release_works(url: str, next_sources: Path) -> None:
    """SCHEMA-5 to SCHEMA-8."""
    if url.startswith("files"):
        pytest.skip("a folder has one process")
    with Process(url, None) as old, Process(url, next_sources) as new:
        assert old.opened["active"] == new.opened["active"] == OLD
        old.do("turn", "s", "1")
        too_early = cli(next_sources, "activate", "--store", url)
        assert too_early.returncode == 1 and "run `tenure store migrate` first" in too_early.stderr

        shown = cli(next_sources, "migrate", "--store", url, "--dry-run").stdout
        assert old.do("numbers")[2] == []
        assert new.do("numbers")[:2] == [OLD, OLD]
        done = cli(next_sources, "migrate", "--store", url)

        assert done.returncode == 0 and done.stdout == shown
        for part in ("bookmark", "note", "row_version", "input_note"):
            assert part in shown
        assert f"release {OLD} is active" in done.stderr
        assert new.do("numbers") == [NOW, OLD, []]
        assert "Committed" in old.do("turn", "s", "2")["outcome"]
        assert "Committed" in new.do("turn", "s", "3")["outcome"]
        assert new.do("note", "s", "0")["refused"] == "not_active"

        assert cli(next_sources, "activate", "--store", url).returncode == 0

        for name in (("turn", "s", "4"), ("usage", "s"), ("check",), ("due",)):
            assert old.do(*name)["error"] == "SchemaTooNew"
        assert "Admitted" in new.do("note", "s", "1")["outcome"]
        assert "1" in new.do("bookmark", "s", "b")["outcome"]
        assert new.do("notes", "s") == ["note"] or new.do("notes", "s") == ["note 1"]
        assert new.do("bookmarks", "s") == ["b"]
        assert new.do("usage", "s") == [3000]
        assert new.do("check") == []
    with Process(url, None) as old:
        assert old.opened["error"] == "SchemaTooNew" and "upgrade tenure" in old.opened["text"]


def test_a_store_opened_alone_is_brought_forward(url: str, next_sources: Path) -> None:
    """SCHEMA-10."""
    with Process(url, None) as old:
        old.do("turn", "s", "1")
    if url.startswith("postgresql"):
        upgrade(url, next_sources)

    with Process(url, next_sources, "auto") as new:
        assert new.opened == {"release": NOW, "active": NOW}
        assert new.do("usage", "s") == [1000]
        assert "Committed" in new.do("turn", "s", "2")["outcome"]
        assert new.do("usage", "s") == [2000] and new.do("check") == []
        assert "Admitted" in new.do("note", "s", "1")["outcome"]
        assert new.do("mood", "s", "1") == "good"
    with Process(url, next_sources) as new:
        assert new.do("notes", "s") and new.do("check") == []
    with Process(url, None) as old:
        assert old.opened["error"] == "SchemaTooNew"


def test_a_folder_keeps_its_rows_when_a_log_without_transactions_is_activated(
    tmp_path: Path, next_sources: Path
) -> None:
    url = f"files:{tmp_path / 'store'}"
    open_store(url).close()  # type: ignore[attr-defined]

    with Process(url, next_sources, "auto") as new:
        assert new.opened["active"] == NOW and "Admitted" in new.do("note", "s", "1")["outcome"]
    with Process(url, next_sources, "auto") as new:
        assert len(new.do("notes", "s")) == 1


def test_the_fixtures_of_this_release_go_through_an_upgrade(
    tmp_path: Path, next_sources: Path
) -> None:
    for number in sorted(path.parent.name for path in FIXTURES.glob("*/export.jsonl")):
        copy = tmp_path / number
        shutil.copytree(FIXTURES / number, copy)
        for url in (f"files:{copy / 'files'}", f"sqlite:{copy / 'store.sqlite'}"):
            with Process(url, next_sources, "auto") as new:
                assert new.opened == {"release": NOW, "active": NOW}
                assert new.do("check") == [] and all(new.do("known"))
                assert "Committed" in new.do("turn", "fresh", "1")["outcome"]
            with Process(url, None) as old:
                assert old.opened["error"] == "SchemaTooNew"


def test_exports_go_from_each_release_to_the_next(
    url: str, next_sources: Path, tmp_path: Path
) -> None:
    """SCHEMA-11."""
    file, back, newest = (str(tmp_path / name) for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    with Process(url, None) as old:
        old.do("turn", "s", "1")
    assert cli(None, "export", "--store", url, file).returncode == 0

    assert cli(next_sources, "export", "--store", url, back).returncode == 0
    assert Path(back).read_text() == Path(file).read_text()

    upgrade(url, next_sources)
    with Process(url, next_sources) as new:
        new.do("note", "s", "1")
    assert cli(next_sources, "export", "--store", url, newest).returncode == 0
    for name, rows in (("second", file), ("third", newest)):
        other = f"sqlite:{tmp_path / name}"
        assert cli(next_sources, "import", "--store", other, rows).returncode == 0
    refused = cli(None, "import", "--store", f"sqlite:{tmp_path / 'fourth'}", newest)
    assert refused.returncode == 2
    assert f"an export of release {NOW}, this is release {OLD}: upgrade tenure" in refused.stderr


# -- two releases ahead


@pytest.fixture(scope="module")
def after_next_sources(next_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = Path(
        shutil.copytree(next_sources, tmp_path_factory.mktemp("later"), dirs_exist_ok=True)
    )
    (number,) = sources.rglob("tenure/release.py")
    text = number.read_text(encoding="utf-8")
    later = text.replace(f"RELEASE: Final = {NOW}\n", f"RELEASE: Final = {NOW + 1}\n")
    assert later != text
    number.write_text(later, encoding="utf-8")
    return sources


def test_a_release_that_is_two_ahead_reads_and_refuses_to_work(
    url: str, after_next_sources: Path, tmp_path: Path
) -> None:
    """SCHEMA-1."""

    def tenure(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TENURE, *words],
            env=environment(after_next_sources),
            capture_output=True,
            text=True,
            input='{"session": "t", "text": "hello"}\n',
            timeout=PATIENCE_S,
        )

    with Process(url, None) as old:
        old.do("turn", "s", "1")
        if not url.startswith("files"):  # alone, a later release would bring the store forward
            for words in (["run", "--agent", "echo"], ["store", "fence-all"], ["store", "import"]):
                refused = tenure(*words, "--store", url)
                assert refused.returncode in (2, 4) and "Traceback" not in refused.stderr
                if words[1] != "import":
                    assert f"release {OLD} is active" in refused.stderr, refused.stderr
    at = ("--store", url)
    for reading in (
        ["inspect", *at], ["inspect", *at, "s"], ["show", *at, "s"], ["events", *at, "s"],
        ["store", "check", *at], ["store", "export", *at, str(tmp_path / "rows")],
    ):  # fmt: skip
        done = tenure(*reading)
        assert done.returncode == 0, done.stderr


# -- interruptions


def worked(url: str, at: object) -> str | None:
    """This release works on a session of its own; return the name of the error if it cannot."""
    try:
        store: Any = open_store(url)
    except SchemaTooNew as error:
        return type(error).__name__
    answer = store.execute_now(Admit(f"s{at}", (NewInput("i", "prompt", "hello"),)))
    assert not isinstance(answer, Refused), answer
    store.close()
    return None


KINDS = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)


@KINDS
def test_a_migration_killed_before_any_statement_leaves_a_store_for_both(
    kind: str, next_sources: Path, tmp_path: Path
) -> None:
    """SCHEMA-6, SCHEMA-7."""
    with store_of(kind, tmp_path) as url, Process("migrate", next_sources) as killer:
        assert worked(url, 0) is None
        deaths = 0  # what was done before a death stays done; SQLite's statements need their COMMIT for that
        while (ended := killer.do(url, str(deaths if kind == "sqlite" else 1))) == 9:
            deaths += 1
            error = worked(url, deaths)
            if error is None and deaths % 4 == 0:
                with Process(url, next_sources) as new:
                    assert new.opened["active"] == OLD and new.do("check") == []
        assert ended == 0 and deaths >= 5
        assert worked(url, deaths) == "SchemaTooNew"
        with Process(url, next_sources) as new:
            assert new.do("numbers") == [NOW, NOW, []] and new.do("check") == []


@KINDS
def test_many_may_migrate_and_activate_at_once(
    kind: str, next_sources: Path, tmp_path: Path
) -> None:
    with store_of(kind, tmp_path) as url:
        assert worked(url, 0) is None
        several = [Process("migrate", next_sources) for _ in range(4)]
        for process in several:
            process.write(url, "1000000")
        assert [process.read() for process in several] == [0, 0, 0, 0]
        for process in several:
            process.close()
        with Process(url, next_sources) as new:
            assert new.do("numbers") == [NOW, NOW, []] and new.do("check") == []


# -- a fleet


@pytest.mark.slow
@KINDS
def test_a_fleet_is_upgraded_under_load(kind: str, next_sources: Path, tmp_path: Path) -> None:
    """Eight workers, half of each release, are replaced one by one; the next release is activated meanwhile."""
    with store_of(kind, tmp_path) as url:
        asyncio.run(upgraded_under_load(url, next_sources))


async def upgraded_under_load(url: str, next_sources: Path) -> None:
    prompts = [f"{session}.{at}" for at in range(12) for session in range(10)]
    store: Any = open_store(url)
    workers = [Process(url, None if at % 2 else next_sources) for at in range(8)]
    observer = Process(url, next_sources)
    try:
        for worker in workers:
            assert worker.do("work") == "working"
        await feed(store, prompts[:40])
        for at in (1, 3, 5):  # of the old ones, each killed in the middle of its work
            workers[at].kill()
            workers[at] = Process(url, next_sources)
            assert workers[at].do("work") == "working"
            await feed(store, prompts[20 + 20 * at : 40 + 20 * at : 2])
        assert cli(next_sources, "migrate", "--store", url).returncode == 0
        await feed(store, [p for p in prompts if p not in prompts[:40]])
        await store.aclose()
        assert cli(next_sources, "activate", "--store", url).returncode == 0

        assert workers[7].read() == "SchemaTooNew" and workers[7].process.wait(PATIENCE_S) == 4
        await until_answered(observer, prompts)
        assert observer.do("check") == []
    finally:
        for process in (*workers, observer):
            process.kill()


async def feed(store: Any, prompts: list[str]) -> None:
    for prompt in prompts:
        session, _, at = prompt.partition(".")
        new = NewInput(f"i{at}", "prompt", prompt)  # a repetition is known by its id
        answer = await store.execute(Admit(f"s{session}", (new,)))
        assert not isinstance(answer, Refused), answer
        await asyncio.sleep(0.005)


async def until_answered(observer: Process, prompts: list[str]) -> None:
    expected = sorted(f"answer to {prompt}" for prompt in prompts)
    deadline = time.monotonic() + PATIENCE_S
    while (found := observer.do("answers")) != expected:
        assert time.monotonic() < deadline, (len(found), set(expected) - set(found))
        await asyncio.sleep(0.2)
