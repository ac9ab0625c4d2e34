"""procrastinate on the C psycopg.  Finishing a job checks no worker: a stale one may finish it too."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import psycopg
import psycopg_pool
from procrastinate import App, PsycopgConnector

from bench.peers.state import PostgresState
from bench.window import PAYLOAD, gate, in_tasks


async def main(words: dict[str, Any]) -> None:
    assert psycopg.pq.__impl__ != "python"  # its default dependency is slower
    logging.disable(logging.WARNING)
    sessions, dsn = words["sessions"], words["url"]
    state = PostgresState(dsn, sessions)
    ended = [asyncio.Event() for _ in range(sessions)]
    size = min(sessions, 32)
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=size, max_size=size + 2))
    pool = psycopg_pool.AsyncConnectionPool(
        dsn, min_size=size, max_size=size, open=False, kwargs={"autocommit": True}
    )

    @app.task(name="carry_out")
    async def carry_out(session: int, payload: str) -> None:
        async with pool.connection() as connection:
            await state.move(connection, session)
        ended[session].set()

    async def item(session: int) -> None:
        ended[session].clear()
        await carry_out.defer_async(session=session, payload=PAYLOAD)
        async with asyncio.timeout(60):
            await ended[session].wait()

    async with app.open_async(), pool:
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=sessions,
                fetch_job_polling_interval=0.02,  # a notification that comes during a fetch is lost
                install_signal_handlers=False,
            )
        )
        await item(0)
        window = gate()
        await in_tasks(window, sessions, item)
        state.check(window, 1)
        window.report()
        worker.cancel()
        await asyncio.wait([worker], timeout=5)


asyncio.run(main(json.loads(sys.argv[1])))
