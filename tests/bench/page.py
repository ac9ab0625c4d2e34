"""specs/figures.md and its picture, made of the figures alone."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import peer_cases
from .children import TESTS
from .environment import Environment
from .measure import Figure, Missing
from .report import Part, Report, short

STORES = {
    "memory": "Memory",
    "files": "Files",
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
}
VERSIONS = (
    "python", "sqlite", "psycopg", "dbos", "huey", "litequeue", "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres", "pgqueuer", "asyncpg", "procrastinate", "transitions",
)  # fmt: skip

OPENING = """# Figures

Written by `python -m tests.bench --page`, never by hand. Ratios count: they are medians of ratios to a floor measured next
to the case. Absolute figures are those of this machine, and a difference of a tenth is noise.

An *item*: admit one input of 200 B, begin it, commit it with 2 KB of session state; each of the three is on the disk before it
is answered. A *session* does one item after the other; so many of them work at once, in one process. Latencies are of whole
items. Every case works in a process of its own, in one window of the wall clock; what ends within it counts. The cases take
turns, round after round, in an order that rotates, and after every ten the floors take theirs.

- *minimal*: three hand-written transactions an item (enqueue; claim under a fence; complete and move the session's state), one
  connection, no library. On PostgreSQL: psycopg in C, prepared, one round trip for each.
- *same rows*: the rows that tenure writes for an item, written by hand in three transactions, nothing read, nothing decided;
  on PostgreSQL one round trip for each. What is left is the kernel.
- *KB an item*: on files and SQLite what the process made the kernel write (whole pages, checkpoints of the log included); on
  PostgreSQL the write-ahead log of the server.
- Peers do the nearest equivalent, in the same window as the floors, with as many sessions; what each promises is below.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *["| " + " | ".join(row) + " |" for row in rows]]) + "\n"


def text(report: Report, drawn: bool) -> str:
    parts = [OPENING, _machine(report)]
    if drawn:
        parts.append("![Ratios to the floor, and growth](figures.svg)\n")
    for name, title in STORES.items():
        if part := report.part(name):
            parts += [f"## {title}\n", *_store(part)]
    for name, title in (
        ("growth", "Growth"), ("history", "Committing to a long history"), ("wake", "Waking another process"),
        ("kernel", "The kernel alone"), ("shares", "Where the time of an item goes"),
    ):  # fmt: skip
        if part := report.part(name):
            parts += [f"## {title}\n", ABOUT.get(name, ""), _plain(part)]
    parts += ["## Budgets\n", MISSED, _budgets(report), "## What the peers promise\n", _promises()]
    parts += _missing(report)
    return "\n".join(part for part in parts if part)  # each ends its line: a blank one between them


ABOUT = {
    "memory": "The floor is SQLite's *minimal*: memory keeps nothing, so this is what tenure itself takes.\n",
    "files": "The floor is *one fsync an item*: a line of a log with what an item carries, on the disk before the next one. A slower "
    "disk: every fsync takes 2 ms more.\n",
    "sqlite": "The floor is *minimal*. Several writers of one file are no faster than one: it has one lock, held while the disk is "
    "waited for.\n",
    "postgres": "The floor is *minimal* on one connection; with as many connections as sessions the server shares its flushes among "
    "them, and that is what a queue by hand would do.\n",
    "growth": "Medians of single commands. The depth holds while it is measured: as much comes as goes. *take*: a checkpoint takes "
    "one input that names its run, where a hundredth of the inputs names this or another run. *read*: a node of a page of ten at the end of the path. *switch*: a commit that goes back to another frame and sets a state. Frames are those of one session, which has at most 256; blobs are those of five sessions with 250 frames each. On SQLite nothing is "
    "synced here: what is measured is work.\n",
    "history": "One turn adds two messages of 450 B to a session that has so many: the commit alone, five turns on each of two "
    "fresh sessions a round. By hand: two rows and a compare-and-set, one transaction. LangGraph's savers write the whole "
    "channel with every checkpoint.\n",
    "wake": "From the call that submits in one process until the work has begun in another that was waiting.\n",
    "shares": "On SQLite, with an event loop: in microseconds, and as a share of the item. The last line of each is what the "
    "rows alone cost, written in groups as tenure writes them: no kernel, however fast, is faster with the same rows.\n",
    "kernel": "No store and no clock: what a decision costs.\n",
}


MISSED = """They come from a prototype that wrote fewer rows and checked less. What is missed against *minimal* and *one fsync* is missed
where a flush of the disk is fast: those floors wait for the disk, tenure in groups waits for the interpreter, so the slower the
disk the better the ratio (files, 2 ms slower), and the rows that tenure keeps cost a good part of it before any decision (*same
rows*; *where the time of an item goes*).
"""


def _machine(report: Report) -> str:
    machine, how = report.facts.get("machine", {}), report.facts.get("how", {})
    versions = report.facts.get("versions", {})
    lines = []
    if machine:
        lines.append(
            f"Machine: {machine['processors']} processors ({machine['model']}), {machine['memory_gib']} GiB, "
            f"{machine['system']}, {machine['file_system']}; clients and server share it."
        )
    if server := report.facts.get("postgres"):
        lines.append(
            f"PostgreSQL {server['version']}: fsync {server['fsync']}, synchronous_commit "
            f"{server['synchronous_commit']}, else as it comes, over a socket."
        )
    known = [f"{name} {versions[name]}" for name in VERSIONS if name in versions]
    if known:
        lines.append(f"Versions: {', '.join(known)}.")
    if how:
        lines.append(
            f"{how['rounds']} rounds of {how['seconds']:g} s a case, after {how['warm_s']:g} s to warm up."
            + (" A quick run: hints, no more." if how["quick"] else "")
        )
    return textwrap.fill(" ".join(lines), 120, break_on_hyphens=False) + "\n"


