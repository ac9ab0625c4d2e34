"""LangGraph's savers: one `put` of a checkpoint, which is a session's commit alone, without a queue, a lease or a fence."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint

from bench.window import BODY, gate, in_threads, say, text


def message(number: int) -> dict[str, str]:
    """About 450 B."""
    role = "assistant" if number % 2 else "user"
    return {"role": role, "id": f"{number:06}", "text": text(400, number)}


@contextlib.contextmanager
def saver_of(words: dict[str, Any], connections: int) -> Iterator[Any]:
    if "url" in words:
        from langgraph.checkpoint.postgres import PostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import ConnectionPool

        kwargs = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        size = max(1, min(connections, 32))
        with ConnectionPool(words["url"], min_size=size, max_size=size, kwargs=kwargs) as pool:
            saver: Any = PostgresSaver(pool)  # type: ignore[arg-type, unused-ignore]
            saver.setup()
            yield saver
        return
    from langgraph.checkpoint.sqlite import SqliteSaver

    connection = sqlite3.connect(words["path"], check_same_thread=False, timeout=60)
    connection.execute("pragma synchronous=full")
    yielded = SqliteSaver(connection)
    yielded.setup()
    yield yielded


def put(saver: Any, config: Any, version: int, channel: str, value: Any) -> Any:
    """One checkpoint in which this channel has changed; the configuration to put the next one with."""
    checkpoint = empty_checkpoint()
    name = f"{version:032}.0"
    checkpoint["channel_values"] = {channel: value}
    checkpoint["channel_versions"] = {channel: name}
    metadata = {"source": "loop", "step": version, "parents": {}}
    return saver.put(config, checkpoint, metadata, {channel: name})


def fresh(thread: str) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def items(words: dict[str, Any]) -> None:
    sessions = words["sessions"]
    with saver_of(words, sessions) as saver:
        configs = [fresh(f"session-{n}") for n in range(sessions)]
        versions = [0] * sessions

        def item(session: int) -> None:
            versions[session] += 1
            configs[session] = put(saver, configs[session], versions[session], "state", BODY)

        window = gate()
        in_threads(window, sessions, item)
        kept = sum(1 for _ in saver.list(None))
        assert kept == len(window.ended), (kept, len(window.ended))
        window.report()


def history(words: dict[str, Any]) -> None:
    """Turns of two messages on sessions that have so many: a few each, so that the size holds."""
    size, turns = words["size"], 5
    with saver_of(words, 1) as saver:
        threads = []
        for block in range(words["blocks"]):
            messages = [message(number) for number in range(size)]
            threads.append((put(saver, fresh(f"s{block}"), 1, "messages", messages), messages))
        say(ready=True)
        sys.stdin.readline()
        taken, ended = [], 0
        for config, messages in threads:
            for turn in range(turns):
                more = [message(size + 2 * turn), message(size + 2 * turn + 1)]
                begun = time.monotonic()
                messages = [*messages, *more]
                config = put(saver, config, turn + 2, "messages", messages)
                taken.append((time.monotonic() - begun) * 1_000)
                ended += 1
        begun = time.monotonic()
        loaded = saver.get_tuple(threads[-1][0])
        load_ms = (time.monotonic() - begun) * 1_000
        assert loaded is not None
        assert len(loaded.checkpoint["channel_values"]["messages"]) == size
        say(taken_ms=taken, turns=ended, load_ms=load_ms)
        sys.stdin.readline()
    os._exit(0)


if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    (history if said["how"] == "history" else items)(said)
