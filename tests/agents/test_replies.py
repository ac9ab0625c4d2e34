"""What a model client of somebody else returns is checked before the turn uses it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tenure.messages.types import Finish, Reply, Request, ToolCall
from tenure.transcript import Role
from tenure_drivers import ChatAgent, Runtime, tool
from tenure_drivers.runtime.errors import NotAnswered
from tenure_drivers.stores.memory import MemoryStore

HALF = "\ud800"


@tool
def shout(word: str) -> str:
    """Say a word loudly."""
    return word.upper()


class Client:
    """Returns what it was made with, and an answer after a tool result."""

    model = "m"

    def __init__(self, answer: Any) -> None:
        self.answer, self.calls = answer, 0

    async def complete(self, request: Request, emit: Any, key: str) -> Any:
        self.calls += 1
        results = [m.text for m in request.messages if m.role is Role.TOOL]
        return Reply(f"{results}") if results else self.answer


def ask(client: Client) -> str | None:
    async def run() -> str | None:
        async with (
            aclosing(MemoryStore()) as store,
            Runtime(store, ChatAgent(client, [shout])) as r,
        ):
            return await (await r.submit("s", "hello")).result(30)

    return asyncio.run(run())


def calling(*calls: Any) -> Reply:
    return Reply("", calls, finish=Finish.TOOL_CALLS)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "it returned None; expected a Reply"),
        ("hello", "it returned str; expected a Reply"),
        (Reply(5), "Reply.text is of type int; expected str"),  # type: ignore[arg-type]
        (Reply("", None), "Reply.calls is None; expected a tuple"),  # type: ignore[arg-type]
        (calling({"name": "shout"}), r"Reply.calls\[0\] is of type dict; expected a ToolCall"),
        (
            calling(ToolCall("c1", "shout", {"word": "x"})),  # type: ignore[arg-type]
            r"Reply.calls\[0\].arguments is of type dict; expected str",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_reply_ends_the_run_at_once(answer: Any, problem: str) -> None:  # CHAT-28
    client = Client(answer)

    with pytest.raises(NotAnswered, match=f"invalid_request.*{problem}"):
        ask(client)

    assert client.calls == 1


def test_half_of_a_surrogate_pair_in_arguments_is_read() -> None:  # CHAT-28
    client = Client(calling(ToolCall("c1", "shout", f'{{"word": "a{HALF}"}}')))

    assert ask(client) == "['A?']"
