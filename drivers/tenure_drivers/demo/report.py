"""What a demo has shown: counted from the database and the ledger file, never from the demo's own books."""

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


async def read_all(store: Store) -> tuple[SessionHistory, ...]:
    """Every session, each from a snapshot of its own."""
    histories = []
    for session in await store.ask(AllSessions()):
        history = await store.ask(LoadHistory(session.session_id))
        if history is not None:
            histories.append(history)
    return tuple(histories)


@frozen
class Refusal:
    """A write that the store refused because its fence was not the session's any more, as its sender saw it."""

    at_ms: int
    worker: str
    session_id: str
    command: str
    generation: int


@frozen
class Evidence:
    """Where a report may look.  `asked`: how many inputs were handed over.  `ledger`: its lines.

    Only what leaves no trace in a database by its nature comes from elsewhere: signals from who sent them, refused
    writes from who was refused.
    """

    asked: int
    histories: tuple[SessionHistory, ...]
    ledger: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()
    kills: int = 0
    pauses: int = 0


@frozen
class Report:
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
        return not any(getattr(self, name) for name in MUST_BE_ZERO)

    def as_json(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "holds": self.holds}


# In the order of the table, with what each means to somebody who sees it for the first time.
MEANINGS: Final[dict[str, str]] = {
    "inputs": "prompts handed over, each to one of the sessions",
    "answered": "ended with an answer in the transcript",
    "lost": "handed over and not answered",
    "repeated": "lines too many in the ledger: work done again",
    "missing": "answered without their line in the ledger",
    "foreign": "ledger lines of nobody's input, or torn",
    "out_of_order": "overtook an earlier prompt of their session",
    "answered_twice": "stand in a transcript more than once",
    "steps_twice": "once-steps that the journals show running again",
    "open_turns": "turns left open at the end",
    "kills": "workers killed with SIGKILL in the middle of turns",
    "pauses": "stopped until their leases were over, then woken",
    "takeovers": "leases lost by the dead and the stopped",
    "stale_writes_refused": "writes of workers woken too late: fenced",
}
MUST_BE_ZERO: Final = (
    "lost", "repeated", "missing", "foreign", "out_of_order", "answered_twice", "steps_twice",
    "open_turns",
)  # fmt: skip

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "the work": ("inputs", "answered"),
    "must be zero": MUST_BE_ZERO,
    "what they went through": ("kills", "pauses", "takeovers", "stale_writes_refused"),
}


def report_on(evidence: Evidence) -> Report:
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
    """The input that each line names; a line without one names nobody's."""
    for line in ledger:
        input_id, _, text = line.partition(" ")
        yield input_id if text.endswith("\n") else ""


def _answered(history: SessionHistory) -> Iterator[str]:
    """Consumed by a run that finished, and in the transcript."""
    runs = {run.run_id: run for run in history.runs}
    shown = set(history.answered)
    for place in history.queue_entries:
        state = place.state
        if isinstance(state, Ended) and state.how is How.CONSUMED and place.input_id in shown:
            if finished(runs.get(run_of(place) or "")):
                yield place.input_id


def _overtaken(history: SessionHistory) -> set[str]:
    """Inputs answered before an earlier one of the same lane and priority: by the events, or by the transcript."""
    return _too_late(history, _answers_in_time(history)) | _too_late(history, history.answered)


def _too_late(history: SessionHistory, order: Iterable[str]) -> set[str]:
    places = {place.input_id: place for place in history.queue_entries}
    highest: dict[tuple[str, int], int] = {}
    late: set[str] = set()
    for input_id in order:
        place = places[input_id]
        among = (place.lane.value, place.priority)
        if place.seq < highest.get(among, 0):
            late.add(input_id)
        highest[among] = max(place.seq, highest.get(among, 0))
    return late


def _answers_in_time(history: SessionHistory) -> Iterator[str]:
    """As the events number them."""
    for _, _, event in flat_events(history.events):
        if event.kind is EventKind.RUN_FINISHED:
            yield from event.input_ids


def _surplus(values: Iterable[Any]) -> int:
    return sum(n - 1 for n in Counter(values).values())


def _run_twice(history: SessionHistory) -> int:
    """Starts too many of one step, and in one run reports too many under one name: another try may follow only a
    step of which nobody found a trace."""
    starts = [(e.run_id, e.effect_id) for e in history.entries if e.kind is EntryKind.START]
    reports = [
        (e.run_id, e.effect_id.partition("#")[0])
        for e in history.entries
        if e.kind is EntryKind.REPORT
    ]
    return _surplus(starts) + _surplus(reports)


def _lost_leases(history: SessionHistory) -> int:
    return sum(h.kind is EventKind.LEASE_LOST for _, _, h in flat_events(history.events))
