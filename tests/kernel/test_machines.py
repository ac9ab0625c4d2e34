"""The tables of the machines, in every case of a small domain; the rules of retries and of settling inputs."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import SPECS

from tenure.check.machine_domains import (
    JOB_RUNNER,
    LEASE,
    MACHINES,
    PUBLISHER,
    QUEUE_ENTRY,
    RELAY,
    RUN,
    RUNNER,
    WORKER,
    Machine,
    draw,
    survey,
)
from tenure.failure import (
    BACKOFF_BASE_MS,
    BACKOFF_CAP_MS,
    FAILURES_MAX,
    GIVE_UP_AFTER_MS,
    LOSSES_MAX,
    NATURES,
    NO_FAILURES,
    ErrorKind,
    Failure,
    GiveUp,
    Nature,
    Retry,
    RetryState,
    backoff_ms,
    decide_after_loss,
    decide_retry,
)
from tenure.job_runner import machine as job_runner_machine
from tenure.machines import input as input_
from tenure.machines.input import How
from tenure.machines.lease import (
    Acquire,
    FenceOff,
    Held,
    Lease,
    Renew,
    Revoke,
    Vacant,
    live_at,
)
from tenure.machines.run import Done, Running, Termination, settle
from tenure.outcome import Refused
from tenure.publisher import machine as publisher_machine
from tenure.relay import machine as relay_machine
from tenure.runner import machine as runner_machine
from tenure.worker import machine as worker_machine

PAGES = {
    "job": "job.md",
    "job_runner": "job-runner.md",
    "lease": "lease.md",
    "queue_entry": "inbox.md",
    "run": "run.md",
    "runner": "runner.md",
    "subscription": "trigger.md",
    "ticket": "ticket.md",
    "outbound": "outbound.md",
    "publisher": "publisher.md",
    "relay": "relay.md",
    "worker": "worker.md",
}

Property: TypeAlias = Callable[[Any, Any, Any], bool]


def after(machine: Machine, state: Any, command: Any) -> Any:
    """Return the state after a step.  A refusal changes nothing."""
    outcome = machine.table.step(state, command)
    return state if isinstance(outcome, Refused) else outcome.state


# -- every table


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_exactly_one_row_is_enabled_in_every_case(machine: Machine) -> None:
    assert survey(machine).wrong == ()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_row_fires_in_some_case(machine: Machine) -> None:
    fired = {row for row, _ in survey(machine).fired}

    assert [row.clause for row in machine.table.rows if row not in fired] == []


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_a_pair_without_rows_has_a_reason(machine: Machine) -> None:
    assert machine.pairs() - machine.table.index.keys() == machine.without_row.keys()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_a_pair_without_rows_raises(machine: Machine) -> None:
    for state, command in machine.inputs() if machine.without_row else ():
        if (state.__class__, command.__class__) in machine.without_row:
            with pytest.raises(AssertionError, match="no row"):
                machine.table.step(state, command)


@pytest.mark.parametrize(
    ("machine", "module"),
    [
        (RUNNER, runner_machine),
        (WORKER, worker_machine),
        (PUBLISHER, publisher_machine),
        (RELAY, relay_machine),
        (JOB_RUNNER, job_runner_machine),
    ],
    ids=["runner", "worker", "publisher", "relay", "job_runner"],
)
def test_the_comments_of_a_table_name_the_states_that_follow(
    machine: Machine, module: ModuleType
) -> None:
    written = targets_written(module)
    actual: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for row, state in survey(machine).fired:
        assert isinstance(state, type)
        target = "same" if state is row.state else state.__name__
        for before in (row.state.__name__, "state"):  # "state": one line for several states
            key = (row.clause, before, row.command.__name__, row.when.__name__)
            if key in written:
                actual[key].add(target)

    assert actual == written


def targets_written(module: ModuleType) -> dict[tuple[str, str, str, str], set[str]]:
    """Read the comments of the rows in the source of a machine."""
    row = re.compile(r'Row\("([A-Z]+-\d+)", (\w+), (\w+), (\w+), \w+\),?  # (.+)')
    found = row.findall(inspect.getsource(module))
    assert len(found) == inspect.getsource(module).count("Row(")
    return {(clause, *names): set(targets.split(", ")) for clause, *names, targets in found}


def test_the_domains_have_not_silently_shrunk() -> None:
    owners, ids, generations, times = 3, 2, 2, 7
    held = generations * ids * owners * 3 * 3  # ttls, expiries
    fences = generations * ids
    asked = ids * owners * 2 * times + fences * times + 2 * fences + times + fences * 2 * times + 3
    assert len(list(LEASE.cases())) == (3 + held) * asked

    delayed, ready, bound, ended = 3 * 2 * 2, 3 * 2 * 2, 3 * 2, 6 + 1
    assert len(list(QUEUE_ENTRY.cases())) == (
        delayed * (4 + 6) + ready * (3 + 3 + 6) + bound * (2 + 6) + ended * (4 + 3 + 3 + 2 + 6 + 1)
    )

    assert survey(RUNNER).cases > 150_000
    assert survey(WORKER).cases > 30_000
    assert survey(PUBLISHER).cases > 30_000
    assert survey(RELAY).cases > 5_000

    running, rescheduled, waiting = 4, 4, 1 + 1 + 2 + 3
    assert len(list(RUN.cases())) == (
        running * (1 + 4 + 8 + 1 + 2) + rescheduled * (2 + 4 + 8 + 2) + waiting * (2 + 8 + 2)
    )


# -- properties that hold always, and those that occur

ALWAYS: dict[str, Property] = {
    "a generation never decreases": lambda s, c, t: t.generation >= s.generation,
    "a new holder has a new generation": lambda s, c, t: (
        holding(t) in (holding(s), None) or t.generation > s.generation
    ),
    "only a grant or an operator creates a generation": lambda s, c, t: (
        t.generation == s.generation or isinstance(c, Acquire | FenceOff)
    ),
    "a live lease is ended only by its holder, by evidence or by destruction": lambda s, c, t: (
        not (live(s, c) and isinstance(t, Vacant)) or isinstance(c, Revoke) or named(s, c)
    ),
    "a live lease is never granted to another owner": lambda s, c, t: (
        not (isinstance(c, Acquire) and live(s, c)) or s == t
    ),
    "renewing never shortens a live lease": lambda s, c, t: (
        not (isinstance(c, Renew) and live(s, c)) or t.expires_at_ms >= s.expires_at_ms
    ),
    "a grant is no longer than its ttl": lambda s, c, t: (
        not isinstance(c, Acquire) or s == t or t.expires_at_ms == c.now_ms + c.ttl_ms
    ),
}
SOMETIMES: dict[str, Property] = {
    "a lease is taken over": lambda s, c, t: (
        isinstance(s, Held) and isinstance(t, Held) and s.lease_id != t.lease_id
    ),
    "a lapsed lease is renewed": lambda s, c, t: isinstance(c, Renew) and s != t and not live(s, c),
    "a renewal corrects an expiry that is too late": lambda s, c, t: (
        isinstance(c, Renew) and isinstance(t, Held) and t.expires_at_ms < s.expires_at_ms
    ),
    "the same incarnation acquires again": lambda s, c, t: (
        isinstance(c, Acquire)
        and isinstance(s, Held)
        and s.owner == c.owner
        and s.lease_id != c.lease_id
    ),
}


def holding(lease: Lease) -> str | None:
    return lease.lease_id if isinstance(lease, Held) else None


def live(lease: Lease, command: Any) -> bool:
    now_ms = getattr(command, "now_ms", None)
    return isinstance(lease, Held) and now_ms is not None and live_at(lease, now_ms)


def named(lease: Lease, command: Any) -> bool:
    return isinstance(lease, Held) and getattr(command, "lease_id", None) == lease.lease_id


@pytest.mark.parametrize("name", ALWAYS)
def test_always_with_a_lease(name: str) -> None:
    steps = [(s, c, after(LEASE, s, c)) for s, c in LEASE.cases()]

    assert [step for step in steps if not ALWAYS[name](*step)][:1] == []


@pytest.mark.parametrize("name", SOMETIMES)
def test_sometimes_with_a_lease(name: str) -> None:
    assert any(SOMETIMES[name](s, c, after(LEASE, s, c)) for s, c in LEASE.cases())


def test_an_ended_queue_entry_never_changes_except_a_readmitted_one() -> None:  # PLACE-10, PLACE-31
    ended = [(s, c) for s, c in QUEUE_ENTRY.cases() if isinstance(s, input_.Ended)]

    changed = [(s, c) for s, c in ended if after(QUEUE_ENTRY, s, c) != s]

    assert changed == [
        (input_.Ended(input_.How.DEAD_LETTERED, "x"), input_.Readmit("new"))
    ]  # and not again


def test_a_queue_entry_keeps_its_mark_and_key_until_it_ends() -> None:
    for state, command in QUEUE_ENTRY.cases():
        later = after(QUEUE_ENTRY, state, command)
        if not isinstance(later, input_.Ended):
            assert (later.mark, later.open_key) == (state.mark, state.open_key)


def test_a_queue_entry_returns_only_by_a_split() -> None:  # PLACE-8
    order = [input_.Delayed, input_.Ready, input_.Bound, input_.Ended]
    for state, command in QUEUE_ENTRY.cases():
        later = after(QUEUE_ENTRY, state, command)
        backwards = order.index(later.__class__) < order.index(state.__class__)
        assert not backwards or isinstance(command, input_.Return)


def test_a_run_is_recorded_only_under_its_lease() -> None:  # RUN-1, RUN-2
    for state, command in RUN.cases():
        later = after(RUN, state, command)
        if isinstance(later, Running) and not isinstance(state, Running):
            assert not later.recorded


def test_an_ended_run_has_its_termination() -> None:  # RUN-5, RUN-6
    endings = {after(RUN, s, c) for s, c in RUN.cases()} & set(RUN.states)

    assert {e.termination for e in endings if isinstance(e, Done)} == set(Termination)


# -- failures

kinds = st.sampled_from(ErrorKind)
moments = st.integers(0, 2**53)
retries = st.builds(
    RetryState,
    failures=st.integers(0, 10),
    outages=st.integers(0, 100),
    losses=st.integers(0, 20),
    first_failure_ms=st.none() | moments,
)
failures = st.builds(
    Failure, kind=kinds, retry_after_ms=st.integers(0, 10**7), jitter_ms=st.integers(0, 1000)
)


def of(nature: Nature) -> list[ErrorKind]:
    return [kind for kind in ErrorKind if NATURES[kind] is nature]


def test_every_kind_of_error_has_a_nature() -> None:
    assert NATURES.keys() == set(ErrorKind)


@given(retry=retries, failure=failures, now_ms=moments)
def test_a_permanent_failure_is_not_retried(  # FAIL-1
    retry: RetryState, failure: Failure, now_ms: int
) -> None:
    verdict = decide_retry(retry, failure, now_ms)

    permanent = isinstance(verdict, GiveUp) and verdict.permanent
    assert permanent == (NATURES[failure.kind] is Nature.PERMANENT)
    assert not permanent or (verdict.state, verdict.clause) == (retry, "FAIL-1")


@pytest.mark.parametrize("kind", of(Nature.PROVIDER))
def test_a_provider_may_fail_for_an_hour(kind: ErrorKind) -> None:  # FAIL-2, FAIL-3
    retry, now_ms, answers = NO_FAILURES, 1000, 0
    verdict = decide_retry(retry, Failure(kind), now_ms)
    while isinstance(verdict, Retry):
        assert verdict.hold and verdict.clause == "FAIL-3" and verdict.due_at_ms > now_ms
        now_ms, answers = verdict.due_at_ms, answers + 1
        verdict = decide_retry(verdict.state, Failure(kind), now_ms)

    assert GIVE_UP_AFTER_MS <= now_ms - 1000 <= GIVE_UP_AFTER_MS + BACKOFF_CAP_MS
    assert answers > FAILURES_MAX and verdict.clause == "FAIL-2" and not verdict.permanent


@pytest.mark.parametrize("kind", of(Nature.TRANSIENT))
def test_a_transient_failure_is_counted(kind: ErrorKind) -> None:  # FAIL-4, FAIL-5
    retry, clauses = NO_FAILURES, []
    for _ in range(FAILURES_MAX):
        verdict = decide_retry(retry, Failure(kind), 1000)
        retry = verdict.state
        clauses.append(verdict.clause)

    assert clauses == ["FAIL-5"] * (FAILURES_MAX - 1) + ["FAIL-4"]


@given(retry=retries, kind=st.sampled_from(of(Nature.TRANSIENT)), now_ms=moments)
def test_another_kind_of_answer_ends_an_outage(
    retry: RetryState, kind: ErrorKind, now_ms: int
) -> None:  # FAIL-5
    later = decide_retry(retry, Failure(kind), now_ms).state

    assert (later.outages, later.first_failure_ms) == (0, None)
    assert (later.failures, later.losses) == (retry.failures + 1, retry.losses)


@given(retry=retries, now_ms=moments)
def test_a_loss_after_progress_is_not_counted(retry: RetryState, now_ms: int) -> None:  # FAIL-6
    assert decide_after_loss("r1", retry, True, now_ms) == Retry(now_ms, retry, False, "FAIL-6")


def test_the_sixteenth_loss_is_not_retried() -> None:  # FAIL-7, FAIL-8
    retry, clauses = NO_FAILURES, []
    for _ in range(LOSSES_MAX):
        verdict = decide_after_loss("r1", retry, False, 1000)
        retry = verdict.state
        clauses.append(verdict.clause)

    assert clauses == ["FAIL-8"] * (LOSSES_MAX - 1) + ["FAIL-7"]


@given(retry=retries, now_ms=moments)
def test_runs_that_were_lost_together_are_due_apart(
    retry: RetryState, now_ms: int
) -> None:  # RUN-22
    verdicts = [decide_after_loss(f"r{n}", retry, False, now_ms) for n in range(32)]

    waits = [v.due_at_ms - now_ms for v in verdicts if isinstance(v, Retry)]
    if waits:
        backoff = backoff_ms(verdicts[0].state)
        assert all(backoff <= wait < 2 * backoff for wait in waits)
        assert len(set(waits)) > 16
        assert max(waits) - min(waits) > backoff // 2


@given(retry=retries, failure=failures, now_ms=moments)
def test_a_retry_is_bounded(
    retry: RetryState, failure: Failure, now_ms: int
) -> None:  # RUN-20, RUN-21
    verdict = decide_retry(retry, failure, now_ms)

    if isinstance(verdict, Retry):
        wait_ms = verdict.due_at_ms - now_ms - min(failure.jitter_ms, BACKOFF_CAP_MS)
        asked_ms = min(failure.retry_after_ms, GIVE_UP_AFTER_MS)
        assert wait_ms >= max(BACKOFF_BASE_MS, asked_ms)
        assert wait_ms <= max(BACKOFF_CAP_MS, asked_ms)


@given(retry=retries)
def test_backoff_never_shrinks_as_failures_grow(retry: RetryState) -> None:  # RUN-20
    more = RetryState(retry.failures, retry.outages, retry.losses + 1)

    assert BACKOFF_BASE_MS <= backoff_ms(retry) <= backoff_ms(more) <= BACKOFF_CAP_MS


def test_backoff_doubles() -> None:  # RUN-20
    waits = [backoff_ms(RetryState(failures=n)) for n in range(10)]

    assert waits == [250, 250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]


# -- settling

SETTLED: dict[Termination, tuple[How, How]] = {  # in the transcript, not in it
    Termination.FINISHED: (How.CONSUMED, How.CONSUMED),  # RUN-10
    Termination.STOPPED: (How.CONSUMED, How.ABANDONED),  # RUN-11, RUN-12
    Termination.CANCELLED: (How.CONSUMED, How.ABANDONED),
    Termination.BLOCKED: (How.CONSUMED, How.ABANDONED),
    Termination.ERROR: (How.CONSUMED, How.DEAD_LETTERED),  # RUN-13, RUN-14
    Termination.SUPERSEDED: (How.SUPERSEDED, How.SUPERSEDED),  # RUN-15
    Termination.ROLLED_BACK: (How.SUPERSEDED, How.SUPERSEDED),  # RUN-24
}


@pytest.mark.parametrize("termination", Termination)
def test_inputs_end_by_the_table(termination: Termination) -> None:
    if termination is Termination.SPLIT:
        with pytest.raises(AssertionError):
            settle(termination, True)
    else:
        assert (settle(termination, True), settle(termination, False)) == SETTLED[termination]


# -- pages


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_a_page_shows_the_machine_as_it_is(
    machine: Machine, request: pytest.FixtureRequest
) -> None:
    page = SPECS / PAGES[machine.name]
    written = page.read_text(encoding="utf-8")
    marked = re.compile(rf"(?<=<!-- diagram: {machine.name} -->\n).*?(?=<!-- end -->)", re.DOTALL)

    drawn = marked.sub(lambda _: f"\n{draw(machine)}\n\n", written)

    assert marked.search(written), f"{page.name} has no marks for the diagram"
    if request.config.getoption("--rewrite"):
        page.write_text(drawn, encoding="utf-8")
    else:
        assert drawn == written
