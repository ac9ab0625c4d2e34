"""`tenure inspect` and `tenure events`: tables or JSON on standard output."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenure.questions.events import LoadEvents
from tenure.questions.inspect import ListSessions, LoadSessionDetail

from ...stores.base import wall_clock_ms
from ..exit import (
    CliExit,
    Exit,
    UnreadableSession,
    no_session,
    stop_if_no_session,
    unreadable_if_it_fails,
    usage_error,
)
from ..moments import moment
from ..open_store import Reader, open_read_only
from ..output import log, printable, write_bytes, write_lines, write_text
from ..session_pages import session_pages
from . import json as inspect_json

__all__ = ["events", "inspect"]


PAGE: Final = 64
TEXT_SHOWN: Final = 100
FOLLOW_S: Final = 0.25


def cut(text: str) -> str:
    """Return a text as one line of at most TEXT_SHOWN characters."""
    line = " ".join(text[: 4 * TEXT_SHOWN].split())
    return line if len(line) <= TEXT_SHOWN else line[: TEXT_SHOWN - 3] + "..."


def duration(ms: int) -> str:
    """Return a duration in seconds, minutes or hours."""
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    seconds = ms / 1000
    if seconds < 120:
        return f"{sign}{seconds:.1f} s"
    return f"{sign}{seconds / 60:.0f} min" if seconds < 7200 else f"{sign}{seconds / 3600:.1f} h"


def due(at_ms: int | None, now_ms: int) -> str:
    """Return a time relative to now: `now`, `in 5.0 s`, or `-` for None."""
    if at_ms is None:
        return "-"
    return "now" if at_ms <= now_ms else f"in {duration(at_ms - now_ms)}"


def holder(lease: dict[str, Any] | None) -> str:
    """Return the lease's holder and its remaining time, or `-`."""
    if lease is None:
        return "-"
    pid = f" pid {lease['pid']}" if lease["pid"] is not None else ""
    remaining = lease["remaining_ms"]
    left = (
        f"{duration(remaining)} left" if remaining >= 0 else f"expired {duration(-remaining)} ago"
    )
    return f"{lease['owner_id']}{pid}, {left}"


def failure(last: dict[str, Any] | None) -> str:
    """Return the last reported failure of a run in one line, or `-`."""
    if last is None:
        return "-"
    return cut(f"attempt {last['attempt']}: {last['kind']}: {last['message']}")


