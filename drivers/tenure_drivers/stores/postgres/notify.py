"""STORE-37: hints between processes: NOTIFY in transactions of their own, LISTEN on a connection of its own."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Sequence

import msgspec
import psycopg

from tenure.outcome import Hint

from .connection import Connection, connect
from .sql import quoted

PAYLOAD_BYTES_MAX = 7_900  # the server takes less than 8,000
LISTEN_S = 0.5
NOTIFY = "SELECT pg_notify(%s, %s)"

_decode = msgspec.json.Decoder(list[tuple[str, int | None, str | None]]).decode


class PostgresNotifier:
    """Losing a word costs latency only.  What this process says it has heard already."""

    def __init__(
        self, dsn: str, schema: str, prepare: bool, publish: Callable[[Iterable[Hint]], None]
    ) -> None:
        self.channel = f"tenure_{schema}"
        self._dsn, self._prepare, self._publish_locally = dsn, prepare, publish
        self._outgoing: queue.SimpleQueue[list[Hint] | None] = queue.SimpleQueue()
        self._speaker: threading.Thread | None = None
        self._listener: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._listening = threading.Event()

    def publish(self, hints: list[Hint]) -> None:
        if self._speaker is None:
            with self._starting:
                if self._speaker is None:
                    self._speaker = threading.Thread(
                        target=self._send, name="tenure-pg-say", daemon=True
                    )
                    self._speaker.start()
        self._outgoing.put(hints)

    def listen(self) -> None:
        with self._starting:
            if self._listener is None and not self._closed.is_set():
                self._listener = threading.Thread(
                    target=self._receive, name="tenure-pg-hear", daemon=True
                )
                self._listener.start()

    def listening(self, timeout_s: float) -> bool:
        return self._listening.wait(timeout_s)

    def close(self) -> None:
        self._closed.set()
        self._outgoing.put(None)
        for thread in (self._speaker, self._listener):
            if thread is not None:
                thread.join()

    def _send(self) -> None:
        link = Connection(self._dsn, self._prepare)
        over = False
        while not over and (hints := self._outgoing.get()) is not None:
            while not self._outgoing.empty():  # what gathered meanwhile goes in one transaction
                more = self._outgoing.get()
                if more is None:
                    over = True
                    break
                hints += more
            try:
                link.run(
                    [("BEGIN", ()), ("SET LOCAL synchronous_commit = off", ()),
                     *((NOTIFY, (self.channel, payload)) for payload in payloads(hints)),
                     ("COMMIT", ())]
                )  # fmt: skip
            except psycopg.Error:
                link.roll_back()
        link.close()

    def _receive(self) -> None:
        missed = False
        while not self._closed.is_set():
            try:
                connection = connect(self._dsn)
            except psycopg.Error:
                self._closed.wait(LISTEN_S)
                continue
            try:
                connection.execute(f"LISTEN {quoted(self.channel)}".encode())
                self._listening.set()
                if missed:
                    self._publish_locally(
                        [Hint("", None)]
                    )  # whatever was said while nobody listened
                missed = True
                while not self._closed.is_set():
                    for note in connection.notifies(timeout=LISTEN_S, stop_after=64):
                        self._publish_locally(hints_of(note.payload))
            except psycopg.Error:
                self._listening.clear()
                self._closed.wait(LISTEN_S)
            finally:
                connection.close()


def payloads(hints: Sequence[Hint]) -> list[str]:
    """As few as hold them; a session once, unless it is said whom to cancel."""
    distinct = dict.fromkeys([(h.session_id, h.due_at_ms, h.cancel_run) for h in hints])
    found: list[str] = []
    part: list[str] = []
    size = 2
    for one in map(json.dumps, distinct):
        if part and size + len(one) + 2 > PAYLOAD_BYTES_MAX:
            found.append(f"[{', '.join(part)}]")
            part, size = [], 2
        part.append(one)
        size += len(one) + 2
    return [*found, f"[{', '.join(part)}]"]


def hints_of(payload: str) -> list[Hint]:
    """Anything else than hints means that something changed, nobody knows where."""
    try:
        return [Hint(*one) for one in _decode(payload)] or [Hint("", None)]
    except (ValueError, TypeError, msgspec.MsgspecError):
        return [Hint("", None)]
