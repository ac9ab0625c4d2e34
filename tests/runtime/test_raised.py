"""FAIL-15: what agent code raises is a failure like any other, whatever it derives from."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from tenure.failure import FAILURES_MAX, ErrorKind, Failure
from tenure.questions.core import Journal
from tenure.records import EntryKind
from tenure_drivers import Runtime, SyncRuntime, Turn
from tenure_drivers.runtime.errors import (
    Cancelled,
    NothingDue,
    StepFailed,
    TurnFailed,
    describe,
    failure_of,
)
from tenure_drivers.runtime.streaming.broadcast import StreamMessage
from tenure_drivers.runtime.user_code import as_exception
from tenure_drivers.stores.errors import TenureError
from tenure_drivers.stores.memory import MemoryStore

WAIT_S = 30


class Panic(BaseException):
    """As an extension module raises it."""


class Careless(Exception):
    """An exception whose text fails."""

    def __str__(self) -> str:
        return str(self.args[3])

    __repr__ = __str__


class Numbered(Exception):
    """An exception whose text is no text."""

    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Spiteful(Exception):
    """An exception whose text raises what is no Exception."""

    def __str__(self) -> str:
        raise Panic


class Unkind(TenureError):
    """An error whose kind does not exist."""

    kind = "nonsense"  # type: ignore[assignment]


class Bare(TurnFailed):
    """A TurnFailed that was never initialised."""

    def __init__(self) -> None:
        Exception.__init__(self, "bare")


class Immeasurable(TurnFailed):
    """A TurnFailed whose fields are garbage."""

    def __init__(self) -> None:
        super().__init__("transient", "immeasurable")
        self.retry_after_ms = float("nan")  # type: ignore[assignment]
        self.message = ValueError("no text")  # type: ignore[assignment]
        self.usage = 7  # type: ignore[assignment]


def group() -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("two", [Panic("index out of bounds"), ValueError("x")])


class Unspeakable(Exception):
    """An exception of which no attribute can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)


