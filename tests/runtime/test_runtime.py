"""The runtime over real stores: turns, steps, retries, cancels, drains, deaths, and stores that fail."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from carrying import Body
from faulty import Faulty

from tenure.commands import (
    Acquire,
    Admit,
    Begin,
    Checkpoint,
    Commit,
    Destroy,
    Fail,
    NewInput,
    Open,
    Release,
    RequestCancel,
    Stop,
)
from tenure.failure import ErrorKind
from tenure.machines.input import Ended
from tenure.machines.lease import Owner
from tenure.outcome import Refused
from tenure.questions.core import Journal, LoadOverview, LoadTranscript
from tenure.records import EntryKind, QueueEntry
from tenure_drivers.runtime.changes import SessionChanges
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.drained import Drained
from tenure_drivers.runtime.errors import (
    AlreadyCommitted,
    Cancelled,
    CommandRefused,
    LeaseLost,
    NotEnded,
    NothingDue,
    StepFailed,
    StepOutcomeUnknown,
    SubmissionRefused,
    TurnFailed,
)
from tenure_drivers.runtime.runtime import Runtime, legal_name
from tenure_drivers.runtime.steps import Report
from tenure_drivers.runtime.sync import SyncRuntime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.base import OutcomeUnknown, Store, Unavailable, wall_clock_ms
from tenure_drivers.stores.registry import open_store

WAIT_S = 30  # for what must come; nothing is measured


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


async def echo(turn: Turn) -> str:
    return f"{turn.text}!"


# -- what an agent returns, raises, or commits


def test_text_that_an_agent_returns_is_committed(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, echo) as runtime:
            receipt = await runtime.submit("s", "hello", key="k")
            ended = await receipt.ended(WAIT_S)
            assert (ended.status, ended.termination, ended.answer) == (
                "consumed",
                "finished",
                "hello!",
            )
            again = await runtime.submit("s", "hello", key="k")
            assert (again.input_id, again.how) == (receipt.input_id, "known")
            assert (await again.ended(WAIT_S)).answer == "hello!"
            line = (await runtime.ask(LoadTranscript("s")))[0]
            assert ([i.payload for i in line.inputs], line.node.body) == (["hello"], "hello!")

    carry(body)


def test_an_agent_that_returns_nothing_has_finished(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> None:
            pass

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert (ended.status, ended.answer) == ("consumed", None)

    carry(body)


def test_garbage_from_an_agent_ends_the_run_and_names_its_type(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> object:
            return {"not": "text"}

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert ended.status == "dead_lettered"
            assert ended.reason.startswith("invalid_request") and "dict" in ended.reason

    carry(body)


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * 10_000_001])
def test_text_that_cannot_be_kept_ends_the_run(carry: Callable[[Body], None], text: str) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> str | None:
            if turn.text == "explicit":
                await turn.commit(text)
            return text

        async with Runtime(store, agent) as runtime:
            for said in ("explicit", "returned"):
                ended = await (await runtime.submit("s", said)).ended(WAIT_S)
                assert ended.status == "dead_lettered", ended
                assert ended.reason.startswith("invalid_request"), ended

    carry(body)


def test_an_agent_that_fails_is_tried_again_until_it_succeeds(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        tries = 0

        async def agent(turn: Turn) -> str:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise ValueError(f"try {tries}")
            return "at last"

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert (ended.answer, tries) == ("at last", 3)

    carry(body)


def test_a_permanent_failure_ends_the_run_at_once(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> str:
            raise TurnFailed(ErrorKind.CONTENT_FILTERED, "no")

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert (ended.status, ended.reason) == ("dead_lettered", "content_filtered: no")

    carry(body)


def test_committing_twice_is_a_clear_error(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        raised: list[Exception] = []

        async def agent(turn: Turn) -> str:
            await turn.commit("first")
            for again in (turn.commit("second"), turn.step("x", lambda: 1), turn.checkpoint()):
                try:
                    await again
                except AlreadyCommitted as error:
                    assert turn.run_id in str(error)
                    raised.append(error)
            return "third"

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert ended.answer == "first"
            await until(lambda: len(raised) == 3)

    carry(body)


def test_state_goes_from_turn_to_turn(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> None:
            count = int(turn.state or "0") + 1
            await turn.commit(str(count), state=str(count))

        async with Runtime(store, agent) as runtime:
            receipts = [await runtime.submit("s", "x") for _ in range(5)]
            answers = [(await r.ended(WAIT_S)).answer for r in receipts]
            assert answers == ["1", "2", "3", "4", "5"]

    carry(body)


def test_an_agent_that_hangs_is_ended_by_its_deadline(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        interrupted = 0

        async def agent(turn: Turn) -> str:
            nonlocal interrupted
            if interrupted:
                return "awake"
            try:
                await asyncio.Event().wait()
            finally:
                interrupted += 1
            return "never"

        async with Runtime(store, agent, turn_deadline_ms=30) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert (ended.answer, interrupted) == ("awake", 1)

    carry(body)


def test_an_agent_that_cannot_be_interrupted_is_given_up(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        release, late = asyncio.Event(), list[str]()

        async def agent(turn: Turn) -> str:
            if release.is_set() or late:
                return "the second one"
            while not release.is_set():
                try:
                    late.append("held")
                    await release.wait()
                except asyncio.CancelledError:
                    pass
            try:
                await turn.commit("too late")
            except LeaseLost as error:
                late.append(str(error))
            return "ignored"

        async with Runtime(store, agent, turn_deadline_ms=20, grace_ms=20) as runtime:
            receipt = await runtime.submit("s", "hello")
            assert (await receipt.ended(WAIT_S)).answer == "the second one"
            release.set()
            await until(lambda: late[-1] != "held")
            assert (await receipt.ended(WAIT_S)).answer == "the second one"

    carry(body)


def test_a_task_of_a_turn_that_is_killed_by_its_own_cancel_fails_the_turn(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        tries = 0

        async def agent(turn: Turn) -> str:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise asyncio.CancelledError
            return "fine"

        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            assert (await receipt.ended(WAIT_S)).answer == "fine"
            assert tries == 2

    carry(body)


# -- steps


def test_a_step_is_not_run_again_when_the_turn_is(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        ran: list[str] = []

        def look(what: str) -> dict[str, int]:
            ran.append(what)
            return {what: len(ran)}

        async def agent(turn: Turn) -> str:
            found = [await turn.step("look", look, w) for w in ("a", "b")]
            if len(ran) == 2 and not hasattr(agent, "failed"):
                agent.failed = True  # type: ignore[attr-defined]
                raise ValueError("once")
            return str(found)

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert ended.answer == "[{'a': 1}, {'b': 2}]"
            assert ran == ["a", "b"]
            entries = await runtime.ask(Journal("s", ended.run_id or ""))
            assert [e.effect_id for e in entries] == ["look#1", "look#2"]

    carry(body)


def test_steps_at_the_same_time_are_safe(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> str:
            found = await asyncio.gather(
                *[turn.step("look", lambda i=i: i * i) for i in range(40)],
                *[turn.once("pay", lambda i=i: -i) for i in range(10)],
            )
            return str(sum(found))

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert ended.answer == str(sum(i * i for i in range(40)) - sum(range(10)))
            entries = await runtime.ask(Journal("s", ended.run_id or ""))
            assert len(entries) == 40 + 2 * 10
            numbers = [e.n for e in entries]
            assert sorted(set(numbers)) == list(range(max(numbers) + 1))

    carry(body)


def test_a_result_that_is_not_json_ends_the_run_and_names_the_step(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> str:
            await turn.step("look", lambda: object())
            return "never"

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert ended.status == "dead_lettered" and "step look#1" in ended.reason

    carry(body)


def test_a_once_step_that_raises_has_run(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        ran, seen = 0, []

        def pay(key: str) -> None:
            nonlocal ran
            ran += 1
            raise ValueError("card declined")

        async def agent(turn: Turn) -> str:
            try:
                await turn.once("pay", pay)
            except StepFailed as error:
                seen.append((error.error, error.message))
            if len(seen) < 3:
                raise TurnFailed("transient", "again")
            return "settled"

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert (ended.answer, ran) == ("settled", 1)
            assert seen == [("ValueError", "card declined")] * 3

    carry(body)


@pytest.mark.parametrize("probed", ["nothing", "unknown", "report"])
def test_a_once_step_that_was_cut_off_is_probed_and_never_run_again(
    carry: Callable[[Body], None], probed: str
) -> None:
    async def body(store: Store) -> None:
        ran: list[str] = []
        keys: list[str] = []
        outcomes: list[object] = []

        async def pay(key: str) -> None:
            ran.append(key)
            await asyncio.Event().wait()

        def probe(key: str) -> Report | None:
            keys.append(key)
            return Report({"paid": 7}) if probed == "report" else None

        async def agent(turn: Turn) -> str:
            try:
                paid = await turn.once("pay", pay, probe=None if probed == "nothing" else probe)
                outcomes.append(paid)
            except StepOutcomeUnknown as error:
                # It did not crash: it took longer than the turn may take.
                assert "an earlier attempt started it and ended without recording" in str(error)
                outcomes.append(error.effect_id)
            if len(outcomes) < 3:
                raise TurnFailed("transient", "to see it replayed")
            return "done"

        async with Runtime(store, agent, turn_deadline_ms=500, grace_ms=50) as runtime:
            receipt = await runtime.submit("s", "hello")
            ended = await receipt.ended(WAIT_S)
            assert ended.answer == "done"
            expected: object = {"paid": 7} if probed == "report" else "pay#1"
            assert outcomes == [expected] * 3
            assert len(ran) == 1
            assert keys == ([] if probed == "nothing" else ran)
            entries = await runtime.ask(Journal("s", ended.run_id or ""))
            last = EntryKind.REPORT if probed == "report" else EntryKind.UNKNOWN
            assert [e.kind for e in entries] == [EntryKind.START, last]

    carry(body)


def test_an_unknown_outcome_that_an_agent_lets_pass_ends_the_run(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> str:
            await turn.once("pay", asyncio.Event().wait)
            return "never"

        async with Runtime(store, agent, turn_deadline_ms=100, grace_ms=20) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert ended.reason.startswith("not_reconstructed") and "pay#1" in ended.reason

    carry(body)


# -- cancel, interrupt


def test_a_cancel_is_heard_by_a_turn_in_a_step(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        at_work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        heard: list[str] = []

        async def agent(turn: Turn) -> str:
            at_work.set_result(turn.run_id)
            try:
                while True:
                    await turn.checkpoint()
                    await asyncio.sleep(0.002)
            except Cancelled as error:
                heard.append(str(error))
                assert turn.cancelled
                raise
            return "never"

        async with Runtime(store, agent) as runtime:
            receipt = await runtime.submit("s", "hello")
            run_id = await at_work
            asked = await runtime.cancel("s", run_id)
            assert not asked.ended
            ended = await receipt.ended(WAIT_S)
            assert (ended.status, ended.termination) == ("abandoned", "cancelled")
            assert heard == [f"run {run_id} was asked to stop"]
            with pytest.raises(CommandRefused, match="ended"):
                await runtime.cancel("s", run_id)

    carry(body)


def test_a_cancel_without_a_hint_is_seen_with_the_next_renewal(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        class Deaf(Faulty):
            async def _none(self) -> AsyncIterator[Any]:
                await asyncio.Event().wait()
                yield

            def hints(self) -> AsyncIterator[Any]:
                return self._none()

        run_ids: list[str] = []

        async def agent(turn: Turn) -> str:
            run_ids.append(turn.run_id)
            await asyncio.Event().wait()
            return "never"

        deaf = Deaf(store, lambda command: None)
        runtime = Runtime(deaf, agent, ttl_ms=200, grace_ms=20)
        receipt = await runtime.submit("s", "hello")
        async with runtime:
            await until(lambda: bool(run_ids))
            await store.execute(RequestCancel("s", "c", run_ids[0]))
            ended = await receipt.ended(WAIT_S)
            assert (ended.status, ended.termination) == ("abandoned", "cancelled")

    carry(body)


def test_an_interrupt_takes_back_what_was_said_and_says_something_else(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        started = asyncio.Event()

        async def agent(turn: Turn) -> str:
            if turn.text == "later":
                return "done"
            started.set()
            await asyncio.Event().wait()
            return "never"

        async with Runtime(store, agent, grace_ms=20) as runtime:
            first = await runtime.submit("s", "first")
            second = await runtime.submit("s", "second")
            await started.wait()
            interrupted = await runtime.interrupt("s", "later")
            assert interrupted.replacement is not None
            last = runtime.receipt("s", interrupted.replacement.input_id)
            assert (await last.ended(WAIT_S)).answer == "done"
            assert (await first.ended(WAIT_S)).status == "superseded"
            assert (await second.ended(WAIT_S)).status == "superseded"

    carry(body)


# -- submissions


def test_a_submission_that_is_refused_says_because_of_what(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store) as runtime:
            await runtime.submit("s", "one", key="k")
            with pytest.raises(SubmissionRefused, match="key_conflict.*k"):
                await runtime.submit("s", "two", key="k")
            with pytest.raises(SubmissionRefused, match="unknown_kind.*nonsense"):
                await runtime.submit("s", "x", kind="nonsense")
            with pytest.raises(
                SubmissionRefused, match=r"\(INBOX-4\): input 0: priority -1: expected"
            ):
                await runtime.submit("s", "x", priority=-1)
            with pytest.raises(SubmissionRefused, match="NUL"):
                await runtime.submit("s", "\x00")
            with pytest.raises(SubmissionRefused, match="session_id 'a b'"):
                await runtime.submit("a b", "x")

    carry(body)


def test_many_are_submitted_together_and_end_in_order(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        order: list[str] = []

        async def agent(turn: Turn) -> str:
            order.append(turn.text)
            return turn.text

        async with Runtime(store, agent) as runtime:
            new = [NewInput(f"i{i}", "prompt", str(i)) for i in range(200)]
            receipts = await runtime.submit_many("s", new)
            ended = await asyncio.gather(*[r.ended(WAIT_S) for r in receipts])
            assert [e.answer for e in ended] == [str(i) for i in range(200)] == order

    carry(body)


def test_a_delayed_input_is_taken_when_its_time_comes(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, echo) as runtime:
            receipt = await runtime.submit("s", "x", available_at_ms=wall_clock_ms() + 100)
            assert receipt.how == "delayed"
            assert (await receipt.ended(WAIT_S)).answer == "x!"

    carry(body)


def test_waiting_in_vain_ends_with_a_timeout_and_disturbs_nobody(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store) as idle:
            receipt = await idle.submit("s", "x")
            other = asyncio.create_task(receipt.ended(WAIT_S))
            with pytest.raises(TimeoutError):
                await receipt.ended(0.05)
            status = await receipt.status()
            assert status is not None and status.status == "ready"
            async with Runtime(store, echo):
                assert (await other).answer == "x!"
            with pytest.raises(LookupError, match="no input nobody"):
                await idle.receipt("s", "nobody").ended(WAIT_S)

    carry(body)


def test_events_are_told_from_a_cursor_on(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, echo) as runtime:
            told: list[str] = []

            async def listen() -> None:
                async for event in runtime.events("s"):
                    told.extend(h.kind.value for h in event.events)
                    if "run_finished" in told:
                        return

            listener = asyncio.create_task(listen())
            await runtime.submit("s", "x")
            await asyncio.wait_for(listener, WAIT_S)
            assert told == ["session_opened", "input_admitted", "run_started", "run_finished"]

    carry(body)


# -- a loop of one's own


def test_an_own_loop_is_given_a_turn_and_commits(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store) as runtime:
            receipt = await runtime.submit("s", "hello")
            async with runtime.turn("s") as turn:
                assert await turn.step("look", lambda: 2) == 2
                await turn.commit("done")
            assert (await receipt.ended(WAIT_S)).answer == "done"
            with pytest.raises(NothingDue, match="nothing_due"):
                async with runtime.turn("s"):
                    pass
            with pytest.raises(NothingDue, match="unknown_session"):
                async with runtime.turn("nowhere"):
                    pass

    carry(body)


def test_an_own_loop_that_is_left_lets_go_or_fails(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store) as runtime:
            receipt = await runtime.submit("s", "hello")
            async with runtime.turn("s") as turn:
                with pytest.raises(NothingDue, match="held"):
                    async with runtime.turn("s"):
                        pass
            async with runtime.turn("s") as again:
                assert again.run_id == turn.run_id
            with pytest.raises(ZeroDivisionError):
                async with runtime.turn("s"):
                    raise ZeroDivisionError
            status = await receipt.status()
            assert status is not None and (status.status, status.failures) == ("bound", 1)

    carry(body)


def test_an_own_loop_that_is_cancelled_releases(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store) as runtime:
            await runtime.submit("s", "hello")
            inside = asyncio.Event()

            async def work() -> None:
                async with runtime.turn("s"):
                    inside.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with runtime.turn("s") as turn:
                await turn.commit("taken up at once")

    carry(body)


def test_an_own_loop_hears_a_cancel_of_its_run(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, ttl_ms=150, grace_ms=20) as runtime:
            receipt = await runtime.submit("s", "hello")
            with pytest.raises(Cancelled):
                async with runtime.turn("s") as turn:
                    await runtime.cancel("s", turn.run_id)
                    await asyncio.Event().wait()
            task = asyncio.current_task()
            assert task is not None and task.cancelling() == 0
            assert (await receipt.ended(WAIT_S)).termination == "cancelled"

    carry(body)


# -- stores that fail


def at(*kinds: type[Any], how: str, times: int = 1) -> Callable[[Any], str | None]:
    left = {kind: times for kind in kinds}

    def fail(command: Any) -> str | None:
        if left.get(type(command), 0) > 0:
            left[type(command)] -= 1
            return how
        return None

    return fail


async def thorough(turn: Turn) -> str:
    found = await turn.step("look", lambda: 1)
    paid = await turn.once("pay", lambda key: key)
    if turn.text == "fail" and not hasattr(turn, "again"):
        raise TurnFailed("invalid_request", "as asked")
    return f"{found} {paid.partition(':')[2]}"


@pytest.mark.parametrize("how", ["before", "lost", "after"])
@pytest.mark.parametrize("kind", [Begin, Checkpoint, Commit, Fail, Admit])
def test_every_command_survives_a_store_that_fails_at_it(
    carry: Callable[[Body], None], kind: type[Any], how: str
) -> None:
    async def body(store: Store) -> None:
        ran = 0

        def pay(key: str) -> str:
            nonlocal ran
            ran += 1
            return key

        async def agent(turn: Turn) -> str:
            await turn.step("look", lambda: 1)
            await turn.once("pay", pay)
            if turn.text == "fail":
                raise TurnFailed("invalid_request", "as asked")
            return "fine"

        times = 1 if kind is Admit and how == "before" else 3
        faulty = Faulty(store, at(kind, how=how, times=times))
        async with Runtime(faulty, agent) as runtime:
            if kind is Admit and how == "before":
                with pytest.raises(Exception, match="the test says so"):
                    await runtime.submit("s", "x")
            good = await runtime.submit("s", "fine", input_id="good")
            bad = await runtime.submit("s", "fail", input_id="bad")
            assert (await good.ended(WAIT_S)).answer == "fine"
            assert (await bad.ended(WAIT_S)).reason == "invalid_request: as asked"
            assert ran == 2
            await until(lambda: times == sum(answer == how for _, answer in faulty.log))
            if kind is Commit:
                sent = [c for c, _ in faulty.log if isinstance(c, Commit)]
                assert sent[0] == sent[1] == sent[2] == sent[3]

    carry(body)


def test_a_turn_outlives_a_store_that_is_away_longer_than_its_lease(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        away = asyncio.Event()
        runs: list[str] = []

        async def agent(turn: Turn) -> str:
            runs.append(turn.run_id)
            away.set()
            loop = asyncio.get_running_loop()
            loop.call_later(0.4, away.clear)
            await turn.step("look", lambda: 1)  # cannot be recorded for longer than the lease is
            return "still mine"

        faulty = Faulty(store, lambda c: "before" if away.is_set() else None)
        async with Runtime(faulty, agent, ttl_ms=100) as runtime:
            receipt = await runtime.submit("s", "x")
            ended = await receipt.ended(WAIT_S)
            assert (ended.answer, len(runs)) == ("still mine", 1)

    carry(body)


def test_a_holder_that_was_cut_off_and_overtaken_writes_nothing(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        cut = asyncio.Event()
        told: list[BaseException] = []

        async def first(turn: Turn) -> str:
            cut.set()
            try:
                await asyncio.sleep(0.3)
                await turn.once("pay", lambda: told.append(AssertionError("it ran")))
            except BaseException as error:
                told.append(error)
                raise
            return "first"

        faulty = Faulty(store, lambda c: "before" if cut.is_set() else None)
        one = Runtime(faulty, first, ttl_ms=50, owner_id="one")
        await one.start()
        receipt = await one.submit("s", "x")
        await until(cut.is_set)
        async with Runtime(store, echo, owner_id="two") as two:
            ended = await two.receipt("s", receipt.input_id).ended(WAIT_S)
            assert ended.answer == "x!"
        cut.clear()
        await until(lambda: bool(told))
        await one.stop()
        assert len(told) == 1 and isinstance(told[0], LeaseLost | asyncio.CancelledError)
        writes = (Checkpoint, Commit, Fail, Release)
        done = [(c, a) for c, a in faulty.log if isinstance(c, writes) and a != "before"]
        assert [(c, a) for c, a in done if not isinstance(a, Refused)] == []

    carry(body)


def test_a_caller_that_is_cancelled_loses_no_command(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        slow = asyncio.Event()

        class Slow(Faulty):
            async def execute(self, command: Any, /) -> Any:
                await slow.wait()
                return await super().execute(command)

        async with Runtime(Slow(store, lambda c: None)) as runtime:
            task = asyncio.create_task(runtime.submit("s", "x", input_id="i"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            slow.set()
            receipt = runtime.receipt("s", "i")
            async with asyncio.timeout(WAIT_S):
                while await receipt.status() is None:
                    await asyncio.sleep(0.002)

    carry(body)


def test_start_waits_until_the_store_answers(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        tries = 0

        def fail(what: Any) -> str | None:
            nonlocal tries
            tries += what == "due"
            return "before" if what == "due" and tries < 4 else None

        async with Runtime(Faulty(store, fail), echo) as runtime:
            assert tries >= 4
            await asyncio.gather(runtime.start(), runtime.start())
            assert (await (await runtime.submit("s", "x")).ended(WAIT_S)).answer == "x!"

    carry(body)


# -- several runtimes, drain, stop


@asynccontextmanager
async def fleet(store: Store, agent: Any, count: int, **kw: Any) -> AsyncIterator[list[Runtime]]:
    runtimes = [Runtime(store, agent, owner_id=f"w{i}", **kw) for i in range(count)]
    try:
        await asyncio.gather(*[r.start() for r in runtimes])
        yield runtimes
    finally:
        await asyncio.gather(*[r.stop() for r in runtimes])


def test_two_runtimes_over_one_store_do_everything_once_and_in_order(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        chance = random.Random(5)
        active: set[str] = set()
        done: dict[str, list[str]] = {}
        paid: list[str] = []

        async def agent(turn: Turn) -> str:
            assert turn.session_id not in active, "two turns of one session at once"
            active.add(turn.session_id)
            try:
                await turn.once("pay", paid.append, turn.input_ids[0])
                await asyncio.sleep(chance.random() / 500)
            finally:
                active.discard(turn.session_id)
            done.setdefault(turn.session_id, []).append(turn.text)
            return turn.text

        async with fleet(store, agent, 2, sessions_at_once=3) as runtimes:
            receipts = [
                await runtimes[i % 2].submit(f"s{i % 7}", str(i), input_id=f"i{i}")
                for i in range(140)
            ]
            ended = await asyncio.gather(*[r.ended(WAIT_S) for r in receipts])
        assert {e.status for e in ended} == {"consumed"}
        assert sorted(paid) == sorted(f"i{i}" for i in range(140))
        for s in range(7):
            assert done[f"s{s}"] == [str(i) for i in range(140) if i % 7 == s]

    carry(body)


def test_a_drain_lets_turns_end_and_takes_nothing_new(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        started, go = asyncio.Event(), asyncio.Event()

        async def agent(turn: Turn) -> str:
            started.set()
            await go.wait()
            return "ended"

        runtime = Runtime(store, agent)
        await runtime.start()
        first = await runtime.submit("s", "first")
        second = await runtime.submit("s", "second")
        await started.wait()
        drain = asyncio.create_task(runtime.drain(60_000))
        await asyncio.sleep(0)
        go.set()
        assert await drain == Drained(ended=1)
        assert (await first.ended(WAIT_S)).answer == "ended"
        status = await second.status()
        assert status is not None and status.status == "ready"
        await runtime.stop()

    carry(body)


def test_a_drain_without_grace_lets_go_and_others_take_up(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        started = asyncio.Event()

        async def hang(turn: Turn) -> str:
            await turn.step("look", lambda: 1)
            started.set()
            await asyncio.Event().wait()
            return "never"

        runtime = Runtime(store, hang, owner_id="one")
        await runtime.start()
        receipt = await runtime.submit("s", "x")
        await started.wait()
        assert await runtime.drain(0) == Drained(released=1)
        assert await runtime.stop() == Drained(released=1)
        async with Runtime(store, echo, owner_id="two") as other:
            ended = await other.receipt("s", receipt.input_id).ended(WAIT_S)
            assert ended.answer == "x!"
            look = await other.ask(LoadOverview("s"))
            assert look is not None and look.session.lease.generation == 2

    carry(body)


def test_nothing_runs_after_stop(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        before = asyncio.all_tasks()
        started = asyncio.Event()

        async def agent(turn: Turn) -> str:
            started.set()
            await turn.step("wait", asyncio.Event().wait)
            return "never"

        async with Runtime(store, agent, grace_ms=20) as runtime:
            for i in range(10):
                await runtime.submit(f"s{i}", "x")
            waiting = asyncio.create_task((await runtime.submit("s", "x")).ended())
            await started.wait()
        with pytest.raises(NotEnded, match="the runtime was stopped"):
            await waiting
        await runtime.stop()
        assert {t for t in asyncio.all_tasks() - before if "tenure" in repr(t.get_coro())} == set()
        with pytest.raises(RuntimeError, match="was stopped"):
            await runtime.start()

    carry(body)


def test_stop_returns_though_the_store_is_away(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        away, started = asyncio.Event(), asyncio.Event()

        async def agent(turn: Turn) -> str:
            started.set()
            await asyncio.Event().wait()
            return "never"

        runtime = Runtime(Faulty(store, lambda c: "before" if away.is_set() else None), agent)
        await runtime.start()
        await runtime.submit("s", "x")
        await started.wait()
        away.set()
        drained = await asyncio.wait_for(runtime.stop(patience_s=0.1), WAIT_S)
        assert drained == Drained(given_up=1)

    carry(body)


# -- work begins on time


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that must notice everything by hints and by the due times that it has read."""
    monkeypatch.setattr("tenure.worker.machine.POLL_MS_MAX", 3_600_000)


