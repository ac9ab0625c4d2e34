"""Every kind of failure, and every sequence of kinds: how often and how long a run is retried."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from tenure.failure import (
    ATTEMPT_MAX_MS,
    BACKOFF_CAP_MS,
    DEFAULT_LIMITS,
    FAILURES_MAX,
    GIVE_UP_AFTER_MS,
    NATURES,
    NO_FAILURES,
    ErrorKind,
    Failure,
    GiveUp,
    Nature,
    RetryLimits,
    backoff_ms,
    decide_after_loss,
    decide_retry,
)

OUTAGE_MAX = 128  # attempts in an hour of outages, each made as soon as it is due
TRIED_MAX = FAILURES_MAX * (OUTAGE_MAX + 1)
LONGEST_MS = FAILURES_MAX * (GIVE_UP_AFTER_MS + 2 * BACKOFF_CAP_MS)


def give_up(
    kinds: Sequence[ErrorKind], limits: RetryLimits = DEFAULT_LIMITS
) -> tuple[int, int, GiveUp]:
    """Fail with these kinds, again and again, as soon as the run is due.  Return attempts, time and verdict."""
    state, now_ms = NO_FAILURES, 1_000
    for attempt, kind in enumerate(itertools.cycle(kinds), 1):
        verdict = decide_retry(state, Failure(kind), now_ms, limits)
        if isinstance(verdict, GiveUp):
            return attempt, now_ms - 1_000, verdict
        assert verdict.due_at_ms > now_ms
        assert attempt < TRIED_MAX, kinds
        state, now_ms = verdict.state, verdict.due_at_ms
    raise AssertionError("no kinds")


def test_every_kind_has_one_nature() -> None:  # FAIL-17
    assert NATURES.keys() == set(ErrorKind)


def test_the_page_lists_the_natures() -> None:  # FAIL-17
    page = (ROOT / "specs" / "run.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- table: failures -->(.*?)<!-- end -->", page, re.DOTALL)
    rows = re.findall(r"^\| (\w+) \| (`.*`) \|$", table, re.MULTILINE)

    written = {nature: re.findall(r"`(\w+)`", kinds) for nature, kinds in rows}

    assert written == {
        nature.value: [kind.value for kind in ErrorKind if NATURES[kind] is nature]
        for nature in Nature
    }


@pytest.mark.parametrize("kind", ErrorKind)
def test_a_kind_alone_is_retried_as_its_nature_says(
    kind: ErrorKind,
) -> None:  # FAIL-1, FAIL-2, FAIL-4
    attempts, lasted_ms, verdict = give_up((kind,))

    match NATURES[kind]:
        case Nature.PERMANENT:
            assert (attempts, lasted_ms, verdict.permanent) == (1, 0, True)
        case Nature.TRANSIENT:
            assert (attempts, verdict.permanent) == (FAILURES_MAX, False)
        case Nature.PROVIDER:
            assert FAILURES_MAX < attempts <= OUTAGE_MAX
            assert GIVE_UP_AFTER_MS <= lasted_ms <= GIVE_UP_AFTER_MS + BACKOFF_CAP_MS


@given(st.lists(st.sampled_from(ErrorKind), min_size=1, max_size=200))
def test_no_sequence_of_kinds_is_retried_without_end(kinds: list[ErrorKind]) -> None:  # FAIL-17
    attempts, lasted_ms, verdict = give_up(kinds)

    permanent = [n for n, kind in enumerate(kinds, 1) if NATURES[kind] is Nature.PERMANENT]
    assert attempts <= min([TRIED_MAX, *permanent])
    assert lasted_ms <= LONGEST_MS
    assert verdict.state.failures <= FAILURES_MAX


@given(st.integers(-(10**12), 10**12), st.integers(1, 60), st.booleans())
def test_one_step_of_a_clock_neither_ends_an_outage_nor_keeps_it_for_ever(
    step_ms: int, at: int, while_it_ran: bool
) -> None:  # FAIL-22
    state, now_ms, lived_ms = NO_FAILURES, 10**13, 0
    for attempt in itertools.count(1):
        if attempt == at and while_it_ran:
            now_ms += step_ms
        verdict = decide_retry(state, Failure(ErrorKind.OVERLOADED), now_ms)
        if isinstance(verdict, GiveUp):
            break
        state, pause_ms = verdict.state, verdict.due_at_ms - now_ms
        lived_ms, now_ms = lived_ms + pause_ms, now_ms + pause_ms
        if attempt == at and not while_it_ran:
            now_ms += step_ms

    assert GIVE_UP_AFTER_MS - ATTEMPT_MAX_MS <= lived_ms
    assert lived_ms <= 2 * GIVE_UP_AFTER_MS + 2 * BACKOFF_CAP_MS


retry_limits = st.builds(
    RetryLimits,
    failures=st.integers(1, 8),
    losses=st.integers(1, 20),
    give_up_after_ms=st.integers(0, 2 * GIVE_UP_AFTER_MS),
    base_ms=st.integers(100, 1_000),
    cap_ms=st.integers(20_000, 60_000),
)


@given(retry_limits, st.lists(st.sampled_from(ErrorKind), min_size=1, max_size=9))
def test_a_run_is_given_up_within_the_limits_of_its_input(
    limits: RetryLimits, kinds: list[ErrorKind]
) -> None:  # FAIL-19
    _, lasted_ms, verdict = give_up(kinds, limits)

    assert verdict.state.failures <= limits.failures
    assert lasted_ms <= limits.failures * (limits.give_up_after_ms + 2 * limits.cap_ms)
    if set(kinds) == {ErrorKind.TRANSIENT}:
        assert verdict.state.failures == limits.failures


@given(retry_limits)
def test_a_run_is_lost_as_often_as_its_input_allows(limits: RetryLimits) -> None:  # FAIL-19
    state, now_ms, losses = NO_FAILURES, 1_000, 1
    while not isinstance(verdict := decide_after_loss("r", state, False, now_ms, limits), GiveUp):
        assert limits.base_ms <= verdict.due_at_ms - now_ms < 2 * backoff_ms(verdict.state, limits)
        state, now_ms, losses = verdict.state, verdict.due_at_ms, losses + 1

    assert losses == limits.losses
