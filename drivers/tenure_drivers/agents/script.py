"""`script:FILE`: a model that needs no server, a pure function of the transcript, with real tools.

A prompt is a script: each line is one reply, calls of one line are joined by ` & `.

    add 2 3 & append paid            sleep 50 & fail 2            read notes.txt
    raise no luck                    big 5000000                  value done

What is no call is said.  At the end of the script the model answers with the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tenure.messages.codec import to_json
from tenure.messages.types import Delta, Finish, Message, Reply, Request, ToolCall
from tenure.transcript import Role, UsageDelta

from ..runtime.steps import Report
from .chat import ChatAgent
from .ledger_file import LedgerFile
from .tools import FunctionTool, ToolFailed, make

READ_MAX: Final = 1_000_000
SHOWN_MAX: Final = 60
PARAMETERS: Final[dict[str, tuple[str, type]]] = {
    "add": ("numbers", list),
    "read": ("path", str),
    "append": ("text", str),
    "sleep": ("ms", int),
    "fail": ("times", int),
    "raise": ("message", str),
    "big": ("characters", int),
    "value": ("value", str),
}


class ScriptModel:
    """The n-th reply of a run is the n-th line of its prompt."""

    model = "script"

    async def complete(self, request: Request, emit: Callable[[Delta], None], key: str) -> Reply:
        reply = reply_to(request)
        if reply.text:
            emit(Delta("text", reply.text))
        return reply


def reply_to(request: Request) -> Reply:
    """A pure function of the transcript."""
    asked, since = since_prompt(request.messages)
    lines = [line.strip() for line in asked.text.splitlines() if line.strip()]
    replies = [m for m in since if m.role is Role.ASSISTANT]
    used = UsageDelta(
        "turn", "script", 1, sum(len(m.text) // 4 + 1 for m in request.messages), len(lines)
    )
    calls: tuple[ToolCall, ...] = ()
    if len(replies) < len(lines) and request.tools:
        calls = calls_of(lines[len(replies)], len(replies))
    if calls:
        return Reply("", calls, finish=Finish.TOOL_CALLS, usage=(used,))
    results = [short(m.text) for m in since if m.role is Role.TOOL]
    words = [line for line in lines if not calls_of(line, 0)]
    return Reply("; ".join([*words, *results]) or "nothing", usage=(used,))


def since_prompt(messages: tuple[Message, ...]) -> tuple[Message, tuple[Message, ...]]:
    """The prompt of this run: the user's words before the first reply to them, and what came since."""
    start = 0
    for at, message in enumerate(messages):
        last = messages[at - 1] if at else None
        ended = last is None or (last.role is Role.ASSISTANT and not last.calls)
        closed = last is not None and last.role is Role.TOOL
        if message.role is Role.USER and (ended or closed):
            if not message.text.startswith("You have used up"):
                start = at
    return messages[start], messages[start + 1 :]


def short(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{len(text)} characters"


def calls_of(line: str, step: int) -> tuple[ToolCall, ...]:
    """The calls of a line; none if it is no line of calls."""
    calls = []
    for index, part in enumerate(line.split(" & ")):
        name, _, rest = part.strip().partition(" ")
        if name not in PARAMETERS:
            return ()
        parameter, kind = PARAMETERS[name]
        words = rest.split()
        if kind is str:
            given: object = rest
        elif not words or not all(w.lstrip("-").isdigit() for w in words):
            return ()
        else:
            given = [int(w) for w in words] if kind is list else int(words[0])
        calls.append(ToolCall(f"c{step}-{index}", name, to_json({parameter: given})))
    return tuple(calls)


# -- the tools


def add(numbers: list[int]) -> int:
    """Add numbers."""
    return sum(numbers)


def read(path: str) -> str:
    """Read a text file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(READ_MAX)


async def sleep(ms: int) -> str:
    """Wait."""
    await asyncio.sleep(ms / 1000)
    return f"slept {ms} ms"


def fail(times: int, attempt: int) -> str:
    """Fail some times, then succeed."""
    if attempt <= times:
        raise RuntimeError(f"failure {attempt} of {times}")
    return f"succeeded after {times}"


def complain(message: str) -> str:
    """Fail for good."""
    raise ToolFailed(message)


def big(characters: int) -> str:
    """Return a lot."""
    return "x" * characters


def value(value: str) -> str:
    """Give the final value."""
    return value


def tools(file: LedgerFile) -> tuple[FunctionTool, ...]:
    def append(text: str, key: str) -> str:
        """Append a line to the ledger."""
        file.append(key, text)
        return f"appended {text}"

    def look(key: str) -> Report | None:
        return Report("appended") if file.holds(key) else None

    return (
        make(add),
        make(read),
        make(append, once=True, probe=look),
        make(sleep),
        make(fail, attempts=5, base_ms=1),
        make(complain, name="raise"),
        make(big),
        make(value, finishes=True),
    )


def script(path: Path) -> ChatAgent:
    """Lines appended by the scripts go to `path`: `idempotency-key text`."""
    return ChatAgent(ScriptModel(), tools(LedgerFile(path)), system="Follow the script.")