def test_what_is_due_after_a_short_lease_begins_without_a_poll(
    carry: Callable[[Body], None], no_polls: None
) -> None:
    async def body(store: Store) -> None:
        async def agent(turn: Turn) -> str:
            if turn.text == "first":
                later_ms = wall_clock_ms() + 1_000
                await runtime.submit("s", "later", input_id="later", available_at_ms=later_ms)
            return turn.text

        async with Runtime(store, agent, ttl_ms=300) as runtime:
            await (await runtime.submit("s", "first")).ended(WAIT_S)
            assert (await runtime.receipt("s", "later").ended(WAIT_S)).answer == "later"

    carry(body)


# -- the sync face


def test_the_sync_face_does_the_same_in_one_thread(tmp_path: Path) -> None:
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    threads = threading.active_count()
    with SyncRuntime(Runtime(store, echo)) as runtime:
        receipt = runtime.submit("s", "hello")
        assert receipt.ended(WAIT_S).answer == "hello!"
        status = receipt.status()
        assert status is not None and status.ended
        assert [h.kind.value for e in runtime.events("s") for h in e.events][-1] == "run_finished"
        (said,) = runtime.transcript("s")
        assert runtime.amend("s", hide=[said.node.node_id]).revision == 2
        seen = runtime.conversation("s")
        assert (seen and seen.items, runtime.transcript("s")) == ((), ())
    with SyncRuntime(Runtime(store)) as runtime:
        runtime.submit("t", "x")
        with runtime.turn("t") as turn:
            assert (turn.text, turn.step("look", lambda: 3)) == ("x", 3)
            assert turn.once("pay", lambda key: key) == f"{turn.run_id}:1:pay#1"
            turn.commit("done")
        with pytest.raises(NothingDue):
            with runtime.turn("t"):
                pass
        runtime.submit("t", "y")
        with pytest.raises(ZeroDivisionError):
            with runtime.turn("t"):
                raise ZeroDivisionError
    asyncio.run(store.aclose())
    assert threading.active_count() <= threads + 1


