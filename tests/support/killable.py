"""A worker process that tests kill: `killable.py STORE LEDGER MODE ["no polls"]`.

It prints one line for each thing done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tenure.worker import machine
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.steps import Report
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.registry import open_store

TTL_MS = 3_600_000  # nobody can wait for it to lapse


def say(*words: str) -> None:
    print(*words, flush=True)


class Agent:
    """Writes one line to the ledger for each input, exactly once."""

    def __init__(self, ledger: Path, mode: str) -> None:
        self.ledger, self.mode = ledger, mode

    async def __call__(self, turn: Turn) -> str:
        (new,) = turn.inputs
        if self.mode == "poison":
            await asyncio.sleep(0.2 if new.input_id.startswith("poison") else 1.0)
            if new.input_id.startswith("poison"):
                os.kill(os.getpid(), signal.SIGKILL)
            return "answered"
        found = await turn.step("look", len, new.payload)
        if self.mode == "hang before":
            say("hangs", new.input_id)
            await asyncio.Event().wait()
        await turn.once("write", self.write, new.input_id, probe=self.probe(new.input_id))
        say("wrote", new.input_id)
        return f"{new.payload} {found}"

    async def write(self, input_id: str) -> None:
        if self.mode == "hang in once":
            say("hangs", input_id)
            await asyncio.Event().wait()
        with self.ledger.open("a") as file:
            file.write(f"{input_id}\n")
        if self.mode == "hang after":
            say("hangs", input_id)
            await asyncio.Event().wait()

    def probe(self, input_id: str):  # type: ignore[no-untyped-def]
        def look(key: str) -> Report:
            """Whoever asks is alone: the process that was writing is dead."""
            if input_id not in self.ledger.read_text().split():
                with self.ledger.open("a") as file:
                    file.write(f"{input_id}\n")
            return Report()

        return look


async def main() -> None:
    if sys.argv[4:] == ["no polls"]:
        vars(machine)["POLL_MS_MAX"] = 3_600_000
    store = open_store(sys.argv[1])
    runtime = Runtime(store, Agent(Path(sys.argv[2]), sys.argv[3]), ttl_ms=TTL_MS)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    async with runtime:
        say("ready")
        await asked.wait()
        await runtime.drain(200)
    await store.aclose()
    say("drained")


if __name__ == "__main__":
    asyncio.run(main())
