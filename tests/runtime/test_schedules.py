"""The times of schedules, as the driver computes them."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from tenure.limits import FIRED_TIMES_MAX
from tenure.trigger_records import Schedule
from tenure_drivers.runtime.triggers.schedules import (
    check_schedule,
    first_time,
    schedule_of,
    times_due,
)

BERLIN = ZoneInfo("Europe/Berlin")
HOUR_MS = 3_600_000
EXPRESSIONS = ("30 2 * * *", "*/20 * * * *", "0 */2 * * *", "5 1-3 * * SUN", "0 0 1 * *")
CHANGES = (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC))


def ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def local(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, BERLIN).strftime("%m-%d %H:%M %z")


def expected(expression: str, after: datetime, until: datetime) -> list[int]:
    found = CronSim(expression, after.astimezone(BERLIN))
    times: list[int] = []
    while (at := next(found)) <= until:
        times.append(ms(at))
    return times


@pytest.mark.parametrize("change", CHANGES, ids=("forward", "back"))
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_times_over_a_clock_change_are_those_of_cronsim(
    expression: str, change: datetime
) -> None:
    schedule = Schedule("cron", expression, "Europe/Berlin")
    since, until = change - timedelta(days=3), change + timedelta(days=40)
    wanted = expected(expression, since, until)

    at_ms, found = ms(since), []
    while (at_ms := first_time(schedule, at_ms) or 0) <= ms(until):
        found.append(at_ms)

    assert found == wanted
    assert wanted


def test_a_time_that_does_not_exist_occurs_after_the_gap_and_a_double_one_once() -> None:
    nightly = Schedule("cron", "30 2 * * *", "Europe/Berlin")
    gap, double = (
        times_due(
            nightly, first_time(nightly, ms(change) - 25 * HOUR_MS) or 0, ms(change) + 25 * HOUR_MS
        )
        for change in CHANGES
    )

    assert list(map(local, gap[0])) == [
        "03-28 02:30 +0100",
        "03-29 03:00 +0200",
        "03-30 02:30 +0200",
    ]
    assert list(map(local, double[0])) == [
        "10-24 02:30 +0200",
        "10-25 02:30 +0200",
        "10-26 02:30 +0100",
    ]


@pytest.mark.parametrize("change", CHANGES, ids=("forward", "back"))
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_of_many_missed_times_the_last_ones_are_found(expression: str, change: datetime) -> None:
    schedule = Schedule("cron", expression, "Europe/Berlin")
    since = change - timedelta(days=2)
    all_times = expected(expression, since, change + timedelta(days=65))
    for hours in (0, 1, 5, *range(44, 54), 72, 24 * 30):
        now_ms = ms(since) + hours * HOUR_MS
        come = bisect_right(all_times, now_ms)

        times, following = times_due(schedule, all_times[0], now_ms)

        assert list(times) == (all_times[:come] or all_times[:1])[-FIRED_TIMES_MAX:]
        assert following == all_times[max(come, 1)]


def test_an_interval_keeps_its_distance_from_the_first_time_on() -> None:
    schedule = Schedule("every", "90s")

    assert first_time(schedule, 1_000) == 91_000
    assert times_due(schedule, 91_000, 90_000) == ((91_000,), 181_000)
    assert times_due(schedule, 91_000, 271_000) == ((91_000, 181_000, 271_000), 361_000)
    times, following = times_due(schedule, 91_000, 91_000 + 90_000 * 1_000_000)
    assert (len(times), times[-1]) == (FIRED_TIMES_MAX, 91_000 + 90_000 * 1_000_000)
    assert following == times[-1] + 90_000


def test_a_single_time_is_in_its_zone_unless_it_names_another() -> None:
    plain = Schedule("at", "2027-01-31T12:00:00", "Europe/Berlin")
    offset = Schedule("at", "2027-01-31T12:00:00+02:00", "Europe/Berlin")

    assert first_time(plain, 0) == ms(datetime(2027, 1, 31, 11, tzinfo=UTC))
    assert first_time(offset, 0) == ms(datetime(2027, 1, 31, 10, tzinfo=UTC))
    at_ms = first_time(plain, 0) or 0
    assert first_time(plain, at_ms) is None
    assert times_due(plain, at_ms, at_ms + 1) == ((at_ms,), None)


def test_a_date_that_never_comes_has_no_time() -> None:
    assert first_time(Schedule("cron", "0 0 30 2 SUN"), 0) is not None  # or a Sunday of February
    with pytest.raises(ValueError, match="bad day-of-month"):
        check_schedule(Schedule("cron", "0 0 31 2 *"))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            Schedule("cron", "every day"),
            "wrong number of fields; expected five fields, minute hour",
        ),
        (Schedule("cron", "61 * * * *"), "cron '61 .*': bad minute; expected five fields"),
        (Schedule("cron", "* * * * *", "Mars/Base"), "'Mars/Base' is unknown .* Europe/Berlin"),
        (Schedule("every", "1w"), "every '1w': expected a number and s, m, h or d, such as 90s"),
        (Schedule("every", "0s"), "every '0s': expected a number"),
        (Schedule("every", "-5m"), "every '-5m': expected a number"),
        (Schedule("at", "tomorrow"), "at 'tomorrow': expected a time such as 2027-01-31T12:00:00"),
        (Schedule("moon", "full"), "kind 'moon' of a schedule: expected one of cron, every, at"),
    ],
)
def test_a_schedule_that_cannot_be_computed_is_refused(schedule: Schedule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_schedule(schedule)


def test_one_schedule_is_given() -> None:
    assert schedule_of() is None
    assert schedule_of(every="90s") == Schedule("every", "90s")
    with pytest.raises(ValueError, match="cron and at: expected one of them"):
        schedule_of(cron="* * * * *", at="2027-01-31")
