"""Every store of bytes keeps the contract: all or nothing, repeatable, nothing shared between sessions."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pg_server import drop, needed, shared
from psycopg.conninfo import conninfo_to_dict
from s3_server import KEYS, s3_server

from tenure_drivers.blobs.base import (
    PIECE_BYTES,
    BlobCapability,
    BlobStore,
    DigestMismatch,
    digest_of,
    session_key,
)
from tenure_drivers.blobs.registry import open_blobs
from tenure_drivers.stores.base import Corrupt, Unavailable, Unusable
from tenure_drivers.stores.registry import open_store

SMALL = b"a picture"
LARGE = random.Random(1).randbytes(2 * PIECE_BYTES + 17)
KINDS = ["folder", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres), "s3"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3"), "attachments") as address:
        yield address


def postgres_url(schema: str) -> str:
    known = conninfo_to_dict(shared())
    host = str(known["host"]).replace("/", "%2F")
    return f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"


@pytest.fixture(params=KINDS)
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], BlobStore]]:
    """Opens the same store as often as it is called."""
    match request.param:
        case "folder":
            yield lambda: open_blobs(f"folder:{tmp_path / 'bytes'}")
        case "sqlite":
            url = f"sqlite:{tmp_path / 'a.db'}"
            open_store(url).close()  # type: ignore[attr-defined]
            yield lambda: open_blobs("rows:", url)
        case "postgres":
            needed()
            schema = f"blobs_{os.getpid()}"
            url = postgres_url(schema)
            open_store(url).close()  # type: ignore[attr-defined]
            yield lambda: open_blobs("rows:", url)
            drop(shared(), schema)
        case _:
            for name, value in KEYS.items():
                monkeypatch.setenv(name, value)
            address = request.getfixturevalue("bucket")
            prefix = tmp_path.name.replace("[", "-").replace("]", "")
            yield lambda: open_blobs(f"s3://attachments/{prefix}?endpoint={address}&region=eu")


def used(
    opened: Callable[[], BlobStore], body: Callable[[BlobStore], Coroutine[Any, Any, Any]]
) -> Any:
    async def main() -> Any:
        store = opened()
        try:
            return await body(store)
        finally:
            await store.aclose()
            await store.aclose()

    return asyncio.run(main())


async def listed(found: AsyncIterator[Any]) -> list[Any]:
    return sorted([each async for each in found])


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_put_is_found_again(opened: Callable[[], BlobStore], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)

    async def body(store: BlobStore) -> None:
        assert store.capabilities == {BlobCapability.MANIFEST}
        for data in (SMALL, file, b""):
            digest, _ = digest_of(data)
            for _ in range(2):
                await store.put("ann", digest, data)
        assert await store.get("ann", name_of(SMALL)) == SMALL
        assert await store.get("ann", name_of(b"")) == b""
        assert await store.get("ann", name_of(b"never")) is None

    async def again(store: BlobStore) -> None:
        assert await store.get("ann", name_of(LARGE)) == LARGE
        assert await listed(store.digests("ann")) == sorted(map(name_of, (SMALL, LARGE, b"")))

    used(opened, body)
    used(opened, again)


def test_nothing_is_shared_between_sessions(opened: Callable[[], BlobStore]) -> None:
    async def body(store: BlobStore) -> None:
        digest = name_of(SMALL)
        for session in ("ann", "Ann", "..", "a/b", "x" * 200):
            await store.put(session, digest, SMALL)
        await store.put("ann", name_of(LARGE), LARGE)
        assert await listed(store.keys()) == sorted(
            [(session_key(s), digest) for s in ("ann", "Ann", "..", "a/b", "x" * 200)]
            + [(session_key("ann"), name_of(LARGE))]
        )

        await store.delete_session("ann")
        await store.delete_session("ann")
        await store.delete("a/b", digest)
        await store.delete("a/b", digest)

        assert await store.get("ann", digest) is None and await store.get("a/b", digest) is None
        assert await listed(store.digests("ann")) == []
        assert await store.get("Ann", digest) == SMALL and await store.get("..", digest) == SMALL

    used(opened, body)


def test_other_bytes_than_the_digest_names_are_refused(
    opened: Callable[[], BlobStore], tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    changed.write_bytes(LARGE + b"!")

    async def body(store: BlobStore) -> None:
        for data, digest in ((b"others", name_of(SMALL)), (changed, name_of(LARGE))):
            with pytest.raises(DigestMismatch, match="nothing was stored"):
                await store.put("ann", digest, data)
            assert await store.get("ann", digest) is None
        assert await listed(store.keys()) == []
        await store.put("ann", name_of(LARGE), LARGE)
        with pytest.raises(DigestMismatch):
            await store.put("ann", name_of(LARGE), changed)
        assert await store.get("ann", name_of(LARGE)) == LARGE

    used(opened, body)


def test_a_file_that_cannot_be_read_is_named(
    opened: Callable[[], BlobStore], tmp_path: Path
) -> None:
    async def body(store: BlobStore) -> None:
        with pytest.raises(Unavailable, match="missing"):
            await store.put("ann", name_of(SMALL), tmp_path / "missing")
        with pytest.raises(Unavailable, match=str(tmp_path)):
            await store.put("ann", name_of(SMALL), tmp_path)  # a folder
        assert await listed(store.keys()) == []

    used(opened, body)


def test_a_large_file_is_stored_whole_or_not_at_all(
    opened: Callable[[], BlobStore], tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE * 12)  # 24 MB

    async def body(store: BlobStore) -> None:
        with pytest.raises(DigestMismatch):
            await store.put("ann", name_of(SMALL), file)
        assert await store.get("ann", name_of(SMALL)) is None
        digest, _ = digest_of(file)
        await store.put("ann", digest, file)
        assert await store.get("ann", digest) == LARGE * 12

    used(opened, body)


def test_many_at_once_put_the_same(opened: Callable[[], BlobStore]) -> None:
    async def body(store: BlobStore) -> None:
        other = opened()
        puts = [each.put("ann", name_of(LARGE), LARGE) for each in (store, other) for _ in range(4)]
        await asyncio.gather(*puts)
        assert await store.get("ann", name_of(LARGE)) == LARGE
        await other.aclose()

    used(opened, body)


# -- killed, damaged, refused

PUT = """
import asyncio, pathlib, sys
from tenure_drivers.blobs.base import digest_of
from tenure_drivers.blobs.registry import open_blobs
data = pathlib.Path(sys.argv[3])
store = open_blobs(sys.argv[1], sys.argv[2])
print("ready", flush=True)
asyncio.run(store.put("ann", digest_of(data)[0], data))
"""


@pytest.mark.parametrize("kind", ["folder", "sqlite"])
def test_a_process_killed_while_it_writes_leaves_nothing_that_is_found(
    kind: str, tmp_path: Path
) -> None:
    data = random.Random(2).randbytes(30 * PIECE_BYTES)
    (tmp_path / "data").write_bytes(data)
    url, records = f"folder:{tmp_path / 'bytes'}", f"sqlite:{tmp_path / 'a.db'}"
    open_store(records).close()  # type: ignore[attr-defined]
    command = (url, "") if kind == "folder" else ("rows:", records)
    outcomes = set()
    for after_s in (0.0, 0.02, 0.05, 0.1):
        process = subprocess.Popen(
            [sys.executable, "-c", PUT, *command, str(tmp_path / "data")], stdout=subprocess.PIPE
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

        async def body(store: BlobStore) -> bytes | None:
            found = await store.get("ann", name_of(data))
            assert await listed(store.digests("ann")) == ([] if found is None else [name_of(data)])
            await store.delete("ann", name_of(data))
            assert await store.get("ann", name_of(data)) is None
            return found

        found = used(lambda: open_blobs(*command), body)
        assert found in (None, data)
        outcomes.add(found is None)
    assert True in outcomes  # at least one was in the middle
    if kind == "sqlite":
        rows = sqlite3.connect(tmp_path / "a.db")
        assert rows.execute("SELECT count(*) FROM attachment_piece").fetchone() == (0,)
        rows.close()


def test_damaged_bytes_are_corrupt(tmp_path: Path) -> None:
    async def body(store: BlobStore) -> None:
        await store.put("ann", name_of(SMALL), SMALL)
        place = tmp_path / "bytes" / session_key("ann") / name_of(SMALL)
        place.write_bytes(b"A picture")
        with pytest.raises(Corrupt, match="its bytes have the digest"):
            await store.get("ann", name_of(SMALL))

    used(lambda: open_blobs(f"folder:{tmp_path / 'bytes'}"), body)


def test_what_killed_processes_have_left_is_deleted_after_a_day(tmp_path: Path) -> None:
    open_blobs(f"folder:{tmp_path / 'bytes'}")
    old, new = (tmp_path / "bytes" / "unfinished" / name for name in ("old", "new"))
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)

    open_blobs(f"folder:{tmp_path / 'bytes'}")

    assert new.exists() and not old.exists()


def test_nothing_keeps_nothing() -> None:
    async def body(store: BlobStore) -> None:
        assert store.capabilities == frozenset()
        await store.put("ann", name_of(SMALL), SMALL)
        assert await store.get("ann", name_of(SMALL)) is None
        assert await listed(store.digests("ann")) == [] and await listed(store.keys()) == []
        await store.delete("ann", name_of(SMALL))
        await store.delete_session("ann")

    used(lambda: open_blobs("nothing:"), body)


@pytest.mark.parametrize(
    ("url", "store", "message"),
    [
        (
            "picture.png",
            "",
            "unknown URL of attachments 'picture.png'; expected folder:PATH, rows:",
        ),
        ("folder:", "", "unknown URL of attachments"),
        ("rows:", "", "rows: needs the URL of the store"),
        ("rows:", "memory:", "rows: needs a store in SQLite or PostgreSQL, not 'memory:'"),
        ("s3:bucket", "", "unknown URL of attachments"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, store: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        open_blobs(url, store)


def test_a_server_that_is_not_there_or_refuses_is_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)

    async def no_bucket(store: BlobStore) -> None:
        for call in (store.put("a", name_of(SMALL), SMALL), store.get("a", name_of(SMALL))):
            with pytest.raises(Unusable, match=r"s3://nowhere: there is no such bucket$"):
                await call
        with pytest.raises(Unusable, match="there is no such bucket"):
            await listed(store.digests("a"))

    async def no_server(store: BlobStore) -> None:
        with pytest.raises(Unavailable, match=r"s3://nowhere: ") as raised:
            await store.get("ann", name_of(SMALL))
        assert "testing" not in str(raised.value)

    used(lambda: open_blobs(f"s3://nowhere?endpoint={bucket}&region=eu"), no_bucket)
    used(lambda: open_blobs("s3://nowhere?endpoint=http://127.0.0.1:9&region=eu"), no_server)


@pytest.mark.postgres
def test_a_user_who_may_not_make_tables_is_told_what_to_run(tmp_path: Path) -> None:
    needed()
    schema = f"blobs_few_{os.getpid()}"
    open_store(postgres_url(schema)).close()  # type: ignore[attr-defined]
    try:
        with psycopg.connect(shared(), autocommit=True) as owner:
            owner.execute(f"CREATE ROLE {schema} LOGIN")
            owner.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
        known = conninfo_to_dict(shared())
        host = str(known["host"]).replace("/", "%2F")
        url = f"postgresql://{schema}@/{known['dbname']}?host={host}&tenure_schema={schema}"

        async def body(store: BlobStore) -> None:
            with pytest.raises(Unusable, match="run as its owner: CREATE TABLE IF NOT EXISTS"):
                await store.get("ann", name_of(SMALL))

        used(lambda: open_blobs("rows:", url), body)
    finally:
        drop(shared(), schema)
        with psycopg.connect(shared(), autocommit=True) as owner:
            owner.execute(f"DROP ROLE {schema}")
