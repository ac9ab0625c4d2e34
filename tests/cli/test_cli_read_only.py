"""`tenure inspect`, `events` and `show` change and create nothing, whatever the store is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_process import tenure

from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.testing.conformance import prompt

COMMANDS = (("inspect",), ("events", "s"), ("show", "s"))
TORN = b'{"crc":"00000000","len":99,"seq":9'


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("scheme", ("files", "sqlite"))
def test_a_missing_store_is_refused_and_not_created(
    command: tuple[str, ...], scheme: str, tmp_path: Path
) -> None:
    done = tenure(command[0], "--store", f"{scheme}:none.db", *command[1:], cwd=tmp_path)

    assert done.code == 2 and len(done.err.splitlines()) == 1, done.err
    assert "no such f" in done.err and "none.db" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_torn_log_is_read_and_stays_as_it_is(command: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "f"
    store = FilesStore(folder)
    store.execute_now(prompt("s", 1))
    store.close()
    (log,) = folder.glob("log-*.jsonl")
    log.write_bytes(log.read_bytes() + TORN)
    (folder / "lock").unlink()
    before = log.read_bytes()

    done = tenure(command[0], "--store", "files:f", *command[1:], cwd=tmp_path)

    assert done.code == 0 and done.out, done.err
    assert [p.name for p in folder.iterdir()] == [log.name]
    assert log.read_bytes() == before
