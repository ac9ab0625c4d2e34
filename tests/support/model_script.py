"""Scripted replies of the model server, and a deterministic model.  See model_server.py."""

from __future__ import annotations

import asyncio
import enum
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, field, frozen


class Fault(enum.StrEnum):
    CUT = "cut"  # the connection ends
    CLOSE = "close"  # the stream ends as if it were whole
    GARBAGE = "garbage"  # a piece that is not JSON
    BYTES = "bytes"  # a piece that is not UTF-8
    ODD = "odd"  # a piece that is JSON of another shape
    ERROR = "error"  # an error in place of a piece
    HOLD = "hold"  # nothing more, until the client goes or `release` is called


@frozen
class Call:
    name: str
    arguments: str
    call_id: str | None = ""  # "": the server makes one; None: it sends none


@frozen
class Say:
    """An answer; `fault` strikes before piece number `at`."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    finish: str | None = ""  # "": the usual one; None: no finish reason is sent
    usage: bool = True
    fault: Fault | None = None
    at: int = 0
    size: int = 4  # characters of a piece
    pause_ms: int = 0  # before each piece
    plain: bool = False  # JSON even where a stream was asked for
    indexed: bool = True  # pieces of calls have an index
    error: str = '{"message": "it broke", "type": "server_error", "code": "server_error"}'


@frozen
class Refuse:
    status: int
    message: str = "no"
    code: str | None = None
    kind: str = "error"
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None  # in place of the JSON
    cut: bool = False  # in the middle of the body


@frozen
class Raw:
    """An answer as it is, whatever was asked for."""

    content_type: str
    body: str
    status: int = 200

    @classmethod
    def json(cls, value: Any) -> Raw:
        return cls("application/json", json.dumps(value))

    @classmethod
    def events(cls, *values: Any) -> Raw:
        lines = [f"data: {json.dumps(value)}\n\n" for value in values]
        return cls("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))


@define
class Asked:
    """A request as it came."""

    number: int
    path: str
    headers: dict[str, str]
    body: Any
    gone: asyncio.Event = field(
        factory=asyncio.Event
    )  # the client left before the answer was whole
    begun: asyncio.Event = field(
        factory=asyncio.Event
    )  # the server has done all it does before it holds

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["messages"]
        return found


Script: TypeAlias = Callable[[Asked], "Say | Refuse | Raw"]


def in_turn(*answers: Say | Refuse | Raw) -> Script:
    """One answer a request; the last one for ever."""
    return lambda asked: answers[min(asked.number, len(answers)) - 1]


def digest_of(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# -- a model that needs no model


def answer_to(prompt: str) -> str:
    """Return the final answer to a prompt."""
    return f"{digest_of(prompt)[:8]}: {prompt}"


def plan_of(prompt: str) -> list[list[Call]]:
    """The rounds of calls that a prompt asks for: lines `call NAME ARGUMENTS`; `and NAME ARGUMENTS` in the same round."""
    rounds: list[list[Call]] = []
    for line in prompt.splitlines():
        word, _, rest = line.strip().partition(" ")
        name, _, arguments = rest.partition(" ")
        if word == "call" or (word == "and" and not rounds):
            rounds.append([])
        if word in ("call", "and") and name:
            rounds[-1].append(Call(name, arguments or "{}"))
    return rounds


def invent(schema: dict[str, Any], seed: str) -> Any:
    """A small value that fits a schema."""
    dice = int(digest_of(seed)[:8], 16)
    if "enum" in schema:
        return schema["enum"][dice % len(schema["enum"])]
    match schema.get("type"):
        case "object":
            wanted = schema.get("required", list(schema.get("properties", {})))
            return {n: invent(schema.get("properties", {}).get(n, {}), seed + n) for n in wanted}
        case "array":
            return [invent(schema.get("items", {}), f"{seed}{i}") for i in range(dice % 3)]
        case "integer" | "number":
            return dice % 10
        case "boolean":
            return bool(dice % 2)
        case _:
            return f"w{dice % 1000}"


def said_by(asked: Asked) -> str:
    """The text of the last message of a user."""
    content = next((m["content"] for m in reversed(asked.messages) if m["role"] == "user"), "")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def rounds_so_far(asked: Asked) -> int:
    """How often tools were called since a user spoke last."""
    rounds = 0
    for message in reversed(asked.messages):
        if message["role"] == "user":
            break
        rounds += bool(message.get("tool_calls"))
    return rounds


@frozen
class Model:
    """A model that makes the calls of the `call` lines of a prompt, or calls some of the offered tools, and then answers.

    With `wrong`, one in so many calls has arguments that are not JSON.
    """

    seed: int = 0
    rounds_max: int = 2
    tools: frozenset[str] = frozenset()  # tools that it may choose; empty: all
    wrong: int = 0
    pause_ms: int = 0

    def __call__(self, asked: Asked) -> Say:
        prompt, done = said_by(asked), rounds_so_far(asked)
        rounds = plan_of(prompt) or self._invented(asked, prompt)
        reasoning = f"round {done + 1} of {len(rounds) + 1}"
        if done < len(rounds):
            calls = tuple(self._spoilt(call, asked) for call in rounds[done])
            return Say(calls=calls, reasoning=reasoning, pause_ms=self.pause_ms)
        return Say(answer_to(prompt), reasoning=reasoning, pause_ms=self.pause_ms)

    def _invented(self, asked: Asked, prompt: str) -> list[list[Call]]:
        offered = [tool["function"] for tool in asked.body.get("tools", ())]
        tools = [t for t in offered if not self.tools or t["name"] in self.tools]
        dice = int(digest_of(self.seed, prompt)[:8], 16)
        rounds: list[list[Call]] = []
        for r in range(dice % (self.rounds_max + 1) if tools else 0):
            picks = [tools[(dice >> (4 * r + i)) % len(tools)] for i in range(1 + (dice >> r) % 2)]
            made = [(t, invent(t["parameters"], f"{dice}{r}{i}")) for i, t in enumerate(picks)]
            rounds.append([Call(t["name"], json.dumps(arguments)) for t, arguments in made])
        return rounds

    def _spoilt(self, call: Call, asked: Asked) -> Call:
        if (
            not self.wrong
            or int(digest_of(self.seed, call.name, call.arguments)[:8], 16) % self.wrong
        ):
            return call
        return Call(call.name, call.arguments[: len(call.arguments) // 2])


FAULTS: tuple[Callable[[Say], Say | Refuse], ...] = (
    lambda say: Refuse(
        429, "slow down", "rate_limit_exceeded", headers=(("retry-after-ms", "20"),)
    ),
    lambda say: Refuse(500, "it broke", "server_error"),
    lambda say: Refuse(503, "busy", "overloaded", headers=(("retry-after-ms", "10"),)),
    lambda say: _with(say, Fault.CUT),
    lambda say: _with(say, Fault.GARBAGE),
    lambda say: _with(say, Fault.ERROR),
)


def _with(say: Say, fault: Fault) -> Say:
    return Say(say.text, say.calls, say.reasoning, fault=fault, at=3, pause_ms=say.pause_ms)


@frozen
class Faulty:
    """A model that fails up to `in_a_row` times before it answers a conversation.

    How often, and how, is a function of the conversation and the seed.  None of its faults is permanent.
    """

    model: Model
    in_a_row: int = 2
    seen: Counter[str] = field(factory=Counter)

    def __call__(self, asked: Asked) -> Say | Refuse:
        name = digest_of(self.model.seed, [[m["role"], m.get("content")] for m in asked.messages])
        dice = int(name[:8], 16)
        self.seen[name] += 1
        answer = self.model(asked)
        if self.seen[name] > dice % (self.in_a_row + 1):
            return answer
        return FAULTS[(dice // 16 + self.seen[name]) % len(FAULTS)](answer)
