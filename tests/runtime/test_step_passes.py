"""JOURNAL-11, JOURNAL-12: exceptions that steps record and raise again, and results of another version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tenure.questions.core import InputStatus, Journal
from tenure.records import EntryKind
from tenure_drivers import Runtime, StepFailed, SyncRuntime, Turn, TurnFailed, open_store
from tenure_drivers.stores.memory import MemoryStore

WAIT_S = 30


class ModelRetry(Exception):
    """As pydantic-ai has it."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class ApprovalRequired(Exception):
    """Its constructor takes other arguments than it keeps."""

    def __init__(self, *, tool: str, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.tool, self.metadata = tool, metadata


class Special(ApprovalRequired):
    """A subclass of what passes."""


class Timeout(BaseException):
    """As gevent has it."""


class Opaque(Exception):
    """Its data is not JSON."""


class Money(msgspec.Struct):
    cents: int


def special() -> Special:
    error = Special(tool="pay", metadata={"euros": 3, "of": [1, 2]})
    error.args = ("approve", 7)
    return error


RAISED: dict[str, tuple[Callable[[], BaseException], tuple[type[BaseException], ...]]] = {
    "retry": (lambda: ModelRetry("look again"), (ModelRetry,)),
    "subclass": (special, (KeyError, ApprovalRequired)),
    "no exception": (lambda: Timeout("5 s"), (Timeout,)),
}


def run(agent: Callable[[Turn], Awaitable[Any]]) -> InputStatus:
    async def main() -> InputStatus:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent) as runtime:
            return await (await runtime.submit("s", "go")).ended(WAIT_S)

    return asyncio.run(main())


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("how", ["step", "once"])
def test_what_passes_is_recorded_and_raised_again_with_type_and_data(name: str, how: str) -> None:
    make, passes = RAISED[name]
    calls = 0
    seen: list[BaseException] = []
    kinds: list[EntryKind] = []

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise make()

    async def agent(turn: Turn) -> str:
        method = turn.step if how == "step" else turn.once
        try:
            await method("ask", fail, passes=passes)
        except passes as error:
            seen.append(error)
        if len(seen) < 3:
            raise TurnFailed("transient", "again")
        kinds.extend([e.kind for e in await turn.read(Journal("s", turn.run_id))])
        return "settled"

    ended = run(agent)

    assert (ended.answer, calls) == ("settled", 1)
    for error in seen:
        assert type(error) is type(make())
        assert (error.args, vars(error)) == (make().args, vars(make()))
    assert kinds == [EntryKind.START, EntryKind.REPORT][2 - (1 if how == "step" else 2) :]


def test_a_once_step_records_as_its_failure_what_cannot_be_raised_again() -> None:
    calls = 0
    seen: list[tuple[str, str]] = []

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise Opaque(object())

    async def agent(turn: Turn) -> str:
        try:
            await turn.once("ask", fail, passes=(Opaque,))
        except StepFailed as failed:
            seen.append((failed.error, failed.message))
        if len(seen) < 2:
            raise TurnFailed("transient", "again")
        return "settled"

    assert run(agent).answer == "settled"
    assert calls == 1 and seen[0] == seen[1] and seen[0][0] == "Opaque"
    assert "not JSON" in seen[0][1]


def test_a_type_that_is_gone_at_the_replay_is_a_failed_step() -> None:
    seen: list[str] = []

    def fail() -> None:
        raise ModelRetry("look again")

    async def agent(turn: Turn) -> str:
        try:
            await turn.once("ask", fail, passes=(ModelRetry,) if not seen else (KeyError,))
        except ModelRetry:
            seen.append("retry")
        except StepFailed as failed:
            seen.append(f"{failed.error}: {failed.message}")
        if len(seen) < 2:
            raise TurnFailed("transient", "again")
        return "settled"

    assert run(agent).answer == "settled"
    assert seen == ["retry", "ModelRetry: look again"]