def test_an_interrupted_blocking_call_is_cancelled() -> None:
    store = open_store("memory:")
    cancelled = threading.Event()

    class Waiting(Runtime):
        async def ask(self, question: Any) -> Any:
            caller = threading.main_thread().ident
            assert caller is not None
            signal.pthread_kill(caller, signal.SIGINT)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    with SyncRuntime(Waiting(store)) as runtime:
        with pytest.raises(KeyboardInterrupt):
            runtime.ask(LoadOverview("s"))
        assert cancelled.wait(WAIT_S)
    asyncio.run(store.aclose())


def test_a_blocking_call_from_the_loop_of_the_runtime_is_refused() -> None:
    store = open_store("memory:")
    sync: list[SyncRuntime] = []

    async def agent(turn: Turn) -> str:
        try:
            sync[0].ask(LoadOverview("s"))
        except RuntimeError as error:
            return str(error)
        return "no error"

    with SyncRuntime(Runtime(store, agent)) as runtime:
        sync.append(runtime)
        answer = runtime.submit("s", "hello").ended(WAIT_S).answer
    asyncio.run(store.aclose())
    assert answer is not None and "called from its own event loop" in answer


def test_a_blocking_turn_that_is_cancelled_raises_cancelled() -> None:
    store = open_store("memory:")
    with SyncRuntime(Runtime(store, grace_ms=10)) as runtime:
        runtime.submit("s", "hello")
        with pytest.raises(Cancelled):
            with runtime.turn("s") as turn:
                runtime.cancel("s", turn.run_id)
                while True:
                    turn.step("wait", lambda: asyncio.sleep(0.01))
    asyncio.run(store.aclose())


