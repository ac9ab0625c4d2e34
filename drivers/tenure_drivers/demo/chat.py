"""Chat agents for the demo: a model, tools with countable effects, and fault points.

At a fault point a process sends SIGKILL to itself, where a signal from outside cannot be aimed: during a model call,
between a call and its tool, during a once tool before and after its effect, between a report and its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import evolve, frozen

from tenure.commands import Checkpoint
from tenure.messages.codec import to_json
from tenure.messages.types import Delta, Finish, ModelFailed, Reply, Request, ToolCall
from tenure.queries import Command
from tenure.records import EntryKind
from tenure.transcript import Role

from ..agents.chat import ChatAgent
from ..agents.script import add, fail, reply_to, since_prompt
from ..agents.script import sleep as wait
from ..agents.tools import make
from ..models import ModelClient
from ..runtime.steps import Report
from .plan import Plan

__all__ = ["FAULTS", "FAULT_PLACES", "FaultPoints", "chat", "chatting", "right_answer", "triggered"]


FAULT_PLACES: Final[dict[str, str]] = {
    "in_model": "during a model call",
    "before_tool": "between a call and its tool",
    "in_tool": "during a once tool, before its effect",
    "after_effect": "during a once tool, after its effect",
    "before_report": "between a report and its checkpoint",
}
FAULTS: Final = "faults"
THINKS_S: Final = (0.01, 0.06)
CALLS: Final = "Call these tools in this order, then say what you found:"


# -- prompts


def chatting(plan: Plan, agent: str) -> Plan:
    """Return the plan with prompts that make a model call tools."""
    form = _script if agent == "script" else _request
    prompts = []
    for prompt in plan.prompts:
        dice = random.Random(f"chat {plan.seed} {prompt.input_id}")
        prompts.append(evolve(prompt, text=form(prompt.input_id, dice, prompt.text)))
    return evolve(plan, prompts=tuple(prompts))


def _script(name: str, dice: random.Random, about: str) -> str:
    first, last = ([dice.randrange(100) for _ in range(2)] for _ in range(2))
    lines = [
        f"add {first[0]} {first[1]} & append {name} {about}",
        f"sleep {dice.randrange(10, 80)} & add {last[0]} {last[1]}",
    ]
    if dice.random() < 0.3:
        lines.append(f"fail {dice.randrange(1, 3)}")
    return "\n".join(lines)


def _request(name: str, dice: random.Random, about: str) -> str:
    """Return a prompt in plain words, which the model server of the tests follows."""
    numbers = [dice.randrange(100), dice.randrange(100)]
    return "\n".join(
        (
            CALLS,
            f"call add {to_json({'numbers': numbers})}",
            f"and append {to_json({'text': f'{name} {about}'})}",
            f"call sleep {to_json({'ms': dice.randrange(10, 60)})}",
        )
    )


def right_answer(prompt: str) -> str:
    """Return the correct answer to a scripted prompt: its sums, and the line that was written."""
    sums, name = [], ""
    for part in prompt.replace("\n", " & ").split(" & "):
        word, *rest = part.split()
        if word == "add":
            sums.append(sum(map(int, rest)))
        elif word == "append":
            name = rest[0]
    return f"{name}: {sums}, written down"


# -- fault points


@frozen
class FaultPoints:
    """Kills the own process at most `most` times in each place, and once per input.  Files count for all processes."""

    folder: Path
    seed: str
    most: int = 3

    def __call__(self, place: str, name: str) -> None:
        """Kill this process, with a probability that the seed determines."""
        mine = hashlib.sha256(name.encode()).hexdigest()[:16]
        triggered_here = sum(path.name.startswith(f"{place}-") for path in self.folder.iterdir())
        dice = random.Random(f"{self.seed} {place} {name}").random()
        if triggered_here >= self.most or dice >= (0.12 if triggered_here else 0.35):
            return
        try:
            (self.folder / f"{place}-{mine}").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def before(self, command: Command[Any, Any]) -> None:
        """Fault points before a command is sent to the store."""
        if isinstance(command, Checkpoint):
            if any(entry.kind is EntryKind.START for entry in command.entries):
                self("before_tool", command.run_id)
            elif _has_result(command):
                self("before_report", command.run_id)


def _has_result(command: Checkpoint) -> bool:
    reported = any(":tool:" in entry.effect_id for entry in command.entries)
    return reported or any(node.role is Role.TOOL for node in command.nodes)


def triggered(folder: Path) -> dict[str, int]:
    """Return how many processes were killed in each place."""
    found = [path.name.partition("-")[0] for path in (folder / FAULTS).iterdir()]
    return {place: found.count(place) for place in FAULT_PLACES}


# -- the model


@frozen
class ScriptedModel:
    """A model that follows the prompt.  If the outcome of a write is unknown, it calls the tool again."""

    fault_points: FaultPoints
    seed: str
    model: str = "script"

    async def complete(self, request: Request, emit: Callable[[Delta], None], key: str, /) -> Reply:
        """Return the reply; pass a fault point on the way."""
        emit(Delta("text", "Let me "))
        asked, _ = since_prompt(request.messages)
        await wait(int(random.Random(f"{self.seed} {key}").uniform(*THINKS_S) * 1000))
        self.fault_points("in_model", asked.text)
        emit(Delta("text", "see."))
        return _reply(request)


def _reply(request: Request) -> Reply:
    reply = reply_to(request)
    if reply.calls:
        return reply
    asked, since = since_prompt(request.messages)
    calls = {call.call_id: call for message in since for call in message.calls}
    results = [(calls[m.call_id], m) for m in since if m.call_id in calls]
    appended = [(call, m) for call, m in results if call.name == "append"]
    if appended and all(m.is_error for _, m in appended):
        again = ToolCall(f"again-{len(appended)}", "append", appended[-1][0].arguments)
        return Reply("", (again,), finish=Finish.TOOL_CALLS, usage=reply.usage)
    sums = [int(m.text) for call, m in results if call.name == "add" and not m.is_error]
    name = json.loads(appended[-1][0].arguments)["text"].split()[0] if appended else ""
    return Reply(f"{name}: {sums}, written down", usage=reply.usage)


@frozen
class FaultyModel:
    """Wraps a model client: each delta of a reply is a fault point."""

    client: ModelClient
    fault_points: FaultPoints

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.client.model

    async def complete(
        self, request: Request, emit: Callable[[Delta], None], key: str, /
    ) -> Reply | ModelFailed:
        """Return the reply of the wrapped client."""
        asked = next(m.text for m in reversed(request.messages) if m.role is Role.USER)

        def shown(delta: Delta) -> None:
            emit(delta)
            self.fault_points("in_model", asked)

        return await self.client.complete(request, shown, key)


# -- the agent


class LedgerWriter(Protocol):
    """The methods of the demo's ledger that a tool uses."""

    path: Path

    def write(self, input_id: str, text: str) -> None: ...
    async def delay_report(self, input_id: str) -> None: ...


def chat(name: str, ledger: LedgerWriter, fault_points: FaultPoints, seed: str) -> ChatAgent:
    """Return a chat agent with the model `name`: `script` or `openai:MODEL`."""

    async def append(text: str, key: str) -> str:
        """Write a line into the ledger."""
        input_id = text.partition(" ")[0]
        await ledger.delay_report(input_id)
        fault_points("in_tool", input_id)
        ledger.write(input_id, f"{key} {text}")
        fault_points("after_effect", input_id)
        await ledger.delay_report(input_id)
        return "written"

    def look(key: str) -> Report | None:
        """Probe: report whether the line is in the ledger."""
        lines = ledger.path.read_text().splitlines() if ledger.path.exists() else []
        return Report("written") if any(key in line.split(" ")[1:2] for line in lines) else None

    client: ModelClient
    if name == "script":
        client = ScriptedModel(fault_points, seed)
    else:
        from ..agents.openai import openai_model

        client = FaultyModel(openai_model(name), fault_points)
    tools = (
        make(add),
        make(wait, name="sleep"),
        make(fail, attempts=5, base_ms=1),
        make(append, once=True, probe=look),
    )
    return ChatAgent(client, tools, system="Use the tools that you are told to use, once each.")