def _store(part: Part) -> list[str]:
    """Who by how many sessions, then the rows that are neither."""
    by: dict[str, dict[int, Figure]] = {}
    floor = part.figures[0].name if part.figures else ""
    for figure in part.figures:
        facts = figure.facts
        if "who" in facts:
            by.setdefault(facts["who"], {})[facts.get("sessions", 1)] = figure
    counts = sorted({count for row in by.values() for count in row})
    head = ["items/s (times the floor)", *[f"{n} session{'s' * (n > 1)}" for n in counts]]
    rates = [[who, *[_rate(row.get(n), floor) for n in counts]] for who, row in by.items()]
    taken = [[who, *[_taken(row.get(n)) for n in counts]] for who, row in by.items()]
    wrote = [
        [who, *[_wrote(row.get(n)) for n in counts]]
        for who, row in by.items()
        if any(f.written_per_item for f in row.values())
    ]
    commits = [
        [who, *[_commits(row.get(n)) for n in counts]]
        for who, row in by.items()
        if any(f.commits_per_item for f in row.values())
    ]
    rest = [f for f in part.figures if "who" not in f.facts]
    out = [
        ABOUT.get(part.name, ""),
        table(head, rates),
        table(["p50 / p99 ms", *head[1:]], taken),
    ]
    if wrote:
        out.append(table(["KB an item", *head[1:]], wrote))
    if commits:
        out.append(table(["commits an item", *head[1:]], commits))
    if rest:
        rows = [
            [f.name, _rate(f, floor), _ratios(f, but=floor), _taken(f), _wrote(f)] for f in rest
        ]
        out.append(
            table(["besides", "items/s", "other floors", "p50 / p99 ms", "KB an item"], rows)
        )
    return out


def _rate(figure: Figure | None, floor: str) -> str:
    if figure is None:
        return ""
    ratio = figure.ratios.get(floor)
    return short(figure.value) + (f" ({short(ratio)} x)" if ratio is not None else "")


def _ratios(figure: Figure, but: str = "") -> str:
    return ", ".join(f"{short(r)} x {name}" for name, r in figure.ratios.items() if name != but)


def _taken(figure: Figure | None) -> str:
    if figure is None or figure.p50_ms is None or figure.p99_ms is None:
        return ""
    return f"{short(figure.p50_ms)} / {short(figure.p99_ms)}"


def _wrote(figure: Figure | None) -> str:
    if figure is None or figure.written_per_item is None:
        return ""
    return short(figure.written_per_item / 1_000)


def _commits(figure: Figure | None) -> str:
    if figure is None or figure.commits_per_item is None:
        return ""
    return short(figure.commits_per_item)


def _plain(part: Part) -> str:
    """Columns that are empty everywhere are left out."""
    columns: dict[str, Callable[[Figure], str]] = {
        "median": lambda f: f"{short(f.value)} {f.unit}",
        "p99 ms": lambda f: short(f.p99_ms) if f.p99_ms is not None else "",
        "KB a commit": _wrote,
        "ms to load": lambda f: short(f.facts["load_ms"]) if "load_ms" in f.facts else "",
        "ratio": _ratios,
    }
    cells = {name: [of(f) for f in part.figures] for name, of in columns.items()}
    used = [name for name, column in cells.items() if any(column)]
    rows = [
        [figure.name, *[cells[name][at] for name in used]] for at, figure in enumerate(part.figures)
    ]
    return table(["", *used], rows)


def _budgets(report: Report) -> str:
    rows = []
    for part in report.parts:
        for f in part.figures:
            for budget, reached in f.budgets.items():
                floor = next((name for name in f.ratios if budget.endswith(f" x {name}")), None)
                found = (
                    f"{short(f.value)} {f.unit}" if floor is None else f"{short(f.ratios[floor])} x"
                )
                verdict = "reached" if reached else "**missed**"
                rows.append([f"{part.name}: {f.name}", budget, found, verdict])
    return table(["what", "must reach", "measured", ""], rows)


def _promises() -> str:
    seen: dict[str, str] = {}
    for peer in (*peer_cases.SQLITE, *peer_cases.POSTGRES):
        seen.setdefault(peer.name, peer.note)
    ours = (
        "- **tenure**: input, transcript, events and lease in one transaction; at least once, fenced at every write, one worker "
        "a session; replayed commands are answered, not repeated."
    )
    return "\n".join([ours, *[f"- **{name}**: {note}." for name, note in seen.items()]]) + "\n"


def _missing(report: Report) -> list[str]:
    failed = [f"- {part.name}: {f.name}: {f.why}" for part in report.parts for f in part.failed]
    return ["## Not measured\n", "\n".join(failed) + "\n"] if failed else []


def draw(json_file: Path, picture: Path, environment: Environment) -> str | None:
    """Draw the picture in the throw-away environment; otherwise why not."""
    try:
        python = environment.need(("matplotlib",))
    except Missing as error:
        return str(error)
    done = subprocess.run(
        [python, str(Path(__file__).with_name("plot.py")), str(json_file), str(picture)],
        text=True, capture_output=True, cwd=TESTS,
    )  # fmt: skip
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return None
