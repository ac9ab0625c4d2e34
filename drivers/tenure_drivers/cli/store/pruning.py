"""`tenure store prune`: remove what is no longer needed, once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from tenure.outcome import Decided, Refused
from tenure.queries import Record
from tenure.questions.retention import AllRows, PrunePass
from tenure.release import RELEASE, decide_at
from tenure.retention import Keep, Retention
from tenure.world import ask, key_of

from ...runtime.errors import CommandRefused
from ...runtime.pruning import prune_session
from ...stores.base import wall_clock_ms
from ...stores.ordered_tables import MemoryTables
from ...stores.overlay import WriteOverlay
from ..exit import CliExit, Exit, UnreadableSession, no_session, usage_error
from ..invoke import invoke_async
from ..open_store import open_read_only
from ..output import log
from ..session_pages import session_ids
from .shared import existing, report, store_option

__all__ = ["prune"]


F = TypeVar("F", bound=Callable[..., Any])

UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION: Final = re.compile(r"(\d+)([smhd])")


class Duration(click.ParamType[int]):
    """A number with a unit, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds.  Fails for anything but a number with one of the units."""
        found = DURATION.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r}: expected a number and s, m, h or d, such as 30d", param, ctx)
        return int(found[1]) * UNITS[found[2]]


DURATIONS: Final = Duration()


def kept(name: str, what: str) -> Callable[[F], F]:
    """Return the option of how long something is kept."""
    return click.option(f"--{name}", name, type=DURATIONS, metavar="DURATION", help=what)


@click.command()
@store_option
@kept(
    "keep",
    "Keep everything but frames and hidden messages for so long.  The options below say otherwise.",
)
@kept("journals", "Keep what a run has recorded, after its end.")
@kept("inputs", "Keep inputs that have ended outside the transcript.  At least 2d.")
@kept("commands", "Keep what recognises repeated commands.  At least 2d.")
@kept("events", "Keep events.  Not shorter than journals, inputs and commands, which are needed.")
@kept("frames", "Keep the states of frames that were left.  Without it they stay.")
@kept("hidden", "Keep the texts of messages that were hidden.  Without it they stay.")
@kept("occurrences", "Keep what has occurred in triggers.  At least 2d.")
@kept("destroyed", "Keep the rows of a destroyed session.")
@kept("jobs", "Keep jobs after their end.  At least 2d.")
@kept("keys", "Keep inputs with an idempotency key.  Default: 30d, or --keep if it is longer.")
@click.option("--last", default=0, metavar="N", help="Also keep what the last N events are about.")
@click.option(
    "--last-frames", default=0, metavar="N", help="Also keep the last N frames that were left."
)
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and change nothing.")
@click.argument("sessions", nargs=-1)
def prune(
    store: str,
    sessions: tuple[str, ...],
    last: int,
    last_frames: int,
    dry_run: bool,
    **durations: int | None,
) -> None:
    """Remove from all or some sessions what is older than you want to keep it.

    The transcript stays.  A command whose trace was removed is refused if it is sent again; it is not carried out twice.
    A switch to a frame whose states were removed is refused, too.
    Workers may be running.  If it is interrupted, call it again.  Without a duration it only erases the texts of sessions
    that were destroyed with --erase.

    Prints the rows that were removed or changed, by session and kind.  DURATION is a number with s, m, h or d.

    \b
    Examples:
      tenure store prune --store sqlite:agent.db --journals 1d
      tenure store prune --store sqlite:agent.db --keep 90d --journals 7d --dry-run

    \b
    Exit codes:
      0  done, or nothing to do
      1  refused: an earlier release is active in the store
      2  invalid arguments, or no such store or session
      4  the store is unavailable, or a session cannot be read: all others are pruned
    """
    retention = retention_of(durations, last, last_frames)
    if problem := retention.problem():
        raise click.UsageError(problem)
    invoke_async((_dry_run if dry_run else _prune)(store, sessions, retention))


def retention_of(durations: Mapping[str, int | None], last: int, last_frames: int) -> Retention:
    """Return the retention that the options ask for."""

    def of(name: str) -> int | None:
        given = durations[name]
        return durations["keep"] if given is None else given

    def keep(name: str) -> Keep | None:
        for_ms = of(name)
        return None if for_ms is None else Keep(for_ms, last)

    default = Retention()
    keys = durations["keys"]
    if keys is None:
        keys = max(durations["keep"] or 0, default.keys_for_ms)
    frames = None if durations["frames"] is None else Keep(durations["frames"], last_frames)
    return Retention(
        keep("journals"),
        keep("inputs"),
        of("commands"),
        keep("events"),
        of("destroyed"),
        keys,
        frames,
        durations["hidden"],
        occurrences_for_ms=of("occurrences"),
        jobs_for_ms=of("jobs"),
    )


async def _prune(url: str, names: tuple[str, ...], retention: Retention) -> int:
    total, unreadable = 0, list[UnreadableSession]()
    async with existing(url) as found:
        async for session in session_ids(found, names, unreadable):
            try:
                done = await prune_session(found, session, retention)
            except UnreadableSession as error:
                unreadable.append(error)
                continue
            except CommandRefused as error:
                raise CliExit(Exit.UNFINISHED, str(error)) from error
            if not done.without:
                raise usage_error(no_session(session, url))
            total += _tell(session, done)
    log(f"{total} rows removed or changed")
    return _ended(unreadable)


async def _dry_run(url: str, names: tuple[str, ...], retention: Retention) -> int:
    total, unreadable = 0, list[UnreadableSession]()
    async with open_read_only(url, log_line=log) as found:
        async for session in session_ids(found, names, unreadable):
            try:
                rows = await found.ask(AllRows(session))
            except UnreadableSession as error:
                unreadable.append(error)
                continue
            if not rows:
                raise usage_error(no_session(session, url))
            total += _tell(session, rehearsed(rows, session, retention))
    log(f"dry run: {total} rows would be removed or changed")
    return _ended(unreadable)


def _tell(session: str, done: PrunePass) -> int:
    if done.count:
        report(f"{session}: {done.told()}")
    return done.count


def _ended(unreadable: list[UnreadableSession]) -> int:
    if unreadable:
        lines = [f"not pruned: session {e.session_id}: {e}" for e in unreadable]
        raise CliExit(Exit.LOST, *lines)
    return Exit.OK


def rehearsed(rows: tuple[Record, ...], session: str, retention: Retention) -> PrunePass:
    """Return what a pass over these rows would remove.  The same steps are decided, over a copy in memory."""
    tables = MemoryTables()
    found: dict[type[Record], dict[Any, Any]] = {}
    for row in rows:
        found.setdefault(row.__class__, {})[key_of(row.__class__)(row)] = row
    tables.fill(found)
    done, now_ms = PrunePass(session, retention), wall_clock_ms()
    while (step := ask(done.question(now_ms), tables.answer)) is not None:
        reads: Any = step.reads()
        view = reads.view(*[tables.answer(query) for query in reads.queries])
        decided: Decided[Any] | Refused = decide_at(RELEASE, step, view, now_ms)
        assert isinstance(decided, Decided), decided
        overlay = WriteOverlay(tables)
        overlay.write([decided])
        overlay.apply()
        done = done.after(decided.outcome)
    return done
