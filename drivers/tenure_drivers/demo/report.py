"""The report of a demo: counted from the database and the ledger file, not from the demo's own counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs
from attrs import frozen

from tenure.event import EventKind
from tenure.machines.input import Ended, How
from tenure.questions.history import (
    AllSessions,
    LoadHistory,
    SessionHistory,
    finished,
    flat_events,
    run_of,
)
from tenure.records import EntryKind

from ..stores.base import Store

__all__ = [
    "GROUPS",
    "MEANINGS",
    "MUST_BE_ZERO",
    "Evidence",
    "Refusal",
    "Report",
    "read_all",
    "report_on",
]


async def read_all(store: Store) -> tuple[SessionHistory, ...]:
    """Load the history of every session, each from a snapshot of its own."""
    histories = []
    for session in await store.ask(AllSessions()):
        history = await store.ask(LoadHistory(session.session_id))
        if history is not None:
            histories.append(history)
    return tuple(histories)


@frozen
class Refusal:
    """A write that the store refused with FENCED, as its sender logged it."""

    at_ms: int
    worker: str
    session_id: str
    command: str
    generation: int


@frozen
class Evidence:
    """The data that a report is made from.  `asked`: the number of submitted inputs.  `ledger`: its lines.

    Signals and refused writes leave no trace in the database, so the processes that sent or received them log them.
    """

    asked: int
    histories: tuple[SessionHistory, ...]
    ledger: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()
    kills: int = 0
    pauses: int = 0


@frozen
class Report:
    """The figures of a demo; MEANINGS describes each one."""

    inputs: int
    sessions: int
    answered: int
    lost: int
    repeated: int
    missing: int
    foreign: int
    out_of_order: int
    answered_twice: int
    steps_twice: int
    open_turns: int
    kills: int
    pauses: int
    takeovers: int
    stale_writes_refused: int
    refused: dict[str, int]  # by command

    @property
    def holds(self) -> bool:
        """Return True if all figures that must be zero are zero."""
        return not any(getattr(self, name) for name in MUST_BE_ZERO)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {**attrs.asdict(self), "holds": self.holds}


# In the order of the table.
MEANINGS: Final[dict[str, str]] = {
    "inputs": "prompts submitted, each to one of the sessions",
    "answered": "prompts with an answer in the transcript",
    "lost": "prompts submitted and not answered",
    "repeated": "surplus lines in the ledger: work done twice",
    "missing": "prompts answered without a line in the ledger",
    "foreign": "ledger lines of no known input, or torn",
    "out_of_order": "prompts that overtook an earlier one of their session",
    "answered_twice": "prompts more than once in a transcript",
    "steps_twice": "once steps that ran twice according to a journal",
    "open_turns": "turns still open at the end",
    "kills": "workers killed with SIGKILL during turns",
    "pauses": "workers stopped until their lease was taken over",
    "takeovers": "leases lost by killed and stopped workers",
    "stale_writes_refused": "late writes of resumed workers: fenced",
}
MUST_BE_ZERO: Final = (
    "lost", "repeated", "missing", "foreign", "out_of_order", "answered_twice", "steps_twice",
    "open_turns",
)  # fmt: skip

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "work": ("inputs", "answered"),
    "must be zero": MUST_BE_ZERO,
    "faults": ("kills", "pauses", "takeovers", "stale_writes_refused"),
}


def report_on(evidence: Evidence) -> Report:
    """Count the figures."""
    histories = evidence.histories
    admitted = {p.input_id for c in histories for p in c.queue_entries}
    answers = [input_id for c in histories for input_id in _answered(c)]
    lines = Counter(_written(evidence.ledger))
    return Report(
        inputs=evidence.asked,
        sessions=len(histories),
        answered=len(answers),
        lost=evidence.asked - len(answers),
        repeated=sum(n - 1 for input_id, n in lines.items() if input_id in admitted),
        missing=sum(input_id not in lines for input_id in answers),
        foreign=sum(n for input_id, n in lines.items() if input_id not in admitted),
        out_of_order=sum(len(_overtaken(c)) for c in histories),
        answered_twice=sum(_surplus(c.answered) for c in histories),
        steps_twice=sum(_run_twice(c) for c in histories),
        open_turns=sum(c.session.open_run is not None for c in histories),
        kills=evidence.kills,
        pauses=evidence.pauses,
        takeovers=sum(_lost_leases(c) for c in histories),
        stale_writes_refused=len(evidence.refusals),
        refused=dict(sorted(Counter(r.command for r in evidence.refusals).items())),
    )


def _written(ledger: Sequence[str]) -> Iterator[str]:
    """Yield the input id of each line; an empty id for a torn line."""
    for line in ledger:
        input_id, _, text = line.partition(" ")
        yield input_id if text.endswith("\n") else ""


def _answered(history: SessionHistory) -> Iterator[str]:
    """Yield the inputs that a finished run consumed and that are in the transcript."""
    runs = {run.run_id: run for run in history.runs}
    shown = set(history.answered)
    for entry in history.queue_entries:
        state = entry.state
        if isinstance(state, Ended) and state.how is How.CONSUMED and entry.input_id in shown:
            if finished(runs.get(run_of(entry) or "")):
                yield entry.input_id


def _overtaken(history: SessionHistory) -> set[str]:
    """Return inputs answered after a later one of the same lane and priority, by the events or the transcript."""
    return _too_late(history, _answers_in_time(history)) | _too_late(history, history.answered)


def _too_late(history: SessionHistory, order: Iterable[str]) -> set[str]:
    entries = {entry.input_id: entry for entry in history.queue_entries}
    highest: dict[tuple[str, int], int] = {}
    late: set[str] = set()
    for input_id in order:
        entry = entries[input_id]
        among = (entry.lane.value, entry.priority)
        if entry.seq < highest.get(among, 0):
            late.add(input_id)
        highest[among] = max(entry.seq, highest.get(among, 0))
    return late


def _answers_in_time(history: SessionHistory) -> Iterator[str]:
    """Yield the answered inputs in the order of the events."""
    for _, _, event in flat_events(history.events):
        if event.kind is EventKind.RUN_FINISHED:
            yield from event.input_ids


def _surplus(values: Iterable[Any]) -> int:
    return sum(n - 1 for n in Counter(values).values())


def _run_twice(history: SessionHistory) -> int:
    """Count surplus starts of one step, and surplus reports under one name in one run.

    A step may be tried again only if its probe found no trace of it, and then under a new number.
    """
    starts = [(e.run_id, e.effect_id) for e in history.entries if e.kind is EntryKind.START]
    reports = [
        (e.run_id, e.effect_id.partition("#")[0])
        for e in history.entries
        if e.kind is EntryKind.REPORT
    ]
    return _surplus(starts) + _surplus(reports)


def _lost_leases(history: SessionHistory) -> int:
    return sum(h.kind is EventKind.LEASE_LOST for _, _, h in flat_events(history.events))