class Classless(Exception):
    """An exception whose class cannot be read."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ValueError("no class")


class Namelessness(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise ValueError("no name")


class Nameless(Exception, metaclass=Namelessness):
    """An exception whose class has no name that can be read."""


class Kindless(TenureError):
    """An error whose kind raises."""

    @property
    def kind(self) -> Any:  # type: ignore[override]
        raise ValueError("no kind")


class Usageless(TurnFailed):
    """A TurnFailed whose usage raises."""

    def __init__(self) -> None:
        Exception.__init__(self, "usageless")

    @property
    def usage(self) -> Any:  # type: ignore[override]
        raise ValueError("no usage")


def nested() -> ExceptionGroup[Exception]:
    error: ExceptionGroup[Exception] = ExceptionGroup("inside", [ValueError("x")])
    for _ in range(3_000):
        error = ExceptionGroup("outside", [error])
    return error


RAISED: dict[str, Callable[[], BaseException]] = {
    "Panic": lambda: Panic("index out of bounds"),
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": lambda: GeneratorExit("left"),
    "CancelledError": lambda: asyncio.CancelledError("by itself"),
    "BaseExceptionGroup": group,
    "Careless": lambda: Careless("only one"),
    "Numbered": Numbered,
    "Spiteful": Spiteful,
    "Unkind": lambda: Unkind("unkind"),
    "Bare": Bare,
    "Immeasurable": Immeasurable,
}
HOSTILE: dict[str, Callable[[], BaseException]] = {  # of which even pytest cannot read everything
    "Unspeakable": Unspeakable,
    "Classless": Classless,
    "Nameless": Nameless,
    "Kindless": lambda: Kindless("kindless"),
    "Usageless": Usageless,
    "ExceptionGroup": nested,
}
IN_TASK = {**RAISED, **HOSTILE}
IN_THREAD = {**IN_TASK, "KeyboardInterrupt": KeyboardInterrupt}


def run(agent: Callable[[Turn], Awaitable[Any]], sessions: list[str]) -> dict[str, Any]:
    """Submit one input to each session, and return how each has ended."""

    async def main() -> dict[str, Any]:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent, grace_ms=50) as runtime:
            receipts = {s: await runtime.submit(s, "go") for s in sessions}
            fine = await runtime.submit("fine", "go")
            ended = {s: await receipt.ended(WAIT_S) for s, receipt in receipts.items()}
            assert (await fine.ended(WAIT_S)).answer == "fine"
            return ended

    return asyncio.run(main())


def test_what_an_agent_raises_is_counted_and_ends_as_a_dead_letter_with_its_type() -> None:
    calls: Counter[str] = Counter()

    async def agent(turn: Turn) -> str:
        calls[turn.session_id] += 1
        if turn.session_id in IN_TASK:
            raise IN_TASK[turn.session_id]()
        return "fine"

    ended = run(agent, list(IN_TASK))

    for name, status in ended.items():
        assert (status.status, status.failures) == ("dead_lettered", FAILURES_MAX), name
        assert f"transient: {name}" in status.reason or name in ("Bare", "Immeasurable"), status
        assert calls[name] == FAILURES_MAX, name
    assert "Panic: index out of bounds" in ended["BaseExceptionGroup"].reason
    assert ended["Panic"].reason == "transient: Panic: index out of bounds"


@pytest.mark.parametrize("where", ["step", "async step", "probe", "gathered steps"])
def test_what_a_step_raises_is_counted_and_ends_as_a_dead_letter(where: str) -> None:
    calls: Counter[str] = Counter()

    async def agent(turn: Turn) -> str:
        name = turn.session_id
        if name not in IN_THREAD:
            return "fine"
        calls[name] += 1

        def fail(key: str = "") -> None:
            raise IN_THREAD[name]()

        async def fail_async() -> None:
            raise IN_TASK[name]()

        marked = asyncio.Event()

        async def hang() -> None:
            marked.set()
            await asyncio.Event().wait()

        match where:
            case "step":
                await turn.step("s", fail)
            case "async step":
                await turn.step("s", fail_async)
            case "gathered steps":
                await asyncio.gather(turn.step("s", fail), turn.step("t", lambda: 1))
            case "probe":
                if calls[name] == 1:
                    task = asyncio.ensure_future(turn.once("o", hang))
                    await marked.wait()
                    task.cancel()
                    raise TurnFailed("transient", "the mark is recorded")
                await turn.once("o", hang, probe=fail)
        return "never"

    names = list(IN_TASK if where == "async step" else IN_THREAD)
    ended = run(agent, names)

    for name, status in ended.items():
        assert status.status == "dead_lettered", (name, status)
        assert name in status.reason or name in ("Bare", "Immeasurable"), status
        assert calls[name] == FAILURES_MAX, name


def test_what_a_once_step_raises_is_its_outcome_and_is_recorded() -> None:
    calls: Counter[str] = Counter()
    seen: dict[str, list[tuple[str, bool]]] = {name: [] for name in IN_THREAD}
    kinds: dict[str, list[EntryKind]] = {}

    async def agent(turn: Turn) -> str:
        name = turn.session_id
        if name not in IN_THREAD:
            return "fine"

        def fail() -> None:
            calls[name] += 1
            raise IN_THREAD[name]()

        async def fail_async() -> None:
            fail()

        try:
            await turn.once("o", fail if len(name) % 2 or name not in IN_TASK else fail_async)
        except StepFailed as failed:
            seen[name].append((failed.error, failed.replayed))
        if len(seen[name]) < 2:
            raise TurnFailed("transient", "again")
        kinds[name] = [e.kind for e in await turn.read(Journal(name, turn.run_id))]
        return "settled"

    ended = run(agent, list(IN_THREAD))

    for name in IN_THREAD:
        assert ended[name].answer == "settled", (name, ended[name])
        assert seen[name] == [(name, False), (name, True)]
        assert calls[name] == 1
        assert kinds[name] == [EntryKind.START, EntryKind.REPORT]


def test_an_own_loop_that_raises_fails_its_turn() -> None:
    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store) as runtime:
            for name, make in RAISED.items():
                if name == "GeneratorExit":  # of a generator around the body
                    continue
                receipt = await runtime.submit(name, "go")
                with pytest.raises(BaseException) as raised:
                    async with runtime.turn(name):
                        raise make()
                assert type(raised.value).__name__ == name
                status = await receipt.status()
                assert status is not None and status.failures == 1, name
                with pytest.raises(NothingDue):
                    async with runtime.turn(name):
                        pass

    asyncio.run(main())


def test_a_blocking_loop_that_raises_fails_its_turn() -> None:
    with SyncRuntime(Runtime(MemoryStore())) as runtime:
        for name, make in RAISED.items():
            if name == "GeneratorExit":  # of a generator around the body
                continue
            receipt = runtime.submit(name, "go")
            with pytest.raises(BaseException) as raised, runtime.turn(name):
                raise make()
            assert type(raised.value).__name__ == name
            status = receipt.status()
            assert status is not None and status.failures == 1, name
        assert runtime._loop.thread.is_alive()


def test_an_interrupt_from_the_keyboard_in_the_main_thread_passes() -> None:
    async def agent(turn: Turn) -> str:
        raise KeyboardInterrupt

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent) as runtime:
            await (await runtime.submit("s", "go")).ended(WAIT_S)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def test_a_cancelled_step_is_not_the_outcome_of_the_step() -> None:
    """A real cancellation passes: the outcome of the once step is unknown, and its turn ends as cancelled."""
    begun = threading.Event()
    raised: list[BaseException] = []

    async def agent(turn: Turn) -> str:
        async def wait() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except BaseException as error:
                raised.append(error)
                raise

        await turn.once("o", wait)
        return "never"

    async def main() -> None:
        async with aclosing(MemoryStore()) as store, Runtime(store, agent, grace_ms=50) as runtime:
            receipt = await runtime.submit("s", "go")
            while not begun.is_set():
                await asyncio.sleep(0.01)
            status = await receipt.status()
            assert status is not None and status.run_id is not None
            await runtime.cancel("s", status.run_id)
            ended = await receipt.ended(WAIT_S)
            assert (ended.status, ended.failures) == ("abandoned", 0)
            entries = await runtime.ask(Journal("s", status.run_id))
            assert [e.kind for e in entries] == [EntryKind.START]

    asyncio.run(main())
    assert [type(e) for e in raised] in ([asyncio.CancelledError], [Cancelled])


@pytest.mark.parametrize("name", RAISED)
def test_a_channel_that_fails_does_not_end_the_worker(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def send(self, parcel: StreamMessage) -> None:
            pass

        async def parcels(self) -> AsyncIterator[StreamMessage]:
            await asyncio.sleep(0)
            if name:
                raise RAISED[name]()
            yield  # type: ignore[misc]

    async def agent(turn: Turn) -> str:
        return "fine"

    async def main() -> None:
        async with aclosing(MemoryStore()) as store:
            async with Runtime(store, agent, channel=Broken()) as runtime:
                assert (await (await runtime.submit("s", "go")).ended(WAIT_S)).answer == "fine"

    asyncio.run(main())

    assert [name in r.getMessage() for r in caplog.records if "the channel" in r.getMessage()] == [
        True
    ]


# -- the failure and the text of an exception


@pytest.mark.parametrize("name", IN_THREAD)
def test_every_exception_has_a_text_and_a_failure(name: str) -> None:
    error = IN_THREAD[name]()
    if name in HOSTILE:  # as it reaches the functions below
        error = as_exception(error)

    text, failure = describe(error), failure_of(error, 7)

    assert text.startswith(name) and "\n" not in text and len(text) <= 300
    assert isinstance(failure, Failure) and isinstance(failure.message, str)
    assert (failure.kind, failure.retry_after_ms) == (ErrorKind.TRANSIENT, 0)