def show(*parts: Any) -> None:
    """Write tables and lines to standard output; if it is not a terminal, as wide as they need."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=240)
    with console.capture() as shown:
        for part in parts:
            console.print(printable(part) if isinstance(part, str) else part)
    lines = [line.rstrip() for line in shown.get().splitlines()]
    write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table | Text:
    """Return a table with its number of rows in the title, or the line `title: none`."""
    found = [[str(cell) for cell in row] for row in rows]
    if not found:
        return Text(f"{title}: none")
    made = Table(title=f"{title}: {len(found)}", title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in found:
        made.add_row(*[Text(printable(cell)) for cell in row])
    return made


# -- inspect


async def inspect(url: str, session_id: str | None, tail: int, as_json: bool) -> None:
    """Print all sessions, or one with the last `tail` nodes of its transcript.  Raises CliExit or UnreadableSession."""
    async with open_read_only(url) as store:
        if session_id is None:
            await _all(store, as_json)
            return
        seen = await store.ask(LoadSessionDetail(session_id, tail))
        if seen is None:
            raise usage_error(no_session(session_id, url))
        stop_if_no_session(session_id, seen.overview.session.kind)
        now_ms = wall_clock_ms()
        with unreadable_if_it_fails(session_id):
            found = inspect_json.detail(seen, now_ms)
            if as_json:
                write_lines([found])
            else:
                show(*_detail(found, now_ms))


async def _all(store: Reader, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    unreadable: list[UnreadableSession] = []
    pages = session_pages(store, ListSessions, lambda seen: seen.session.session_id, unreadable)
    async for page in pages:
        found = [inspect_json.summary(seen, wall_clock_ms()) for seen in page]
        if as_json:
            write_lines(found)
        else:
            rows += found
    if not as_json:
        show(_sessions(rows))
    if unreadable:
        raise CliExit(Exit.UNFINISHED, *[f"session {e.session_id}: {e}" for e in unreadable])


def _sessions(rows: list[dict[str, Any]]) -> Table | Text:
    now_ms = wall_clock_ms()
    columns = ("session", "kind", "phase", "lease", "open run", "unended", "due", "revision")
    cells = [
        (
            row["session"],
            row["kind"],
            row["phase"],
            holder(row["lease"]),
            row["open_run"] or "-",
            f"{row['unended']}{'+' if row['more'] else ''}",
            due(row["due_at_ms"], now_ms),
            row["revision"],
        )
        for row in rows
    ]
    return table("sessions", columns, cells)


def _detail(seen: dict[str, Any], now_ms: int) -> list[Any]:
    lines = [
        f"session   {seen['session']}",
        f"phase     {seen['phase']}",
        f"lease     {holder(seen['lease'])} (generation {seen['generation']})",
        f"open run  {seen['open_run'] or '-'}",
        *_frame_lines(seen),
        f"due       {due(seen['due_at_ms'], now_ms)}",
        f"revision  {seen['revision']}, {seen['events']} events",
        f"changed   {moment(seen['changed_at_ms'])}",
    ]
    inbox = [
        (i["input_id"], i["status"], i["kind"], i["priority"], _rank(i), due(i["due_at_ms"], now_ms),
         i["run_id"] or "-", i["failures"], cut(i["text"]))
        for i in seen["inbox"]
    ]  # fmt: skip
    runs = [
        (r["run_id"], r["state"], due(r["due_at_ms"], now_ms), r["turn"], r["checkpoints"],
         r["failures"], r["outages"], r["losses"], " ".join(r["inputs"]), failure(r["last_failure"]))
        for r in seen["runs"]
    ]  # fmt: skip
    journal = [
        (r["run_id"], f"{e['turn']}.{e['n']}.{e['i']}", e["kind"], e["effect_id"], cut(e["body"]))
        for r in seen["runs"]
        for e in r["journal"]
    ]
    dead = [(d["input_id"], d["run_id"], cut(d["reason"]), cut(d["text"])) for d in seen["dead_letters"]]  # fmt: skip
    usage = [tuple(u.values())[1:] for u in seen["usage"]]
    counted = ("requests", "input", "output", "cached", "reasoning")
    return [
        *lines, "",
        table("inbox", ("input", "status", "kind", "priority", "rank", "due", "run", "failures", "text"), inbox), "",
        table("unfinished runs", ("run", "state", "due", "turn", "n", "failures", "outages", "losses", "inputs", "last failure"), runs), "",
        table("journal", ("run", "entry", "kind", "step", "body"), journal), "",
        table("dead letters", ("input", "run", "reason", "text"), dead), "",
        table("transcript", ("revision", "role", "text"), _transcript_rows(seen["transcript"])), "",
        table("usage", ("source", "model", *counted), usage),
        *_frames(seen["frames"]),
    ]  # fmt: skip


def _frames(found: list[dict[str, Any]]) -> list[Any]:
    """Return the table of frames; nothing if none was opened."""
    if not found:
        return []
    rows = [
        (f["frame"] or "(first)", f["status"], f["agent"] or "(first)", " ".join(f["states"]), cut(f["reason"]))
        for f in found
    ]  # fmt: skip
    return ["", table("frames", ("frame", "status", "agent", "states", "reason"), rows)]


def _frame_lines(seen: dict[str, Any]) -> list[str]:
    """Return the line of the current frame; none in a session that was never handed off."""
    if not seen["frame"] and not seen["agent"] and not seen["frames"]:
        return []
    return [f"frame     {seen['frame'] or '(first)'}, agent {seen['agent'] or '(first)'}"]


def _rank(one: dict[str, Any]) -> str:
    return "-" if one["rank"] is None else str(one["rank"])


def _transcript_rows(lines: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    spoken: list[tuple[object, ...]] = []
    for line in lines:
        spoken += [(line["revision"], "input", cut(i["text"])) for i in line["inputs"]]
        spoken.append((line["revision"], line["role"], cut(line["text"])))
    return spoken


# -- events


async def events(url: str, session_id: str, after: int, follow: bool, as_json: bool) -> None:
    """Print the events after number `after`; with `follow` poll for new ones until cancelled."""
    async with open_read_only(url) as store:
        if await store.ask(LoadSessionDetail(session_id, 0, 1)) is None:
            raise usage_error(no_session(session_id, url))
        while True:
            page = await store.ask(LoadEvents(session_id, after))
            if page.pruned_to is not None:
                log(f"events {after + 1} to {page.pruned_to} were removed by retention")
                after = page.pruned_to
            rows = page.batches
            with unreadable_if_it_fails(session_id):
                found = [event for row in rows for event in inspect_json.events(row, after)]
            if found:
                after = found[-1]["seq"]
                _print(found, as_json)
            elif follow:
                await asyncio.sleep(FOLLOW_S)
            else:
                return


def _print(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        write_lines(found)
        return
    lines = []
    for event in found:
        at = moment(event["at_ms"]).split(" ")[0]
        words = [event["run_id"] or "", " ".join(event["input_ids"]), event["detail"]]
        lines.append(
            f"{event['seq']:>6}  {at}  {event['kind']:<16} " + "  ".join(filter(None, words))
        )
    write_text([" ".join(line.splitlines()) for line in lines])
