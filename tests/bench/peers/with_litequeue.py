"""litequeue, made as durable as the rest (it asks for synchronous=NORMAL).  No lease, no fence."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from litequeue import LiteQueue

from bench.peers.state import SqliteState
from bench.window import PAYLOAD, gate, in_threads


def main(words: dict[str, Any]) -> None:
    sessions, path = words["sessions"], words["path"]
    queue = LiteQueue(path, timeout=60)
    queue.conn.execute("PRAGMA synchronous = FULL")
    state = SqliteState(path, sessions)
    lock = threading.Lock()  # one connection: its cursors are nobody else's meanwhile

    def item(session: int) -> None:
        with lock:
            queue.put(PAYLOAD)
        with lock:
            message = queue.pop()
        state.move(session)
        with lock:
            queue.done(message.message_id)

    window = gate()
    in_threads(window, sessions, item)
    state.check(window)
    done = queue.conn.execute("select count(*) from Queue where status = 2").fetchone()[0]
    assert done == len(window.ended), (done, len(window.ended))
    window.report()


main(json.loads(sys.argv[1]))
