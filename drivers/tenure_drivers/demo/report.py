"""What a demo has shown: counted from the database and the ledger file, never from the demo's own books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs
from attrs import frozen

from tenure.event import Happening
from tenure.machines.input import Ended, How
from tenure.questions.history import (
    Chronicle,
    Chronicled,
    Roll,
    finished,
    happenings,
    run_of,
)
from tenure.records import EntryKind

from ..stores.base import Store


async def read_all(store: Store) -> tuple[Chronicle, ...]:
    """Every session, each from a snapshot of its own."""
    chronicles = []
    for session in await store.ask(Roll()):
        chronicle = await store.ask(Chronicled(session.session_id))
        if chronicle is not None:
            chronicles.append(chronicle)
    return tuple(chronicles)


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
    chronicles: tuple[Chronicle, ...]
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
    chronicles = evidence.chronicles
    admitted = {p.input_id for c in chronicles for p in c.places}
    answers = [input_id for c in chronicles for input_id in _answered(c)]
    lines = Counter(_written(evidence.ledger))
    return Report(
        inputs=evidence.asked,
        sessions=len(chronicles),
        answered=len(answers),
        lost=evidence.asked - len(answers),
        repeated=sum(n - 1 for input_id, n in lines.items() if input_id in admitted),
        missing=sum(input_id not in lines for input_id in answers),
        foreign=sum(n for input_id, n in lines.items() if input_id not in admitted),
        out_of_order=sum(len(_overtaken(c)) for c in chronicles),
        answered_twice=sum(_surplus(c.answered) for c in chronicles),
        steps_twice=sum(_run_twice(c) for c in chronicles),
        open_turns=sum(c.session.open_run is not None for c in chronicles),
        kills=evidence.kills,
        pauses=evidence.pauses,
        takeovers=sum(_lost_leases(c) for c in chronicles),
        stale_writes_refused=len(evidence.refusals),
        refused=dict(sorted(Counter(r.command for r in evidence.refusals).items())),
    )


def _written(ledger: Sequence[str]) -> Iterator[str]:
    """The input that each line names; a line without one names nobody's."""
    for line in ledger:
        input_id, _, text = line.partition(" ")
        yield input_id if text.endswith("\n") else ""


def _answered(chronicle: Chronicle) -> Iterator[str]:
    """Consumed by a run that finished, and in the transcript."""
    runs = {run.run_id: run for run in chronicle.runs}
    shown = set(chronicle.answered)
    for place in chronicle.places:
        state = place.state
        if isinstance(state, Ended) and state.how is How.CONSUMED and place.input_id in shown:
            if finished(runs.get(run_of(place) or "")):
                yield place.input_id


def _overtaken(chronicle: Chronicle) -> set[str]:
    """Inputs answered before an earlier one of the same lane and priority: by the events, or by the transcript."""
    return _too_late(chronicle, _answers_in_time(chronicle)) | _too_late(
        chronicle, chronicle.answered
    )


def _too_late(chronicle: Chronicle, order: Iterable[str]) -> set[str]:
    places = {place.input_id: place for place in chronicle.places}
    highest: dict[tuple[str, int], int] = {}
    late: set[str] = set()
    for input_id in order:
        place = places[input_id]
        among = (place.lane.value, place.priority)
        if place.seq < highest.get(among, 0):
            late.add(input_id)
        highest[among] = max(place.seq, highest.get(among, 0))
    return late


def _answers_in_time(chronicle: Chronicle) -> Iterator[str]:
    """As the events number them."""
    for _, _, happened in happenings(chronicle.events):
        if happened.kind is Happening.RUN_FINISHED:
            yield from happened.input_ids


def _surplus(values: Iterable[Any]) -> int:
    return sum(n - 1 for n in Counter(values).values())


def _run_twice(chronicle: Chronicle) -> int:
    """Starts too many of one step, and in one run reports too many under one name: another try may follow only a
    step of which nobody found a trace."""
    starts = [(e.run_id, e.effect_id) for e in chronicle.entries if e.kind is EntryKind.START]
    reports = [
        (e.run_id, e.effect_id.partition("#")[0])
        for e in chronicle.entries
        if e.kind is EntryKind.REPORT
    ]
    return _surplus(starts) + _surplus(reports)


def _lost_leases(chronicle: Chronicle) -> int:
    return sum(h.kind is Happening.LEASE_LOST for _, _, h in happenings(chronicle.events))
