"""Parts of the runtime: clock, ids, evidence about processes, steps, errors and the effect loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from tenure.failure import ErrorKind
from tenure.machines.lease import Evidence, Held, Holder, LocalProcess, Owner
from tenure.outcome import Refusal, Refused, Stepped
from tenure_drivers.runtime.clock import boot_clock_ms, new_id, uuid7
from tenure_drivers.runtime.effect_loop import EffectLoop
from tenure_drivers.runtime.errors import (
    IllegalResult,
    NothingDue,
    StepFailed,
    TurnFailed,
    describe,
    failure_of,
)
from tenure_drivers.runtime.process import evidence, local_process
from tenure_drivers.runtime.steps import (
    call,
    in_thread,
    pack,
    pack_outcome,
    result_type,
    takes_key,
    unpack,
)


def test_uuid7_gives_the_example_of_rfc_9562() -> None:
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")

    assert uuid7(0x017F22E279B0, 0xCC3, 0x18C4DC0C0C07398F) == example
    assert example.version == 7


def test_uuid7_puts_no_random_bits_into_version_and_variant() -> None:
    full = uuid7(2**48 - 1, 2**64 - 1, 2**64 - 1)

    assert str(full) == "ffffffff-ffff-7fff-bfff-ffffffffffff"
    assert str(uuid7(0, 0, 0)) == "00000000-0000-7000-8000-000000000000"


def test_ids_are_unique_and_in_the_order_of_time() -> None:
    ids = [new_id() for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


def test_the_clock_advances() -> None:
    before = boot_clock_ms()
    time.sleep(0.002)

    assert boot_clock_ms() > before


# -- evidence

linux = pytest.mark.skipif(local_process() is None, reason="needs /proc")


def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def seen(pid: int) -> LocalProcess:
    """Return the description that the process would give of itself."""
    code = "import sys, os; from tenure_drivers.runtime import process as p; print(p._start(int(sys.argv[1])))"
    start = subprocess.check_output([sys.executable, "-c", code, str(pid)], text=True).strip()
    mine = local_process()
    assert mine is not None
    return evolve(mine, pid=pid, start=start)


@linux
def test_a_process_is_dead_as_a_zombie_and_after_it_was_reaped() -> None:
    mine, process = local_process(), child()
    other = seen(process.pid)
    assert evidence(mine, other) is Evidence.UNKNOWN

    process.kill()
    while evidence(mine, other) is not Evidence.DEAD:  # a zombie counts as dead
        time.sleep(0.001)
    process.communicate()

    assert evidence(mine, other) is Evidence.DEAD


@linux
def test_a_reused_pid_means_dead() -> None:
    mine = local_process()
    assert mine is not None
    assert evidence(mine, mine) is Evidence.UNKNOWN

    assert evidence(mine, evolve(mine, start="1")) is Evidence.DEAD


@linux
@pytest.mark.parametrize("scope", ["host", "boot", "pid_namespace"])
def test_a_process_elsewhere_is_never_dead(scope: str) -> None:
    mine = local_process()
    assert mine is not None
    other = evolve(mine, pid=2**22 + 1, **{scope: "another"})

    assert evidence(mine, other) is Evidence.UNKNOWN


def test_without_a_description_there_is_no_evidence() -> None:
    assert evidence(None, None) is Evidence.UNKNOWN
    assert evidence(local_process(), None) is Evidence.UNKNOWN


@linux
def test_a_process_of_another_user_is_not_taken_for_dead() -> None:
    assert evidence(local_process(), seen(1)) is Evidence.UNKNOWN


# -- steps


def test_a_result_is_converted_to_the_annotated_type() -> None:
    def pair() -> tuple[int, str]:
        return (1, "a")

    body, value = pack("pair#1", pair(), result_type(pair))

    assert value == (1, "a")
    assert unpack("pair#1", body, result_type(pair)) == value
    assert pack("x#1", (1, 2), Any)[1] == [1, 2]


@pytest.mark.parametrize("value", [object(), {1, object()}, lambda: 1])
def test_a_result_that_is_not_json_names_its_step(value: object) -> None:
    with pytest.raises(IllegalResult, match=r"step look#1 returned \w+, which is not JSON"):
        pack("look#1", value, Any)


def test_a_result_that_is_too_large_names_its_step() -> None:
    with pytest.raises(IllegalResult, match="step look#1 returned 10000012 characters"):
        pack("look#1", "x" * 10_000_000, Any)


def test_a_failed_once_step_fails_again_alike() -> None:
    with pytest.raises(StepFailed, match="step pay#1: ValueError: no money"):
        unpack("pay#1", pack_outcome("pay#1", ValueError("no money"), ())[0], Any)


def test_the_key_is_given_to_those_who_take_it() -> None:
    class Callable:
        def __call__(self, *, key: str) -> str:
            return key

    assert takes_key(lambda key: key)
    assert takes_key(lambda **kw: kw)
    assert takes_key(Callable())
    assert not takes_key(lambda x: x)
    assert not takes_key(print)
    assert not takes_key(max)


def test_a_sync_step_runs_in_a_thread_and_an_async_one_does_not() -> None:
    import threading

    class Async:
        async def __call__(self) -> int:
            return threading.get_ident()

    async def main() -> None:
        here = threading.get_ident()
        assert await call(threading.get_ident, (), {}) != here
        assert await call(Async(), (), {}) == here

        async def later() -> int:
            return 3

        assert await call(lambda: later(), (), {}) == 3
        with pytest.raises(RuntimeError, match="StopIteration"):
            await in_thread(lambda: next(iter(())))

    asyncio.run(main())


# -- failures


def test_what_a_turn_raises_is_told_without_secrets_and_in_one_line() -> None:
    error = RuntimeError("no answer from https://me:secret@host\nTraceback ...")

    assert describe(error) == "RuntimeError: no answer from https[removed]host"
    assert "abc" not in describe(ValueError("Authorization: Bearer abc"))
    assert "abc" not in describe(ValueError("api_key=abc"))
    assert len(describe(ValueError("x" * 10_000))) <= 300


def test_errors_are_reported_by_their_kind() -> None:
    assert failure_of(TimeoutError(), 0).kind is ErrorKind.TIMEOUT
    assert failure_of(TimeoutError(), 0).kind is ErrorKind.TIMEOUT
    assert failure_of(ValueError("x"), 0).kind is ErrorKind.TRANSIENT
    limited = failure_of(TurnFailed("rate_limited", "slow down", 1_500), 7)
    assert (limited.kind, limited.retry_after_ms, limited.jitter_ms) == (
        ErrorKind.RATE_LIMITED,
        1_500,
        7,
    )
    with pytest.raises(ValueError, match="nonsense"):
        TurnFailed("nonsense")


@pytest.mark.parametrize(
    ("reason", "detail", "message"),
    [
        ("nothing_due", None, "session 'ann' has no work: nothing_due"),
        ("nothing_due", 5, "session 'ann' has no work: nothing is due before 5 (Unix ms)"),
        (
            "held",
            Refused(Refusal.HELD, "LEASE-3", Holder("w-1", 900)),
            "session 'ann' has no work: lease held by 'w-1' until 900 (Unix ms)",
        ),
        (
            "held",
            Held(3, "l", Owner("w-1", "i"), 300, 900),
            "session 'ann' has no work: lease held by 'w-1' until 900 (Unix ms)",
        ),
        ("broken", "row 7", "session 'ann' has no work: broken: row 7"),
    ],
)
def test_a_session_without_work_is_reported_with_the_reason(
    reason: str, detail: Any, message: str
) -> None:
    assert str(NothingDue("ann", reason, detail)) == message


# -- the effect loop


class Countdown:
    """A machine for the loop: its state is a number, and an event is an id or a number to subtract."""

    def __init__(self, on_error: Any = None) -> None:
        self.performed: list[str] = []
        self.fired: list[int] = []
        self.loop: EffectLoop[int, int, str] = EffectLoop(
            self.step, self.perform, self.fire, clock=boot_clock_ms, on_error=on_error
        )

    def step(self, state: int, event: int) -> Stepped[int, str]:
        if event > state:
            raise ValueError(f"{event} of {state}")
        return Stepped(state - event, "", (f"{state - event} left", "then this"))

    def perform(self, effect: str) -> None:
        self.performed.append(effect)
        if effect == "9 left":
            self.loop.feed(2)  # an effect that reports at once

    def fire(self, now_ms: int, id: int) -> int:
        self.fired.append(id)
        return 0


def test_an_event_of_an_effect_is_applied_after_the_other_effects() -> None:
    async def main() -> None:
        machine = Countdown()
        machine.loop.feed(5)  # before the first state
        machine.loop.start(Stepped(10, ""))
        machine.loop.feed(1)
        assert machine.performed == ["9 left", "then this", "7 left", "then this"]
        assert machine.loop.state == 7

    asyncio.run(main())


def test_an_error_of_a_machine_is_reported_or_raised_and_later_events_are_applied() -> None:
    async def main() -> None:
        errors: list[Exception] = []
        machine = Countdown(errors.append)
        machine.loop.start(Stepped(3, ""))
        machine.loop.feed(4)
        machine.loop.feed(1)
        assert ([str(e) for e in errors], machine.loop.state) == (["4 of 3"], 2)

        bare = Countdown()
        bare.loop.start(Stepped(3, ""))
        with pytest.raises(ValueError, match="4 of 3"):
            bare.loop.feed(4)
        bare.loop.feed(1)
        assert bare.loop.state == 2

    asyncio.run(main())


def test_a_timer_fires_unless_it_was_replaced_or_the_loop_was_closed() -> None:
    async def main() -> None:
        machine = Countdown()
        machine.loop.start(Stepped(3, ""))
        now = boot_clock_ms()
        machine.loop.set_timer(1, now + 3_600_000)
        machine.loop.set_timer(2, now)
        machine.loop.set_timer(1, now)  # earlier than before
        while sorted(machine.fired) != [1, 2]:
            await asyncio.sleep(0.001)

        machine.loop.set_timer(3, boot_clock_ms())
        machine.loop.set_only_timer(4, boot_clock_ms())
        while 4 not in machine.fired:
            await asyncio.sleep(0.001)
        assert 3 not in machine.fired

        endless = machine.loop.spawn(asyncio.sleep(3_600))
        machine.loop.set_timer(5, boot_clock_ms())
        machine.loop.close()
        await asyncio.wait([endless])
        assert endless.cancelled() and 5 not in machine.fired

    asyncio.run(main())
