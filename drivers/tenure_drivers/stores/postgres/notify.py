"""Hints between processes: NOTIFY in separate transactions, LISTEN on a separate connection (STORE-37)."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Sequence

import msgspec
import psycopg

from tenure.kind import Kind
from tenure.outcome import Hint

from .connection import Connection, connect
from .sql import quoted

__all__ = ["NOTIFY", "PostgresNotifier", "hints_of", "payloads"]


PAYLOAD_BYTES_MAX = 7_900  # the server's limit is 8,000
LISTEN_S = 0.5
NOTIFY = "SELECT pg_notify(%s, %s)"


class HintRow(msgspec.Struct, array_like=True):
    """A hint in a payload."""

    session_id: str
    due_at_ms: int | None
    cancel_run: str | None
    steer_run: str | None
    kind: Kind | None = None
    outbound: bool = False


_decode = msgspec.json.Decoder(list[HintRow]).decode


class PostgresNotifier:
    """Sends hints to other processes and publishes theirs.  A lost hint costs latency only.

    The server returns a process its own notifications too; they are published a second time, which is harmless.
    """

    def __init__(
        self, dsn: str, schema: str, prepare: bool, publish: Callable[[Iterable[Hint]], None]
    ) -> None:
        self.channel = f"tenure_{schema}"
        self._dsn, self._prepare, self._publish_locally = dsn, prepare, publish
        self._outgoing: queue.SimpleQueue[list[Hint] | None] = queue.SimpleQueue()
        self._sender: threading.Thread | None = None
        self._listener: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._listening = threading.Event()

    def publish(self, hints: list[Hint]) -> None:
        """Send hints to other processes, from a thread."""
        if self._sender is None:
            with self._starting:
                if self._sender is None:
                    self._sender = threading.Thread(
                        target=self._send, name="tenure-pg-send", daemon=True
                    )
                    self._sender.start()
        self._outgoing.put(hints)

    def listen(self) -> None:
        """Start to receive the hints of other processes."""
        with self._starting:
            if self._listener is None and not self._closed.is_set():
                self._listener = threading.Thread(
                    target=self._receive, name="tenure-pg-listen", daemon=True
                )
                self._listener.start()

    def listening(self, timeout_s: float) -> bool:
        """Wait until LISTEN has succeeded; return False after the timeout."""
        return self._listening.wait(timeout_s)

    def close(self) -> None:
        """Send what waits, then stop the threads."""
        self._closed.set()
        self._outgoing.put(None)
        for thread in (self._sender, self._listener):
            if thread is not None:
                thread.join()

    def _send(self) -> None:
        connection = Connection(self._dsn, self._prepare)
        ended = False
        while not ended and (hints := self._outgoing.get()) is not None:
            while not self._outgoing.empty():  # hints that arrived meanwhile join the transaction
                more = self._outgoing.get()
                if more is None:
                    ended = True
                    break
                hints += more
            try:
                connection.run(
                    [("BEGIN", ()), ("SET LOCAL synchronous_commit = off", ()),
                     *((NOTIFY, (self.channel, payload)) for payload in payloads(hints)),
                     ("COMMIT", ())]
                )  # fmt: skip
            except psycopg.Error:
                connection.roll_back()
        connection.close()

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
                    self._publish_locally([Hint("", None)])  # notifications may have been missed
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
    """Encode hints as few payloads, without duplicates."""
    distinct = dict.fromkeys(
        [(h.session_id, h.due_at_ms, h.cancel_run, h.steer_run, *_more_of(h)) for h in hints]
    )
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


def _more_of(hint: Hint) -> tuple[str | bool | None, ...]:
    """Return what few hints have: the first release knows four fields, and takes more as "any session"."""
    kind = None if hint.kind is None else hint.kind.value
    if hint.outbound:
        return kind, True
    return () if kind is None else (kind,)


def hints_of(payload: str) -> list[Hint]:
    """Decode a payload.  An invalid one means that any session may have changed."""
    try:
        found = [
            Hint(
                *(row.session_id, row.due_at_ms, row.cancel_run, row.steer_run),
                *(row.outbound, row.kind),
            )
            for row in _decode(payload)
        ]
        return found or [Hint("", None)]
    except (ValueError, TypeError, msgspec.MsgspecError):
        return [Hint("", None)]