def test_other_exceptions_of_a_step_are_not_recorded() -> None:
    calls = 0

    def fail() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("not yet")
        return calls

    async def agent(turn: Turn) -> str:
        return str(await turn.step("ask", fail, passes=(ModelRetry,)))

    assert run(agent).answer == "2"


@pytest.mark.parametrize("passes", [("ModelRetry",), ModelRetry, (asyncio.CancelledError,)])
def test_passes_are_types_of_exceptions(passes: Any) -> None:
    async def agent(turn: Turn) -> str:
        with pytest.raises(TypeError, match="passes"):
            await turn.step("a", int, passes=passes)
        with pytest.raises(TypeError, match="passes"):
            await turn.once("b", int, passes=passes)
        return "fine"

    assert run(agent).answer == "fine"


# -- versions


def of_version(number: int | None, how: str, seen: list[Any]) -> Callable[[Turn], Awaitable[str]]:
    async def agent(turn: Turn) -> str:
        method = turn.step if how == "step" else turn.once
        seen.append(await method("price", lambda: number, version=number))
        if len(seen) < 5:
            raise TurnFailed("transient", "again")
        return str(seen[-1])

    return agent


@pytest.mark.parametrize("how", ["step", "once"])
def test_a_result_of_another_version_is_kept_noted_once_and_logged(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    notes: list[tuple[str, str]] = []
    agents = [of_version(v, how, seen) for v in (1, 1, 2, 2, None)]

    async def agent(turn: Turn) -> str:
        try:
            return await agents[len(seen)](turn)
        finally:
            entries = await turn.read(Journal("s", turn.run_id))
            notes[:] = [(e.effect_id, e.body) for e in entries if e.kind is EntryKind.NOTE]

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "go")
            assert (await receipt.ended(WAIT_S)).answer == "1"
            found = await first_events(runtime)
            differed = [e.detail for e in found if e.kind == "replay_differed"]
            assert differed == [body for _, body in notes]

    async def first_events(runtime: Runtime) -> list[Any]:
        found: list[Any] = []
        async for batch in runtime.events("s"):
            found += batch.events
            if any(e.kind == "run_finished" for e in batch.events):
                break
        return found

    asyncio.run(main())

    text = "step price#1: its result was recorded by version '1' of its function, and this is '2'"
    assert seen == [1] * 5
    assert notes == [("price#1@2", text)]
    warned = [r.getMessage() for r in caplog.records if "recorded by version" in r.getMessage()]
    assert len(warned) == 1 and text in warned[0] and warned[0].startswith("session s, run ")


def test_a_result_without_a_version_differs_from_one_with(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    agents = [of_version(v, "step", seen) for v in (None, 2, 3, 2, None)]

    async def agent(turn: Turn) -> str:
        return await agents[len(seen)](turn)

    assert run(agent).answer == "None"
    warned = [r for r in caplog.records if "recorded" in r.getMessage()]
    assert len(warned) == 2 and "without a version" in warned[0].getMessage()


def test_versions_survive_a_restart_and_the_blocking_turn_takes_them(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'a.db'}"

    def fail() -> None:
        raise ModelRetry("look again")

    for number in (1, 2):
        store = open_store(url)
        with SyncRuntime(Runtime(store)) as runtime:
            runtime.submit("s", "go", key="k")
            with runtime.turn("s") as turn:
                assert turn.step("price", lambda: number, version=number) == 1  # noqa: B023
                with pytest.raises(ModelRetry, match="look again"):
                    turn.once("ask", fail, passes=(ModelRetry,), version="a")
        asyncio.run(store.aclose())


@pytest.mark.parametrize("version", ["", "x" * 201, "a\nb", 1.5, True])
def test_a_version_is_a_short_text_or_a_number(version: Any) -> None:
    async def agent(turn: Turn) -> str:
        with pytest.raises(ValueError, match="version"):
            await turn.step("a", int, version=version)
        return "fine"

    assert run(agent).answer == "fine"
