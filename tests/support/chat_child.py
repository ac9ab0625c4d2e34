"""Workers that die: a line `STORE LEDGER AT WHEN [approve]` forks a worker that kills itself at its AT-th event, before or after it.

Prints for each line how its worker ended: -9 if it was killed, else how many events it has seen.

AT 0: it lives until the input `i` of session `s` has ended.  WHEN inside: in the AT-th append, when the line is on the disk.
With `approve` it also approves what somebody is asked, as soon as the run waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tenure_drivers import Client, Runtime
from tenure_drivers.agents import chat as chat_agent
from tenure_drivers.agents import ledger_file
from tenure_drivers.agents.script import script
from tenure_drivers.stores.registry import open_store

count = 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def tick(at: int) -> bool:
    global count
    count += 1
    return count == at


def arm(at: int, when: str) -> None:
    step: Any = chat_agent.ChatTurnHost._step
    append: Any = ledger_file.LedgerFile.append

    def dying_step(self: Any, event: Any) -> Any:
        now = tick(at)
        if now and when == "before":
            die()
        found = step(self, event)
        if now and when == "after":
            die()
        return found

    def dying_append(self: Any, *args: Any) -> Any:
        if when == "inside" and tick(at):
            append(self, *args)
            die()
        return append(self, *args)

    chat_agent.ChatTurnHost._step = dying_step  # type: ignore[method-assign]
    if when == "inside":
        chat_agent.ChatTurnHost._step = step  # type: ignore[method-assign]
        ledger_file.LedgerFile.append = dying_append  # type: ignore[method-assign,assignment]


async def approve(client: Client) -> None:
    while True:
        for ticket in await client.tickets("s") if await client.tickets() else ():
            await client.decide("s", ticket.ticket_id, "approve")
            break  # of what is left, the run waits for one more
        await asyncio.sleep(0.01)


async def work(url: str, ledger: str, at: str, when: str, *more: str) -> None:
    arm(int(at), when)
    store = open_store(url)
    runtime = Runtime(store, script(Path(ledger)), ttl_ms=3_600_000)
    async with runtime:
        approving = asyncio.create_task(approve(runtime)) if more else None
        await runtime.receipt("s", "i").ended()
        if approving is not None:
            approving.cancel()
    await store.aclose()
    print(count, flush=True)


def main() -> None:
    """A forked worker has all modules already, which take longer to import than the work takes."""
    for line in sys.stdin:
        worker = os.fork()
        if worker == 0:
            asyncio.run(work(*json.loads(line)))
            return
        _, status = os.waitpid(worker, 0)
        if (code := os.waitstatus_to_exitcode(status)) != 0:
            print(code, flush=True)


if __name__ == "__main__":
    main()
