"""DBOS: a workflow of one step, called directly or through a queue.  Steps are recorded; there is no lease."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from dbos import DBOS

from bench.peers.state import PostgresState, SqliteState
from bench.window import PAYLOAD, gate, in_threads, say


def opened(words: dict[str, Any], workers: int) -> None:
    url = words["url"]
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url.replace("postgresql:", "postgresql+psycopg:"),
            "sys_db_pool_size": max(20, workers + 8),
            "log_level": "ERROR",
        }
    )


def state_of(words: dict[str, Any]) -> tuple[Any, Any]:
    """The state, and what moves a session's; on PostgreSQL each session has a connection."""
    if words["url"].startswith("sqlite"):
        state = SqliteState(words["path"], words["sessions"])
        return state, state.move
    import psycopg

    server = PostgresState(words["url"], words["sessions"])
    links = [psycopg.connect(words["url"], autocommit=True) for _ in range(words["sessions"])]
    return server, lambda session: server.move_now(links[session], session)


def items(words: dict[str, Any]) -> None:
    sessions = words["sessions"]
    opened(words, sessions)
    state, move = state_of(words)
    ended = [threading.Event() for _ in range(sessions)]

    @DBOS.step()
    def step(session: int) -> None:
        move(session)

    @DBOS.workflow()
    def carry_out(session: int, payload: str) -> None:
        step(session)
        ended[session].set()

    DBOS.launch()
    queued = words["how"] == "queue"
    if queued:
        DBOS.register_queue("bench", polling_interval_sec=words["poll"])

    def item(session: int) -> None:
        if not queued:
            carry_out(session, PAYLOAD)
            return
        ended[session].clear()
        DBOS.enqueue_workflow("bench", carry_out, session, PAYLOAD)
        assert ended[session].wait(60), "the queue has lost a workflow"

    item(0)  # a new queue is found within a second
    window = gate()
    in_threads(window, sessions, item)
    state.check(window, 1)
    window.report()
    os._exit(0)  # its threads take their time


def wake_worker(words: dict[str, Any]) -> None:
    """Say when each workflow began."""
    opened(words, 8)
    began: list[tuple[str, float]] = []

    @DBOS.workflow(name="carry_out")
    def carry_out(name: str) -> None:
        began.append((name, time.monotonic()))

    DBOS.launch()
    DBOS.register_queue("bench", polling_interval_sec=words["poll"])
    say(ready=True)
    sys.stdin.readline()
    deadline = time.monotonic() + 30
    while len(began) < words["count"] and time.monotonic() < deadline:
        time.sleep(0.05)
    say(began=began)
    sys.stdin.readline()
    os._exit(0)


def wake_client(words: dict[str, Any]) -> None:
    """Enqueue from another process, at moments that no poll knows."""
    from dbos import DBOSClient

    url = words["url"].replace("postgresql:", "postgresql+psycopg:")
    client = DBOSClient(system_database_url=url)
    say(ready=True)
    sys.stdin.readline()
    asked = []
    for number, pause in enumerate(words["pauses"]):
        time.sleep(pause)
        asked.append((str(number), time.monotonic()))
        client.enqueue({"workflow_name": "carry_out", "queue_name": "bench"}, str(number))
    say(asked=asked)
    sys.stdin.readline()
    os._exit(0)


if __name__ == "__main__":
    said = json.loads(sys.argv[1])
    {"wake worker": wake_worker, "wake client": wake_client}.get(said["how"], items)(said)
