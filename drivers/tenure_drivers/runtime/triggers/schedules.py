"""Schedules: the times of cron expressions, of intervals, and of single times.  Spec: specs/trigger.md.

The kernel stores a schedule as text.  This module knows calendars and clock changes: it computes the times of cron
expressions with cronsim, the extra `cron` (TRIGGER-50), of intervals (TRIGGER-51), and single times (TRIGGER-52).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tenure.limits import FIRED_TIMES_MAX, TIME_MS_MAX
from tenure.trigger_records import Schedule

__all__ = ["check_schedule", "first_time", "schedule_of", "times_due"]


KINDS: Final = ("cron", "every", "at")
UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)  # later than what a calendar of Python computes


def schedule_of(
    *, cron: str | None = None, every: str | None = None, at: str | None = None, zone: str = "UTC"
) -> Schedule | None:
    """Return the schedule of the one argument that is given; None if none is.

    Raises ValueError for two of them, and for one that has no times.
    """
    given = {"cron": cron, "every": every, "at": at}
    named = [(kind, text) for kind, text in given.items() if text is not None]
    if not named:
        return None
    if len(named) > 1:
        raise ValueError(f"{' and '.join(kind for kind, _ in named)}: expected one of them")
    ((kind, expression),) = named
    schedule = Schedule(kind, expression.strip(), zone)
    check_schedule(schedule)
    return schedule


def check_schedule(schedule: Schedule) -> None:
    """TRIGGER-53: check that a schedule can be computed.  Raises ValueError, which says what to write instead."""
    next(_times_after(schedule, 0), None)


def first_time(schedule: Schedule, now_ms: int) -> int | None:
    """Return the first time of a schedule after `now_ms`; None if there is none.  Raises ValueError."""
    if schedule.kind == "every":
        return now_ms + _interval_ms(schedule)
    return next(_times_after(schedule, now_ms), None)


def times_due(
    schedule: Schedule, next_at_ms: int, now_ms: int
) -> tuple[tuple[int, ...], int | None]:
    """Return the times of a schedule from `next_at_ms` to `now_ms`, at most the last 32, and the one that follows.

    `next_at_ms`: a time of the schedule.  It is the only time if `now_ms` is earlier.
    """
    if schedule.kind == "every":
        every = _interval_ms(schedule)
        passed = max(0, (now_ms - next_at_ms) // every)
        last = next_at_ms + passed * every
        first = max(next_at_ms, last - (FIRED_TIMES_MAX - 1) * every)
        return tuple(range(first, last + 1, every)), last + every
    start = next_at_ms
    if schedule.kind == "cron":
        start = max(next_at_ms, _some_before(schedule, now_ms))
    due: list[int] = [next_at_ms] if start == next_at_ms else []
    for at_ms in _times_after(schedule, start):
        if at_ms > now_ms:
            return tuple(due[-FIRED_TIMES_MAX:]), at_ms
        due.append(at_ms)
    return tuple(due[-FIRED_TIMES_MAX:]), None


def _some_before(schedule: Schedule, now_ms: int) -> int:
    """Return a time so early that at least 32 times of a cron schedule are between it and `now_ms`."""
    backwards = _cron(schedule, now_ms, reverse=True)
    times = [_ms(each) for each in itertools.islice(backwards, FIRED_TIMES_MAX + 2)]
    return times[-1] if len(times) == FIRED_TIMES_MAX + 2 else 0


def _times_after(schedule: Schedule, after_ms: int) -> Iterator[int]:
    match schedule.kind:
        case "cron":
            for each in _cron(schedule, after_ms):
                if each > LATEST:
                    return
                # at a clock change cronsim may first name a time that has been
                if (at_ms := _ms(each)) > after_ms:
                    yield at_ms
        case "every":
            yield from itertools.count(after_ms + (every := _interval_ms(schedule)), every)
        case "at":
            if (at_ms := _single_ms(schedule)) > after_ms:
                yield at_ms
        case kind:
            raise ValueError(f"kind {kind!r} of a schedule: expected one of {', '.join(KINDS)}")


def _cron(schedule: Schedule, from_ms: int, reverse: bool = False) -> Iterator[datetime]:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise ValueError(
            f"cron {schedule.expression!r} needs the package cronsim: pip install 'tenure[cron]'"
        ) from None
    start = (_EPOCH + timedelta(milliseconds=from_ms)).astimezone(_zone(schedule.zone))
    try:
        found: Any = CronSim(schedule.expression, start, reverse)
    except CronSimError as error:
        raise ValueError(
            f"cron {schedule.expression!r}: {str(error).lower()}; expected five fields, minute hour"
            " day-of-month month day-of-week, such as '30 3 * * MON-FRI'"
        ) from None
    return iter(found)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"zone {name!r} is unknown on this machine; expected one such as Europe/Berlin or UTC"
        ) from None


def _interval_ms(schedule: Schedule) -> int:
    text = schedule.expression
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdigit() and unit in UNITS_MS and int(number) > 0:
        if (interval := int(number) * UNITS_MS[unit]) <= TIME_MS_MAX:
            return interval
    raise ValueError(f"every {text!r}: expected a number and s, m, h or d, such as 90s or 6h")


def _single_ms(schedule: Schedule) -> int:
    text = schedule.expression
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"at {text!r}: expected a time such as 2027-01-31T12:00:00") from None
    return _ms(found if found.tzinfo else found.replace(tzinfo=_zone(schedule.zone)))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)
