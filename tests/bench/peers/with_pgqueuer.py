"""PgQueuer on an asyncpg pool.  Completions are kept back for up to 100 ms and written in batches."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import asyncpg
from pgqueuer import PgQueuer

from bench.peers.state import MOVE, PostgresState
from bench.window import BODY, PAYLOAD, gate, in_tasks

MOVE_ASYNCPG = MOVE.replace("?", "$1", 1).replace("?", "$2", 1).replace("?", "$3", 1)


async def main(words: dict[str, Any]) -> None:
    sessions, dsn = words["sessions"], words["url"]
    state = PostgresState(dsn, sessions)
    ended = [asyncio.Event() for _ in range(sessions)]
    size = min(sessions, 32)
    async with (
        asyncpg.create_pool(dsn, min_size=size, max_size=size) as own,
        asyncpg.create_pool(dsn, min_size=2, max_size=size + 4) as theirs,
    ):
        app = PgQueuer.from_asyncpg_pool(theirs)
        queries: Any = app.queries
        await queries.install()

        @app.entrypoint("carry_out")
        async def carry_out(job: Any) -> None:
            session = int(job.payload.split(b" ", 1)[0])
            done = await own.execute(MOVE_ASYNCPG, BODY, session, state.revisions[session])
            assert done == "UPDATE 1", done
            state.revisions[session] += 1
            ended[session].set()

        async def item(session: int) -> None:
            ended[session].clear()
            await queries.enqueue("carry_out", f"{session} {PAYLOAD}".encode())
            async with asyncio.timeout(60):
                await ended[session].wait()

        worker = asyncio.create_task(app.qm.run(batch_size=max(50, sessions)))
        await item(0)
        window = gate()
        await in_tasks(window, sessions, item)
        assert not worker.done(), worker
        state.check(window, 1)
        window.report()
        sys.stdout.flush()
        os._exit(0)  # a pool in use closes slowly


asyncio.run(main(json.loads(sys.argv[1])))
