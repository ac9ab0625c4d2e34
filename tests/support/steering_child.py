"""A worker in another process: `steering_child.py STORE MODE`.

Its agent calls a tool that waits for a line on standard input, and then asks its model again.  With MODE `die` the process
kills itself when the model is asked with something that was said after the prompt: what it took is durable, and nothing is
answered.  It prints what the model is asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable

from tenure.messages.types import Delta, Finish, Reply, Request, ToolCall
from tenure.transcript import Role
from tenure_drivers import ChatAgent, Runtime, tool
from tenure_drivers.stores.registry import open_store

TTL_MS = 3_600_000  # nobody can wait for it to lapse


def say(kind: str, *values: str) -> None:
    print(json.dumps([kind, *values]), flush=True)


@tool
def wait() -> str:
    """Wait until somebody has written a line."""
    say("waits")
    sys.stdin.readline()
    return "somebody wrote"


class Model:
    model = "steered"

    def __init__(self, mode: str) -> None:
        self.mode = mode

    async def complete(self, request: Request, emit: Callable[[Delta], None], key: str) -> Reply:
        told = [m.text for m in request.messages if m.role is Role.USER]
        say("asked", *told)
        if len(told) > 1 and self.mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if not any(m.role is Role.TOOL for m in request.messages):
            return Reply("", (ToolCall("c", "wait", "{}"),), finish=Finish.TOOL_CALLS)
        return Reply(f"{told[-1]}: done")


async def main() -> None:
    url, mode = sys.argv[1:]
    store = open_store(url)
    async with Runtime(store, ChatAgent(Model(mode), [wait]), ttl_ms=TTL_MS) as runtime:
        say("ready")
        await runtime.receipt("s", "i").ended()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
