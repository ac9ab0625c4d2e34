"""`script:FILE`: a chat agent whose model needs no server.  The model is a pure function of the transcript.

A prompt is a script.  Each line is one reply; ` & ` joins the tool calls of one reply.

    add 2 3 & append paid            sleep 50 & fail 2            read notes.txt
    raise no luck                    big 5000000                  value done
    buy a ticket

`buy` waits for an approval, and then does what `append` does.  Any other line is text.  At the end of the script the model answers with these texts and the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tenure.limits import MESSAGE_BYTES_MAX
from tenure.messages.codec import to_json
from tenure.messages.types import Delta, Finish, Message, Reply, Request, ToolCall
from tenure.transcript import Role, UsageDelta

from ..runtime.steps import Report
from .chat import ChatAgent
from .ledger_file import LedgerFile
from .tools import FunctionTool, ToolFailed, make

__all__ = ["add", "calls_of", "fail", "reply_to", "script", "since_prompt", "sleep"]


READ_MAX: Final = 1_000_000
SHOWN_MAX: Final = 60
PARAMETERS: Final[dict[str, tuple[str, type]]] = {
    "add": ("numbers", list),
    "read": ("path", str),
    "append": ("text", str),
    "buy": ("text", str),
    "sleep": ("ms", int),
    "fail": ("times", int),
    "raise": ("message", str),
    "big": ("characters", int),
    "value": ("value", str),
}


class ScriptModel:
    """A model whose n-th reply in a run is the n-th line of the prompt."""

    model = "script"

    async def complete(self, request: Request, emit: Callable[[Delta], None], key: str) -> Reply:
        """Return the reply; its text is emitted as one piece."""
        reply = reply_to(request)
        if reply.text:
            emit(Delta("text", reply.text))
        return reply


def reply_to(request: Request) -> Reply:
    """Return the reply to a request: a pure function of the transcript."""
    prompt, since = since_prompt(request.messages)
    lines = [line.strip() for line in prompt.text.splitlines() if line.strip()]
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
    texts = [line for line in lines if not calls_of(line, 0)]
    return Reply("; ".join([*texts, *results]) or "nothing", usage=(used,))


def since_prompt(messages: tuple[Message, ...]) -> tuple[Message, tuple[Message, ...]]:
    """Return the prompt of this run, and the messages after it."""
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
    """Return a text, or its length if it is long."""
    return text if len(text) <= SHOWN_MAX else f"{len(text)} characters"


def calls_of(line: str, step: int) -> tuple[ToolCall, ...]:
    """Return the tool calls of a line, or () if the line is text."""
    calls = []
    for index, part in enumerate(line.split(" & ")):
        name, _, rest = part.strip().partition(" ")
        if name not in PARAMETERS:
            return ()
        parameter, kind = PARAMETERS[name]
        parts = rest.split()
        if kind is str:
            argument: object = rest
        elif not parts or not all(p.lstrip("-").isdigit() for p in parts):
            return ()
        else:
            argument = [int(p) for p in parts] if kind is list else int(parts[0])
        calls.append(ToolCall(f"c{step}-{index}", name, to_json({parameter: argument})))
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
    """Fail without a retry."""
    raise ToolFailed(message)


def big(characters: int) -> str:
    """Return a long text."""
    return "x" * characters


def value(value: str) -> str:
    """Return the final value of the turn."""
    return value


def tools(file: LedgerFile) -> tuple[FunctionTool, ...]:
    """Return the tools of the script agent; `append` writes to `file`."""

    def append(text: str, key: str) -> str:
        """Append a line to the ledger."""
        file.append(key, text)
        return f"appended {text}"

    def buy(text: str, key: str) -> str:
        """Append a line to the ledger, if somebody approves it."""
        file.append(key, text)
        return f"bought {text}"

    def look(key: str) -> Report | None:
        return Report("appended") if file.holds(key) else None

    def look_bought(key: str) -> Report | None:
        return Report("bought") if file.holds(key) else None

    return (
        make(add),
        make(read),
        make(append, once=True, probe=look),
        make(buy, once=True, probe=look_bought, approve=True),
        make(sleep),
        make(fail, attempts=5, base_ms=1),
        make(complain, name="raise"),
        make(big),
        make(value, finishes=True),
    )


def script(path: Path) -> ChatAgent:
    """Return the script agent.  Its tools `append` and `buy` write lines `idempotency-key text` to `path`."""
    system, result_max = "Follow the script.", MESSAGE_BYTES_MAX
    return ChatAgent(ScriptModel(), tools(LedgerFile(path)), system=system, result_max=result_max)
