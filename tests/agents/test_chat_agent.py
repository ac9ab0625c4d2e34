"""Chat agents on real stores: tools from type hints, cancels and deadlines, processes killed at every boundary."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paths import SUPPORT
from scripted_chat import ONE, Scripted, calling, saying, texts, transcript

from tenure.check.turn.properties import unanswered
from tenure.failure import ErrorKind, Failure
from tenure.frame import FrameStatus, Switch
from tenure.messages.types import (
    Attachment,
    Delta,
    Message,
    ModelFailed,
    Reply,
    Request,
    ToolCall,
)
from tenure.questions import LoadFrames
from tenure.questions.core import InputStatus, LoadOverview
from tenure.records import Frame
from tenure.transcript import Role
from tenure.turn.chat_policy import write_prompt
from tenure.turn.loading import LoadTurn
from tenure.turn.protocol import HandOff, ToolResult
from tenure_drivers import Runtime, open_store
from tenure_drivers.agents.chat import ChatAgent
from tenure_drivers.agents.registry import find_agent
from tenure_drivers.agents.script import calls_of, reply_to, script
from tenure_drivers.agents.tools import ToolFailed, collect, make, tool
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.process import local_process
from tenure_drivers.stores.base import Store

WAIT_S = 30
CHILD = SUPPORT / "chat_child.py"


async def chat(
    agent: ChatAgent, *prompts: str, store: Store | None = None
) -> tuple[list[InputStatus], tuple[Message, ...]]:
    opened = store or open_store("memory:")
    ended = []
    async with Runtime(opened, agent) as runtime:
        for prompt in prompts:
            receipt = await runtime.submit("s", prompt)
            ended.append(await receipt.ended(WAIT_S))
    messages = await transcript(opened)
    assert list(unanswered(list(messages))) == []
    if store is None:
        await opened.aclose()
    return ended, messages


# -- your own agent in ten lines


def test_an_agent_of_your_own_in_ten_lines() -> None:
    client = Scripted(calling(("c", "price", '{"item":"tea","count":2}')), saying("6 euros"))

    @tool
    def price(item: str, count: int = 1) -> int:
        """What does it cost?"""
        return 3 * count

    async def main() -> str | None:
        async with Runtime(open_store("memory:"), ChatAgent(client, [price])) as runtime:
            receipt = await runtime.submit("s", "two teas?")
            return (await receipt.ended(WAIT_S)).answer

    assert asyncio.run(main()) == "6 euros"
    (described,) = client.requests[0].tools
    assert (described.name, described.description) == ("price", "What does it cost?")
    assert msgspec.json.decode(described.schema) == {
        "type": "object",
        "properties": {"item": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        "required": ["item"],
        "additionalProperties": False,
    }
    assert [m.text for m in client.requests[1].messages] == ["two teas?", "", "6"]


# -- tools


def test_the_value_of_a_tool_becomes_text() -> None:
    values: list[tuple[object, str]] = [
        ("as it is", "as it is"),
        (None, "done"),
        ({"a": [1]}, '{"a":[1]}'),
        (Attachment("file:x", "image/png", "x"), "x"),
        (ToolResult("kept"), "kept"),
    ]
    for value, text in values:

        async def body(value: object = value) -> str:
            made = make(lambda: value, name="t")
            return (await made.run(ToolCall("c", "t", ""), "k", 1)).text

        assert asyncio.run(body()) == text


def test_key_and_attempt_are_not_in_the_schema() -> None:
    def send(to: str, key: str, attempt: int) -> str:
        return f"{to} {key} {attempt}"

    made = make(send)
    result = asyncio.run(made.run(ToolCall("c", "send", '{"to":"me"}'), "r:1:1:tool:0", 2))

    assert result.text == "me r:1:1:tool:0 2"
    assert list(msgspec.json.decode(made.tool.schema)["properties"]) == ["to"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [('{"count":"two"}', "invalid arguments"), ('{"cuont":2}', "invalid arguments"), ("{}", "3")],
)
def test_arguments_are_checked_against_the_hints(arguments: str, said: str) -> None:
    def price(count: int = 1) -> int:
        return 3 * count

    result = asyncio.run(make(price).run(ToolCall("c", "price", arguments), "k", 1))

    assert said in result.text and result.is_error is (said != "3") and not result.retryable


def test_an_exception_in_a_tool_is_a_result() -> None:
    def broken(how: str) -> None:
        match how:
            case "told":
                raise ToolFailed("there is no such item")
            case "exit":
                raise SystemExit(3)
            case "secret":
                raise ValueError("bearer abc123 was refused")
            case _:
                raise asyncio.CancelledError("from inside")

    async def run(how: str) -> ToolResult:
        return await make(broken).run(ToolCall("c", "broken", f'{{"how":"{how}"}}'), "k", 1)

    told_, left, secret, inside = [asyncio.run(run(how)) for how in ("told", "exit", "secret", "x")]
    assert (told_.text, told_.retryable) == ("there is no such item", False)
    assert left.retryable and inside.is_error and inside.retryable
    assert secret.text == "ValueError: bearer abc123 was refused"  # the model gets what was raised


def test_an_invalid_tool_is_refused_with_a_reason() -> None:
    with pytest.raises(TypeError, match="args"):
        make(lambda *args: 1, name="t")
    with pytest.raises(ValueError, match="a once tool has one attempt"):
        make(lambda: 1, name="t", once=True, attempts=2)
    with pytest.raises(ValueError, match="only a once tool has a probe"):
        make(lambda: 1, name="t", probe=lambda key: None)
    with pytest.raises(ValueError, match="duplicate tool name"):
        collect([make(lambda: 1, name="t"), make(lambda: 2, name="t")])


# -- the turn on a store


def test_batches_run_concurrently_and_are_recorded_in_order() -> None:
    running, most = 0, 0

    @tool
    async def look(ms: int) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(ms / 1000)
        running -= 1
        return str(ms)

    calls = [(f"c{i}", "look", f'{{"ms":{ms}}}') for i, ms in enumerate((40, 5, 20, 1))]
    client = Scripted(calling(*calls), saying("ok"))

    _, messages = asyncio.run(chat(ChatAgent(client, [look], concurrency=3), "go"))

    assert [m.text for m in messages if m.role is Role.TOOL] == ["40", "5", "20", "1"]
    assert most == 3


def test_a_slow_tool_is_timed_out_and_retried() -> None:
    seen = []

    @tool(timeout_s=0.05, attempts=2, base_ms=1)
    async def look(attempt: int) -> str:
        seen.append(attempt)
        if attempt == 1:
            await asyncio.sleep(10)
        return "seen"

    client = Scripted(calling(("c", "look", "{}")), saying("ok"))

    _, messages = asyncio.run(chat(ChatAgent(client, [look]), "go"))

    assert seen == [1, 2] and "tool: seen" in texts(messages)


def test_a_once_tool_that_times_out_is_unknown() -> None:
    @tool(timeout_s=0.05, once=True)
    async def pay() -> None:
        await asyncio.sleep(10)

    client = Scripted(calling(("c", "pay", "{}")), saying("ok"))

    _, messages = asyncio.run(chat(ChatAgent(client, [pay]), "go"))

    assert texts(messages)[2] == "tool: no result within 50 ms; its outcome is unknown"


def test_a_provider_failure_is_retried_without_running_tools_again() -> None:
    ran = []

    @tool
    def look() -> str:
        ran.append(1)
        return "seen"

    down = ModelFailed(Failure(ErrorKind.UNAVAILABLE, "no route"), (ONE,))
    client = Scripted(calling(("c", "look", "{}")), down, saying("ok"))
    store = open_store("memory:")

    (ended,), messages = asyncio.run(chat(ChatAgent(client, [look]), "go", store=store))

    assert ended.termination == "finished" and ran == [1]
    look_ = asyncio.run(store.ask(LoadOverview("s")))
    assert look_ is not None and [(u.model, u.requests) for u in look_.usage] == [("m", 3)]


def test_a_permanent_failure_ends_the_run() -> None:
    client = Scripted(ModelFailed(Failure(ErrorKind.UNAUTHORISED, "who are you?")))

    (ended,), _ = asyncio.run(chat(ChatAgent(client), "go"))

    assert (ended.termination, ended.reason) == ("error", "unauthorised: who are you?")


def test_a_client_that_raises_is_a_transient_failure() -> None:
    client = Scripted(RuntimeError("a bug"), saying("ok"))

    (ended,), _ = asyncio.run(chat(ChatAgent(client), "go"))

    assert ended.answer == "ok"


def test_a_value_and_a_refusal() -> None:
    @tool(finishes=True)
    def value(x: int) -> dict[str, int]:
        return {"x": x}

    client = Scripted(calling(("c", "value", '{"x":7}')), Reply(refusal="I will not"))

    (first, second), _ = asyncio.run(chat(ChatAgent(client, [value]), "go", "and?"))

    assert (first.termination, first.answer) == ("finished", '{"x":7}')
    assert (second.termination, second.reason, second.answer) == (
        "stopped",
        "refusal",
        "I will not",
    )


def test_agents_hand_off_to_each_other() -> None:
    @tool
    def pass_on(what: str) -> HandOff:
        return HandOff("writer", what)

    planner = Scripted(calling(("c", "pass_on", '{"what":"write it"}')))
    writer = Scripted(saying("written"))
    agent = ChatAgent(planner, [pass_on], frames={"writer": ChatAgent(writer, system="write")})
    store = open_store("memory:")

    async def main() -> None:
        async with Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "plan it")).ended(WAIT_S)
            deadline = asyncio.get_running_loop().time() + WAIT_S
            while texts(await transcript(store))[-1] != "assistant: written":
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)

    asyncio.run(main())

    assert writer.requests[0].system == "write"
    assert writer.requests[0].messages[-1].text == "[hand off from hand_off:1]\nwrite it"


def test_a_hand_off_opens_a_frame_of_its_own() -> None:
    @tool
    def pass_on() -> HandOff:
        return HandOff(Switch("draft", agent="writer", reason="write it"), "go on")

    planner = Scripted(calling(("c", "pass_on", "{}")))
    agent = ChatAgent(planner, [pass_on], frames={"writer": ChatAgent(Scripted(saying("written")))})
    store = open_store("memory:")

    async def main() -> tuple[Frame, ...]:
        async with Runtime(store, agent) as runtime:
            run = (await (await runtime.submit("s", "plan it")).ended(WAIT_S)).run_id
            ended = await runtime.receipt("s", f"{run}:1:hand_off").ended(WAIT_S)
            assert ended.status == "consumed"
        return await store.ask(LoadFrames("s"))

    first, second = asyncio.run(main())

    assert (first.frame_id, first.agent, first.status) == ("", "", FrameStatus.SUPERSEDED)
    assert (second.frame_id, second.agent, second.status) == ("draft", "writer", FrameStatus.ACTIVE)


def test_an_unknown_frame_ends_the_run() -> None:
    @tool
    def pass_on() -> HandOff:
        return HandOff("nobody", "go on")

    store = open_store("memory:")
    agent = ChatAgent(Scripted(calling(("c", "pass_on", "{}"))), [pass_on])

    async def main() -> InputStatus:
        async with Runtime(store, agent) as runtime:
            first = await runtime.submit("s", "go")
            run = (await first.ended(WAIT_S)).run_id
            return await runtime.receipt("s", f"{run}:1:hand_off").ended(WAIT_S)

    ended = asyncio.run(main())

    assert ended.reason == "unknown_agent: no agent for frame 'nobody'"


def test_prompts_with_attachments_reach_the_model() -> None:
    client = Scripted(saying("a cat"))
    picture = Attachment("https://example.org/cat.png", "image/png")

    asyncio.run(chat(ChatAgent(client), write_prompt("what is it?", (picture,))))

    assert client.requests[0].messages[0].attachments == (picture,)


def test_a_longer_conversation_only_appends() -> None:
    client = Scripted(saying("one"), saying("two"), saying("three"))

    asyncio.run(chat(ChatAgent(client, system="be brief"), "a", "b", "c"))

    first, second, third = client.requests
    assert third.messages[: third.stable] == second.messages
    assert second.messages[: second.stable] == first.messages


def test_deltas_are_shown_as_they_arrive() -> None:
    shown: list[tuple[str, str]] = []

    async def stream(emit: Callable[[Delta], None]) -> Reply:
        emit(Delta("text", "4"))
        emit(Delta("text", "2"))
        return saying("42")

    agent = ChatAgent(Scripted(stream), show=lambda turn, d: shown.append((turn.run_id, d.text)))

    asyncio.run(chat(agent, "go"))

    assert [text for _, text in shown] == ["4", "2"]


# -- cancel, deadline


async def hang(emit: Callable[[Delta], None]) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("where", ["model", "tool", "once"])
def test_a_cancel_aborts_effects_in_progress_and_answers_calls(where: str) -> None:
    began = asyncio.Event()

    async def wait() -> None:
        began.set()
        await asyncio.Event().wait()

    async def model(emit: Callable[[Delta], None]) -> Reply:
        await wait()
        raise AssertionError

    tools = [make(wait, name="tool"), make(wait, name="once", once=True)]
    answer: Any = model if where == "model" else calling(("a", where, "{}"), ("b", "fly", "{}"))
    store = open_store("memory:")

    async def main() -> tuple[InputStatus, tuple[Message, ...]]:
        async with Runtime(store, ChatAgent(Scripted(answer), tools)) as runtime:
            receipt = await runtime.submit("s", "go")
            async with asyncio.timeout(WAIT_S):
                await began.wait()
            status = await receipt.status()
            assert status is not None and status.run_id is not None
            await runtime.cancel("s", status.run_id)
            return await receipt.ended(WAIT_S), await transcript(store)

    ended, messages = asyncio.run(main())

    assert ended.termination == "cancelled"
    assert list(unanswered(list(messages))) == []
    expected = {"tool": "cancelled while it ran", "once": "its outcome is unknown"}
    if where != "model":
        assert expected[where] in messages[2].text
    usage = asyncio.run(store.ask(LoadOverview("s")))
    assert usage is not None and len(usage.usage) == (where != "model")


@pytest.mark.parametrize("how", ["cancel", "interrupt", "deadline"])
@pytest.mark.parametrize(
    ("deltas", "kept"),
    [
        ((), "[stopped before the end]"),
        (
            (Delta("text", "Once "), Delta("reasoning", "hm"), Delta("text", "upon", 1)),
            "Once upon\n\n[stopped before the end]",
        ),
        (
            (Delta("text", "lost", 1), Delta("text", "Once", 2)),
            "Once\n\n[stopped before the end]",
        ),
    ],
)
def test_a_stopped_reply_and_its_prompt_stay(
    how: str, deltas: tuple[Delta, ...], kept: str
) -> None:  # TURN-57
    streamed = asyncio.Event()

    async def half(emit: Callable[[Delta], None]) -> Reply:
        for delta in deltas:
            emit(delta)
        streamed.set()
        await asyncio.Event().wait()
        raise AssertionError

    client = Scripted(half, saying("ok"))
    store = open_store("memory:")

    async def main() -> InputStatus:
        deadline_s = 0.2 if how == "deadline" else 60
        async with Runtime(store, ChatAgent(client, deadline_s=deadline_s)) as runtime:
            first = await runtime.submit("s", "a story")
            async with asyncio.timeout(WAIT_S):
                await streamed.wait()
            status = await first.status()
            assert status is not None and status.run_id is not None
            if how == "cancel":
                await runtime.cancel("s", status.run_id)
            elif how == "interrupt":
                await runtime.interrupt("s")
            ended = await first.ended(WAIT_S)
            await (await runtime.submit("s", "go on")).ended(WAIT_S)
            return ended

    ended = asyncio.run(main())

    assert ended.status == "consumed"
    assert [m.text for m in client.requests[-1].messages] == ["a story", kept, "go on"]


def test_a_deadline_of_the_agent_stops_the_turn() -> None:
    agent = ChatAgent(Scripted(hang), deadline_s=0.05)

    (ended,), _ = asyncio.run(chat(agent, "go"))

    assert (ended.termination, ended.reason) == ("stopped", "deadline")


def test_a_deadline_of_the_runtime_stops_the_turn_too() -> None:
    store = open_store("memory:")

    async def main() -> tuple[InputStatus, tuple[Message, ...]]:
        tools = [make(asyncio.Event().wait, name="wait")]
        agent = ChatAgent(Scripted(calling(("a", "wait", "{}"))), tools)
        async with Runtime(store, agent, turn_deadline_ms=200) as runtime:
            receipt = await runtime.submit("s", "go")
            return await receipt.ended(WAIT_S), await transcript(store)

    ended, messages = asyncio.run(main())

    assert (ended.termination, ended.reason) == ("stopped", "deadline")
    assert messages[-1].text == "interrupted by the deadline of the turn while it ran"


def test_a_drained_turn_is_resumed_by_the_next_runtime() -> None:
    store = open_store("memory:")
    ran = []

    @tool
    async def look() -> str:
        ran.append(1)
        if len(ran) == 1:
            await asyncio.Event().wait()
        return "seen"

    async def main() -> InputStatus:
        client = Scripted(calling(("a", "look", "{}")), saying("ok"))
        async with Runtime(store, ChatAgent(client, [look])) as runtime:
            receipt = await runtime.submit("s", "go")
            while not ran:
                await asyncio.sleep(0.01)
            await runtime.drain(0)
        async with Runtime(store, ChatAgent(client, [look])) as runtime:
            return await runtime.receipt("s", receipt.input_id).ended(WAIT_S)

    assert asyncio.run(main()).answer == "ok" and len(ran) == 2


# -- the script agent


def test_a_script_is_a_pure_function_of_the_transcript() -> None:
    prompt = Message(Role.USER, "add 1 2 & append x\nhello\nadd 3 4")
    request = Request("script", "", (prompt,), (make(lambda: 1, name="add").tool,))

    assert reply_to(request) == reply_to(request)
    assert [c.name for c in reply_to(request).calls] == ["add", "append"]
    assert calls_of("hello there", 0) == () and calls_of("add x", 0) == ()


def test_the_script_agent_uses_real_tools(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("remember")
    prompts = [
        "hello",
        "add 2 3 & append paid",
        f"read {notes} & sleep 5",
        "fail 2",
        "raise no luck",
        "value 42",
    ]

    ended, messages = asyncio.run(chat(script(tmp_path / "ledger"), *prompts))

    assert [e.answer for e in ended] == [
        "hello",
        "5; appended paid",
        "remember; slept 5 ms",
        "succeeded after 2",
        "no luck",
        "42",
    ]
    assert [line.split()[-1] for line in (tmp_path / "ledger").read_text().splitlines()] == ["paid"]


def test_five_megabytes_go_through_sqlite(tmp_path: Path) -> None:
    async def main() -> tuple[list[InputStatus], tuple[Message, ...]]:
        store = open_store(f"sqlite:{tmp_path / 's.db'}")
        try:
            return await chat(script(tmp_path / "ledger"), "big 5000000", store=store)
        finally:
            await store.aclose()

    (ended,), messages = asyncio.run(main())

    assert ended.answer == "5000000 characters" and len(messages[2].text) == 5_000_000


def test_the_script_agent_is_found_by_name(tmp_path: Path) -> None:
    assert isinstance(find_agent(f"script:{tmp_path / 'ledger'}"), ChatAgent)


# -- killed at every boundary


@pytest.fixture
def workers() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(CHILD)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_S) == 0


class Workspace:
    def __init__(self, workers: subprocess.Popen[str], folder: Path, prompt: str) -> None:
        folder.mkdir()
        self.workers = workers
        self.url, self.ledger = f"sqlite:{folder / 'store.db'}", folder / "ledger"
        asyncio.run(self._submit(prompt))

    async def _submit(self, prompt: str) -> None:
        store = open_store(self.url)
        await Client(store).submit("s", prompt, input_id="i")
        await store.aclose()

    def work(self, at: int, when: str, *more: str) -> int | None:
        """Return None if the process was killed, else the number of events that it saw."""
        assert self.workers.stdin is not None and self.workers.stdout is not None
        line = json.dumps([self.url, str(self.ledger), str(at), when, *more])
        print(line, file=self.workers.stdin, flush=True)
        said = int(self.workers.stdout.readline())
        assert said == -9 or said >= 0
        return None if said == -9 else said

    def read(self) -> tuple[InputStatus, tuple[Message, ...], list[str]]:
        async def body() -> tuple[InputStatus, tuple[Message, ...]]:
            store = open_store(self.url)
            status = await Client(store).receipt("s", "i").status()
            assert status is not None
            messages = await transcript(store)
            assert await store.ask(LoadTurn("s", status.run_id or "")) is not None
            await store.aclose()
            return status, messages

        status, messages = asyncio.run(body())
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return status, messages, lines


SCRIPT = "add 2 3 & append paid & fail 1\nappend sent\nadd 1 1"


@pytest.mark.slow
@pytest.mark.skipif(local_process() is None, reason="needs /proc")
@pytest.mark.parametrize("when", ["before", "after", "inside"])
def test_a_process_killed_at_any_boundary_leaves_a_legal_transcript(
    tmp_path: Path, when: str, workers: subprocess.Popen[str]
) -> None:
    whole = Workspace(workers, tmp_path / "whole", SCRIPT)
    assert whole.work(0, when) is not None
    expected = whole.read()[1]

    for at in range(1, 100):
        workspace = Workspace(workers, tmp_path / f"at{at}", SCRIPT)
        if workspace.work(at, when) is not None:
            break  # there are fewer events
        lived = workspace.work(0, when)

        status, messages, lines = workspace.read()
        assert lived is not None, at
        assert status.termination == "finished" and status.answer is not None, at
        assert list(unanswered(list(messages))) == [], at
        assert len(messages) == len(expected), at
        assert [line.split()[1] for line in lines] in (["paid", "sent"], ["sent"], ["paid"]), at
        results = [m.text for m in messages if m.role is Role.TOOL]
        for result, text in ((results[1], "paid"), (results[3], "sent")):
            claimed = result.startswith("appended")
            assert claimed <= (text in [line.split()[1] for line in lines]), at
    assert at == 3 if when == "inside" else 15 < at < 99


@pytest.mark.slow
@pytest.mark.skipif(local_process() is None, reason="needs /proc")
@pytest.mark.parametrize("when", ["before", "after", "inside"])
def test_a_process_killed_anywhere_around_an_approval_buys_nothing_twice(
    tmp_path: Path, when: str, workers: subprocess.Popen[str]
) -> None:
    for at in range(1, 100):
        workspace = Workspace(
            workers, tmp_path / f"at{at}", "add 2 3 & buy tea & buy milk\nbuy cake"
        )
        if workspace.work(at, when, "approve") is not None:
            break  # there are fewer events
        lived = workspace.work(0, when, "approve")

        status, messages, lines = workspace.read()
        assert lived is not None, at
        assert status.termination == "finished" and status.answer is not None, at
        assert list(unanswered(list(messages))) == [], at
        bought = [line.split()[1] for line in lines]
        assert len(set(bought)) == len(bought) >= 2, at
        results = [m.text for m in messages if m.role is Role.TOOL and m.text.startswith("bought")]
        assert len(results) == len(bought), at  # whoever was killed in between is found by a probe
    assert at == 4 if when == "inside" else 20 < at < 99


@pytest.mark.skipif(local_process() is None, reason="needs /proc")
def test_a_process_killed_inside_a_once_tool_is_found_by_its_probe(
    tmp_path: Path, workers: subprocess.Popen[str]
) -> None:
    workspace = Workspace(workers, tmp_path / "one", "append paid")

    assert workspace.work(1, "inside") is None
    assert workspace.work(0, "inside") is not None

    status, messages, lines = workspace.read()
    assert status.answer == "appended" and len(lines) == 1
    assert list(unanswered(list(messages))) == []
