"""What is measured in a process of its own: `python -m bench.child '{"case": ...}'`, spoken to by children.py."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenure_drivers.stores.registry import open_store

from . import floors, items
from .window import gate


def opened(words: dict[str, Any]) -> Any:
    if words.get("disk"):
        from tenure_drivers.stores.files.store import FilesStore

        return FilesStore(words["url"].removeprefix("files:"), disk=floors.DISKS[words["disk"]]())
    return open_store(words["url"])


def groups(store: Any) -> int:
    """How often it has committed: a group of commands, once.  Memory commits nothing."""
    return store.group.groups if hasattr(store, "group") else 0


def tenure(words: dict[str, Any]) -> None:
    async def run() -> None:
        store = opened(words)
        window, before = gate(), groups(store)
        await items.work_async(store, window, words["first"], words["sessions"])
        window.report(commits=groups(store) - before)
        await store.aclose()

    asyncio.run(run())


def tenure_sync(words: dict[str, Any]) -> None:
    store = opened(words)
    window = gate()
    items.work_sync(store, window)
    window.report()
    asyncio.run(store.aclose())


def tenure_roaming(words: dict[str, Any]) -> None:
    """In a database of many sessions that have worked before."""

    async def run() -> None:
        store = opened(words)
        if words["fill"]:
            for first in range(0, words["among"], 250):
                await items.work_once(store, range(first, min(first + 250, words["among"])))
        window = gate()
        await items.work_roaming(store, window, words["sessions"], words["among"])
        window.report()
        await store.aclose()

    asyncio.run(run())


def minimal(words: dict[str, Any]) -> None:
    floors.minimal(Path(words["path"]))


def same_rows(words: dict[str, Any]) -> None:
    floors.same_rows(Path(words["path"]))


def fsync(words: dict[str, Any]) -> None:
    floors.fsync(Path(words["path"]), floors.DISKS[words["disk"]]())


def minimal_postgres(words: dict[str, Any]) -> None:
    from . import floors_postgres

    floors_postgres.minimal(words["url"], words["sessions"])


def same_rows_postgres(words: dict[str, Any]) -> None:
    from . import floors_postgres

    floors_postgres.same_rows(words["url"])


CASES: dict[str, Callable[[dict[str, Any]], None]] = {
    case.__name__: case
    for case in (
        tenure, tenure_sync, tenure_roaming, minimal, same_rows, fsync, minimal_postgres,
        same_rows_postgres,
    )
}  # fmt: skip

if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    CASES[said["case"]](said)
