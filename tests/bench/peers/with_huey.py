"""huey on SQLite, fsync on.  A task is deleted when it is taken: at most once."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from huey import SqliteHuey

from bench.peers.state import SqliteState
from bench.window import PAYLOAD, gate, in_threads


def main(words: dict[str, Any]) -> None:
    sessions, path = words["sessions"], words["path"]
    queue = SqliteHuey("bench", filename=path, fsync=True, timeout=60, results=False)
    state = SqliteState(path, sessions)
    ended = [threading.Event() for _ in range(sessions)]

    @queue.task()
    def carry_out(session: int, payload: str) -> None:
        state.move(session)
        ended[session].set()

    def by_hand(session: int) -> None:
        """Without its consumer: whoever has enqueued takes one, perhaps another's."""
        carry_out(session, PAYLOAD)
        queue.execute(queue.dequeue())

    def consumed(session: int) -> None:
        ended[session].clear()
        carry_out(session, PAYLOAD)
        assert ended[session].wait(60), "the consumer has lost a task"

    consumer = None
    if words["how"] == "consumer":
        consumer = queue.create_consumer(
            workers=sessions, periodic=False, initial_delay=0.002, backoff=1.15, max_delay=0.05
        )
        consumer.start()
    window = gate()
    in_threads(window, sessions, by_hand if consumer is None else consumed)
    if consumer is not None:
        consumer.stop(graceful=True)
    state.check(window)
    window.report()


main(json.loads(sys.argv[1]))
