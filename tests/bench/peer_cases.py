"""Who else is measured, with which settings, and what they promise: each promises something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen
class Peer:
    name: str
    module: str
    packages: tuple[str, ...]
    note: str
    words: Mapping[str, Any] = field(factory=dict)


DBOS = ("dbos", "psycopg[binary]")
DBOS_NOTE = (
    "a recorded workflow of one recorded step; more than an item: it resumes in the middle; "
    "less: no lease, no fence and no session"
)
QUEUE_NOTE = DBOS_NOTE + "; the queue is polled every 10 ms (its own setting: 1 s)"
SAVER_NOTE = (
    "one `put` of the session's state, which is the commit alone: no queue, no lease, no fence; "
    "of two writers both are kept"
)

SQLITE = (
    Peer(
        "huey, by hand",
        "with_huey",
        ("huey",),
        "fsync on, results off; without its consumer: the session itself takes a task and carries it out; "
        "at most once, no lease, and the state is a transaction of its own",
        {"how": "loop"},
    ),
    Peer(
        "huey, consumer",
        "with_huey",
        ("huey",),
        "fsync on, results off; as many worker threads as sessions, polling every 2 to 50 ms; at most once",
        {"how": "consumer"},
    ),
    Peer(
        "litequeue",
        "with_litequeue",
        ("litequeue",),
        "set to synchronous=FULL (its own setting may lose the last commits at a power cut); no lease, no fence; "
        "four transactions",
    ),
    Peer("DBOS, direct", "with_dbos", DBOS, DBOS_NOTE + "; called, not enqueued", {"how": "direct"}),
    Peer("DBOS, queue", "with_dbos", DBOS, QUEUE_NOTE, {"how": "queue", "poll": 0.01}),
    Peer(
        "LangGraph saver",
        "with_langgraph",
        ("langgraph-checkpoint-sqlite",),
        SAVER_NOTE + "; set to synchronous=FULL",
        {"how": "items"},
    ),
)  # fmt: skip

POSTGRES = (
    Peer(
        "PgQueuer",
        "with_pgqueuer",
        ("pgqueuer[asyncpg]", "psycopg[binary]"),
        "asyncpg pool, batches of max(50, sessions), NOTIFY; a completion may reach the server 100 ms after the job "
        "has ended and is not fenced; the state is a transaction of its own",
    ),
    Peer(
        "procrastinate",
        "with_procrastinate",
        ("procrastinate", "psycopg[binary,pool]"),
        "C psycopg, NOTIFY, and a poll every 20 ms (a notification during a fetch is lost; its own setting is 5 s); "
        "no fence, stalled jobs are the user's to find; the state is a transaction of its own",
    ),
    Peer("DBOS, direct", "with_dbos", DBOS, DBOS_NOTE + "; called, not enqueued", {"how": "direct"}),
    Peer("DBOS, queue", "with_dbos", DBOS, QUEUE_NOTE, {"how": "queue", "poll": 0.01}),
    Peer(
        "LangGraph saver",
        "with_langgraph",
        ("langgraph-checkpoint-postgres", "psycopg[binary,pool]"),
        SAVER_NOTE,
        {"how": "items"},
    ),
)  # fmt: skip