def test_a_change_without_a_hint_is_reported_to_its_subscribers_alone(
    carry: Callable[[Body], None],
) -> None:
    class NoHints(Faulty):
        async def hints(self) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield None

    class Listener:
        def __init__(self) -> None:
            self.reports: asyncio.Queue[str] = asyncio.Queue()

        def changed(self, session_id: str) -> None:
            self.reports.put_nowait(session_id)

    async def body(store: Store) -> None:
        changes = SessionChanges(NoHints(store, lambda what: None))
        one, other = Listener(), Listener()
        await store.execute(Open("a"))
        changes.subscribe("a", one)
        changes.subscribe("b", other)
        async with asyncio.timeout(WAIT_S):
            # The first poll reports every session, the second one those that had changed just before it.
            assert [await one.reports.get(), await other.reports.get()] == ["a", "b"]
            assert await one.reports.get() == "a"
            await store.execute(Admit("a", (NewInput("i", "prompt", "x"),)))
            assert await one.reports.get() == "a"
        assert other.reports.empty()
        await changes.stop()

    carry(body)


# -- everything at once


@pytest.mark.parametrize("seed", range(4))
def test_a_fleet_over_a_store_that_fails_at_random_loses_nothing_and_does_nothing_twice(
    carry: Callable[[Body], None], seed: int
) -> None:
    async def body(store: Store) -> None:
        chance = random.Random(seed)
        calm = False
        paid: list[str] = []

        def fail(what: Any) -> str | None:
            if calm or chance.random() > 0.15:
                return None
            return chance.choice(["before", "lost", "after"])

        async def pay(key: str) -> None:
            paid.append(key)
            await asyncio.sleep(chance.random() / 100)

        async def agent(turn: Turn) -> str:
            await turn.step("look", lambda: 1)
            with contextlib.suppress(StepOutcomeUnknown):
                await turn.once("pay", pay)
            if chance.random() < 0.2:
                raise ValueError("at random")
            if chance.random() < 0.1:
                await asyncio.sleep(0.1)
            return turn.text

        async def meddle(runtime: Runtime) -> None:
            while not calm:
                await asyncio.sleep(0.02)
                look = await store.ask(LoadOverview(f"s{chance.randrange(4)}"))
                if look is None or not look.runs:
                    continue
                with contextlib.suppress(CommandRefused, Unavailable, OutcomeUnknown):
                    if chance.random() < 0.7:
                        await runtime.cancel(look.session.session_id, look.runs[0].run_id)
                    else:
                        await runtime.interrupt(look.session.session_id)

        stores = [Faulty(store, fail) for _ in range(3)]
        runtimes = [
            Runtime(s, agent, owner_id=f"w{i}", ttl_ms=60, grace_ms=20, turn_deadline_ms=300)
            for i, s in enumerate(stores)
        ]
        await asyncio.gather(*[r.start() for r in runtimes])
        meddler = asyncio.create_task(meddle(runtimes[0]))
        client = Client(store)
        receipts = [await client.submit(f"s{i % 4}", str(i)) for i in range(60)]
        await asyncio.sleep(1.0)
        calm = True
        await meddler
        ended = await asyncio.gather(*[r.ended(WAIT_S) for r in receipts])
        await asyncio.gather(*[r.stop() for r in runtimes])
        assert len(paid) == len(set(paid)), "a once step ran twice"
        assert {e.status for e in ended} <= {"consumed", "superseded", "abandoned"}
        assert [e.answer for e, i in zip(ended, range(60), strict=True) if e.answer] == [
            str(i) for e, i in zip(ended, range(60), strict=True) if e.answer
        ]
        for name in range(4):
            look = await store.ask(LoadOverview(f"s{name}"))
            assert look is not None and look.waiting == () and look.runs == ()

    carry(body)


