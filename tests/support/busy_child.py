"""A worker process that is busy: `busy_child.py STORE`.

A prompt that begins with "long" keeps it at work until it is asked to stop: "long" after a recorded step and a message,
"long once" also after the start of a once step.  Any other prompt is answered with its text.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from tenure.transcript import NewNode, Role
from tenure.turn_end import Record
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.registry import open_store

TTL_MS = 3_600_000  # nobody can wait for it to lapse


def say(*words: str) -> None:
    print(*words, flush=True)


async def agent(turn: Turn) -> str:
    (new,) = turn.inputs
    if not new.payload.startswith("long"):
        return f"answered {new.payload}"
    await turn.step("look", len, new.payload)
    await turn.record(Record(nodes=(NewNode(Role.ASSISTANT, "working on it"),)))

    async def hang() -> None:
        say("works on", turn.run_id)
        await asyncio.Event().wait()

    if new.payload == "long once":
        await turn.once("charge", hang)
    await hang()
    return "never"


async def main() -> None:
    store = open_store(sys.argv[1])
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    async with Runtime(store, agent, ttl_ms=TTL_MS, grace_ms=100):
        say("ready")
        await asked.wait()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
