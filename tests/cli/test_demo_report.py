"""The report and the timeline of the demo, from a fleet in virtual time: no processes, but the real commands.

Its workers are killed and paused on a memory store.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from attrs import define, evolve, field

from tenure.commands import Admit, Begin, Begun, Checkpoint, Commit, NewEntry, NewInput
from tenure.event import EventKind
from tenure.machines.input import Ended, How
from tenure.machines.lease import Owner
from tenure.outcome import Refused
from tenure.policy import POLICIES, OnRetry
from tenure.questions.history import SessionHistory, flat_events, lease_spans
from tenure.records import EntryKind
from tenure.transcript import NewNode, Role
from tenure_drivers.console.timeline.page import (
    Figure,
    Holder,
    Life,
    Pause,
    Timeline,
    TooLate,
    page,
)
from tenure_drivers.demo.report import GROUPS, MEANINGS, MUST_BE_ZERO, Evidence, read_all, report_on
from tenure_drivers.stores.memory import MemoryStore

TTL_MS = 900
START_MS = 1_700_000_000_000


@define
class Turn:
    begun: Begun
    stage: int = 0


@define
class ToyWorker:
    name: str
    born_ms: int
    awake_at_ms: int = 0
    paused_at_ms: int | None = None
    turns: dict[str, Turn] = field(factory=dict)
    lives: int = 1


@define
class ToyFleet:
    """Workers in virtual time, and the evidence that reports and timelines read."""

    seed: int = 1
    sessions: int = 4
    inputs: int = 24
    workers: int = 2
    calm: bool = False  # no worker is killed or paused
    now_ms: int = START_MS
    ledger: list[str] = field(factory=list)
    holders: dict[str, Holder] = field(factory=dict)
    lives: list[Life] = field(factory=list)
    pauses: list[Pause] = field(factory=list)
    refused: list[TooLate] = field(factory=list)
    histories: tuple[SessionHistory, ...] = ()

    def run(self) -> ToyFleet:
        asyncio.run(self._run())
        return self

    async def _run(self) -> None:
        dice = random.Random(self.seed)
        store = MemoryStore(clock=lambda: self.now_ms)
        waiting = [(f"chat-{i % self.sessions + 1:02}", i) for i in range(self.inputs)]
        workers = [ToyWorker(f"worker-{i + 1}", self.now_ms) for i in range(self.workers)]
        while waiting or await self._busy(store):
            self.now_ms += dice.randrange(1, 9)
            assert self.now_ms < START_MS + 120_000, "the toy fleet does not come to an end"
            if waiting and (dice.random() < 0.12 or len(waiting) > self.inputs // 2):
                await self._submit(store, *waiting.pop(0))
            for worker in workers:
                if worker.awake_at_ms <= self.now_ms:
                    await self._act(store, worker, dice)
        for worker in workers:
            self.lives.append(Life(worker.name, worker.lives, worker.born_ms, self.now_ms))
        self.histories = await read_all(store)

    async def _busy(self, store: MemoryStore) -> bool:
        return bool(await store.due(1)) or await store.horizon() is not None

    async def _submit(self, store: MemoryStore, session_id: str, number: int) -> None:
        policy = evolve(POLICIES["prompt"], on_retry=OnRetry.HOLD)
        new = NewInput(f"input-{number + 1:03}", "prompt", f"what is {number}?", policy=policy)
        assert not isinstance(await store.execute(Admit(session_id, (new,))), Refused)

    async def _act(self, store: MemoryStore, worker: ToyWorker, dice: random.Random) -> None:
        if worker.paused_at_ms is not None:
            self.pauses.append(Pause(worker.name, worker.paused_at_ms, self.now_ms))
            worker.paused_at_ms = None
        elif worker.turns and not self.calm and dice.random() < 0.02:
            self.lives.append(Life(worker.name, worker.lives, worker.born_ms, self.now_ms, True))
            worker.turns.clear()
            worker.lives += 1
            worker.born_ms = worker.awake_at_ms = self.now_ms + 300
            return
        elif worker.turns and not self.calm and dice.random() < 0.04:
            worker.paused_at_ms = self.now_ms
            worker.awake_at_ms = self.now_ms + TTL_MS * 2
            return
        worker.awake_at_ms = self.now_ms + dice.randrange(20, 70)
        if len(worker.turns) < 2:
            due = sorted(each.session_id for each in await store.due(self.sessions))
            if due:  # the store answers in random order: the seed alone decides
                await self._begin(store, worker, dice.choice(due))
        for session_id in list(worker.turns):
            await self._go_on(store, worker, session_id)

    async def _begin(self, store: MemoryStore, worker: ToyWorker, session_id: str) -> None:
        name = f"{worker.name}.{worker.lives}-{len(self.holders) + 1}"
        self.holders[f"lease-{name}"] = Holder(worker.name, worker.lives)
        owner = Owner(worker.name, f"{worker.name}.{worker.lives}.{len(self.holders)}")
        begun = await store.execute(
            Begin(session_id, f"lease-{name}", f"run-{name}", owner, TTL_MS)
        )
        if isinstance(begun, Begun):
            worker.turns[session_id] = Turn(begun)

    async def _go_on(self, store: MemoryStore, worker: ToyWorker, session_id: str) -> None:
        turn = worker.turns[session_id]
        begun, n = turn.begun, turn.begun.n
        at = (session_id, begun.fence, begun.run_id, begun.turn)
        command: Checkpoint | Commit
        if n == 0:
            command = Checkpoint(*at, n, (NewEntry(EntryKind.START, "append"),))
        elif n == 1:
            line = f"{begun.inputs[0]} text\n"
            if turn.stage == 0 and line not in self.ledger:
                self.ledger.append(line)
            command = Checkpoint(*at, n, (NewEntry(EntryKind.REPORT, "append", "done"),))
        else:
            answer = NewNode(Role.ASSISTANT, f"answer to {begun.inputs[0]}")
            command = Commit(*at, n, begun.revision, nodes=(answer,))
        answered: object = await (
            store.execute(command) if isinstance(command, Checkpoint) else store.execute(command)
        )
        if isinstance(answered, Refused):
            assert answered.reason.value == "fenced", answered
            self.refused.append(
                TooLate(self.now_ms, worker.name, session_id, type(command).__name__, begun.fence.generation)
            )  # fmt: skip
        elif isinstance(command, Checkpoint):
            turn.begun = evolve(begun, n=n + 1)
            return
        del worker.turns[session_id]


@pytest.fixture(scope="module")
def fleet() -> ToyFleet:
    return ToyFleet(seed=4, sessions=4, inputs=40, workers=3).run()


def evidence(fleet: ToyFleet, **doctored: Any) -> Evidence:
    return evolve(Evidence(fleet.inputs, fleet.histories, tuple(fleet.ledger)), **doctored)


def doctored(fleet: ToyFleet, **changes: Any) -> tuple[SessionHistory, ...]:
    """The first session says something else."""
    first, *others = fleet.histories
    return (evolve(first, **changes), *others)


def turned_red(evidence: Evidence) -> dict[str, int]:
    report = report_on(evidence)
    found = {name: getattr(report, name) for name in MUST_BE_ZERO if getattr(report, name)}
    assert report.holds == (not found)
    return found


# -- the report


def test_what_the_kernel_did_with_a_toy_fleet_is_reported_as_right(fleet: ToyFleet) -> None:
    report = report_on(evidence(fleet))

    assert report.holds, report
    assert (report.inputs, report.answered, report.sessions) == (40, 40, 4)
    assert report.takeovers > 0


def test_every_figure_has_a_meaning_and_a_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]

    assert sorted(grouped) == sorted(MEANINGS)
    assert set(MUST_BE_ZERO) < set(MEANINGS)


def test_a_repeated_line_of_the_ledger_is_found(fleet: ToyFleet) -> None:
    ledger = (*fleet.ledger, fleet.ledger[7])

    assert turned_red(evidence(fleet, ledger=ledger)) == {"repeated": 1}


def test_a_missing_line_of_the_ledger_is_found(fleet: ToyFleet) -> None:
    assert turned_red(evidence(fleet, ledger=tuple(fleet.ledger[1:]))) == {"missing": 1}


def test_a_torn_line_and_a_line_of_an_unknown_input_are_found(fleet: ToyFleet) -> None:
    torn = (*fleet.ledger[:-1], fleet.ledger[-1].rstrip("\n"))
    strange = (*fleet.ledger, "input-999 text\n")

    assert turned_red(evidence(fleet, ledger=torn)) == {"missing": 1, "foreign": 1}
    assert turned_red(evidence(fleet, ledger=strange)) == {"foreign": 1}


def test_an_input_that_the_database_does_not_know_is_lost(fleet: ToyFleet) -> None:
    assert turned_red(evidence(fleet, asked=41)) == {"lost": 1}


def test_an_input_that_was_not_consumed_by_a_finished_run_is_lost(fleet: ToyFleet) -> None:
    first, *rest = fleet.histories[0].queue_entries
    letter = evolve(first, state=Ended(How.DEAD_LETTERED, "lost", "run-1"))
    unread = fleet.histories[0].answered[1:]

    found = turned_red(evidence(fleet, histories=doctored(fleet, queue_entries=(letter, *rest))))
    assert found == {"lost": 1}
    assert turned_red(evidence(fleet, histories=doctored(fleet, answered=unread))) == {"lost": 1}


def test_an_answer_that_overtakes_is_found_in_the_transcript(fleet: ToyFleet) -> None:
    first, second, *rest = fleet.histories[0].answered

    histories = doctored(fleet, answered=(second, first, *rest))

    assert turned_red(evidence(fleet, histories=histories)) == {"out_of_order": 1}


def test_an_answer_that_overtakes_is_found_in_the_events(fleet: ToyFleet) -> None:
    events = fleet.histories[0].events
    finished = [e for e in events if e.events[-1].kind is EventKind.RUN_FINISHED]
    a, b = finished[0], finished[1]
    swapped = {a.seq: evolve(a, events=b.events), b.seq: evolve(b, events=a.events)}

    histories = doctored(fleet, events=tuple(swapped.get(e.seq, e) for e in events))

    assert turned_red(evidence(fleet, histories=histories)) == {"out_of_order": 1}


def test_an_urgent_prompt_may_overtake(fleet: ToyFleet) -> None:
    history = fleet.histories[0]
    first, second, *rest = history.answered
    queue_entries = tuple(
        evolve(p, priority=1) if p.input_id == second else p for p in history.queue_entries
    )

    histories = doctored(fleet, answered=(second, first, *rest), queue_entries=queue_entries)

    assert turned_red(evidence(fleet, histories=histories)) == {}


def test_an_input_that_stands_twice_in_a_transcript_is_found(fleet: ToyFleet) -> None:
    answered = fleet.histories[0].answered

    histories = doctored(fleet, answered=(*answered, answered[-1]))

    assert turned_red(evidence(fleet, histories=histories)) == {"answered_twice": 1}


@pytest.mark.parametrize("kind", [EntryKind.START, EntryKind.REPORT])
def test_a_step_that_the_journal_shows_twice_is_found(fleet: ToyFleet, kind: EntryKind) -> None:
    entries = fleet.histories[0].entries
    again = next(evolve(e, n=99) for e in entries if e.kind is kind)

    histories = doctored(fleet, entries=(*entries, again))

    assert turned_red(evidence(fleet, histories=histories)) == {"steps_twice": 1}


def test_a_turn_left_open_is_found(fleet: ToyFleet) -> None:
    session = evolve(fleet.histories[0].session, open_run="run-1")

    histories = doctored(fleet, session=session)

    assert turned_red(evidence(fleet, histories=histories)) == {"open_turns": 1}


# -- what is read


def test_a_long_session_is_read_as_a_whole() -> None:
    fleet = ToyFleet(seed=1, sessions=1, inputs=300, workers=1, calm=True).run()
    (history,) = fleet.histories

    assert len(history.queue_entries) == len(history.inputs) == len(history.runs) == 300
    assert len(history.entries) == 600
    assert history.answered == tuple(p.input_id for p in history.queue_entries)


def test_holdings_follow_each_other_and_account_for_every_run(fleet: ToyFleet) -> None:
    for history in fleet.histories:
        held = lease_spans(history.events)
        stretches = [s for h in held for s in h.run_spans]

        generations = [h.generation for h in held]
        assert generations == sorted(set(generations))
        assert all(h.until_ms is not None for h in held)
        assert all(a.until_ms <= b.from_ms for a, b in pairwise(held) if a.until_ms is not None)
        assert {h.lease_id for h in held} <= set(fleet.holders)
        finished = [s.run_id for s in stretches if s.how == "finished"]
        assert sorted(finished) == sorted(r.run_id for r in history.runs)
        lost = [h for _, _, h in flat_events(history.events) if h.kind is EventKind.LEASE_LOST]
        assert sum(h.lost for h in held) == len(lost)


# -- the page


def timeline(fleet: ToyFleet, **changes: Any) -> Timeline:
    figures = (Figure("answered", 40, "ended", None), Figure("lost", 0, "gone", True))
    return evolve(
        Timeline(
            "a toy fleet", "what was shown", figures, fleet.histories, fleet.holders,
            tuple(fleet.lives), tuple(fleet.pauses), tuple(fleet.refused),
        ),
        **changes,
    )  # fmt: skip


class Tags(HTMLParser):
    """Whether every tag is closed, and what the page would fetch."""

    VOID = frozenset(("meta", "path", "rect", "line", "circle"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.count: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.getpos())

    def note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        found = dict(attrs)
        self.classes.update((found.get("class") or "").split())
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]


def test_a_page_stands_alone(fleet: ToyFleet) -> None:
    text = page(timeline(fleet))
    tags = Tags(text)

    assert tags.open == []
    assert tags.fetched == []
    assert re.findall(r"https?://|@import|url\(", text) == []


def test_a_page_shows_everything_that_happened(fleet: ToyFleet) -> None:
    classes = Tags(page(timeline(fleet))).classes
    held = [h for c in fleet.histories for h in lease_spans(c.events)]

    in_legend = 1
    assert classes["lease"] == len(held) + in_legend
    assert classes["input"] == fleet.inputs + in_legend
    assert classes["commit"] == fleet.inputs + in_legend
    assert classes["refused"] == 2 * len(fleet.refused) + in_legend
    assert classes["pause"] == len(fleet.pauses) > 0
    assert classes["life"] == len(fleet.lives)
    taken_over = sum(a.lost for c in fleet.histories for a, _ in pairwise(lease_spans(c.events)))
    assert classes["takeover"] == taken_over + in_legend


def test_whatever_a_session_is_called_stays_text(fleet: ToyFleet) -> None:
    evil = "</script><script>alert(1)</script>\"'&$title"
    first, *others = fleet.histories
    queue_entry = evolve(first.queue_entries[0], input_id=evil)
    named = evolve(
        first,
        session=evolve(first.session, session_id=evil),
        queue_entries=(queue_entry, *first.queue_entries[1:]),
        events=tuple(
            evolve(e, events=tuple(evolve(h, input_ids=(evil,)) for h in e.events))
            for e in first.events
        ),
    )
    holders = {lease: evolve(holder, worker=evil) for lease, holder in fleet.holders.items()}

    changed = timeline(
        fleet, title=evil, sentence=evil, histories=(named, *others), holders=holders
    )
    text = page(changed)

    tags = Tags(text)
    assert tags.open == []
    assert tags.count["script"] == 2
    assert "alert(1)</script>" not in text


def test_a_session_of_unknown_workers_can_be_shown(fleet: ToyFleet) -> None:
    bare = Timeline("one session", "", (), fleet.histories[:1])

    tags = Tags(page(bare))

    assert tags.open == []
    assert tags.classes["life"] == 0
    assert tags.classes["run"] > 1


def test_a_timeline_of_nothing_is_a_page() -> None:
    assert Tags(page(Timeline("nothing", "", (), ()))).open == []