def test_a_task_that_cancels_itself_has_failed(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        calls = 0

        async def agent(turn: Turn) -> None:
            nonlocal calls
            calls += 1
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        async with Runtime(store, agent) as runtime:
            ended = await (await runtime.submit("s", "hello")).ended(WAIT_S)
            assert (ended.status, calls) == ("dead_lettered", 5)

    carry(body)


def test_an_owner_that_no_store_would_take_is_not_accepted(carry: Callable[[Body], None]) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(ValueError, match="owner_id"):
            Runtime(store, echo, owner_id="two words")
        assert legal_name("worker-b\u00fcro 1") == "worker-b-ro-1"

    carry(body)


# -- what is due without a lease


@pytest.mark.parametrize("end", [Stop("s", "c", True), Destroy("s", "c")])
def test_what_a_session_at_rest_abandons_is_written_out(
    carry: Callable[[Body], None], end: Stop | Destroy
) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        receipts = [await client.submit("s", str(i)) for i in range(130)]
        await store.execute(end)
        async with Runtime(store, echo):
            await until_ended(store, len(receipts))
            assert await store.due(1) == ()

    carry(body)


def test_what_is_due_under_the_lease_of_another_is_written_out(
    carry: Callable[[Body], None],
) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        await store.execute(Open("s"))
        await store.execute(Acquire("s", "l", Owner("somebody", "else"), 3_600_000))
        receipts = [await client.submit("s", str(i)) for i in range(130)]
        await client.interrupt("s")
        async with Runtime(store, echo):
            await until_ended(store, len(receipts))
            assert await store.due(1) == ()

    carry(body)


async def until_ended(store: Store, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            queue_entries = [r for r in await store.dump() if isinstance(r, QueueEntry)]
            if len(queue_entries) == count and all(
                isinstance(p.state, Ended) for p in queue_entries
            ):
                return
            await asyncio.sleep(0.01)
