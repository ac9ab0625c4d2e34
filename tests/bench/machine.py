"""The kernel alone: steps beside the same machine in `transitions`, decisions of an item, and the explorer."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

from attrs import evolve

from tenure.check import search
from tenure.check.machine_domains import LEASE, QUEUE_ENTRY, RUN
from tenure.check.session.states import ModelConfig
from tenure.machines import lease
from tenure.outcome import Decided
from tenure.queries import Command
from tenure.records import EventBatch
from tenure.world import EMPTY
from tenure.world import evolve as forward

from .items import Client, recorded_item
from .measure import Budget, Failed, exactly, figures, in_process, interleave
from .stores import Bench, Section

EVERY_CASE = "all machines, every case of their tables"
STEPS_LEAST, DECISIONS_LEAST, DECIDE_US = 100_000, 10_000, 25.0
BATCH = 100


class Model:
    """What `transitions` wants: a mutable object with guards and callbacks as methods."""

    generation = 0
    token = ""
    owner = ""
    claimed = expires = refused = 0

    def over(self, owner: str, token: str, now: int, ttl: int) -> bool:
        return not (self.claimed < self.expires and now <= self.expires)

    def mine(self, owner: str, token: str, now: int, ttl: int) -> bool:
        return now <= self.expires and self.owner == owner

    def exact(self, generation: int, token: str, now: int) -> bool:
        return self.generation == generation and self.token == token

    def grant(self, owner: str, token: str, now: int, ttl: int) -> None:
        self.generation += 1
        self.owner, self.token, self.claimed, self.expires = owner, token, now, now + ttl

    def prolong(self, generation: int, token: str, now: int) -> None:
        self.expires = max(self.expires, now + 100)

    def vacate(self, generation: int, token: str, now: int) -> None:
        self.owner, self.expires = "", 0

    def refuse(self, *values: Any) -> None:
        self.refused += 1


def transitions_case() -> Callable[[float], tuple[int, float]]:
    from transitions import Machine

    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    rows: list[Any] = [
        {"trigger": "acquire", "source": "vacant", "dest": "held", "before": "grant"},
        {"trigger": "acquire", "source": "held", "dest": "held", "conditions": "over",
         "before": "grant"},
        {"trigger": "acquire", "source": "held", "dest": None, "before": "refuse"},
        {"trigger": "renew", "source": "held", "dest": "held", "conditions": "exact",
         "before": "prolong"},
        {"trigger": "renew", "source": ["held", "vacant"], "dest": None, "before": "refuse"},
        {"trigger": "release", "source": "held", "dest": "vacant", "conditions": "exact",
         "before": "vacate"},
        {"trigger": "release", "source": ["held", "vacant"], "dest": None, "before": "refuse"},
    ]  # fmt: skip
    model: Any = Model()
    Machine(
        model,
        states=["vacant", "held"],
        initial="vacant",
        auto_transitions=False,
        transitions=rows,
    )

    def case(seconds: float) -> tuple[int, float]:
        count, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            for _ in range(BATCH):
                model.acquire("w", "t", 10, 100)
                model.renew(model.generation, "t", 20)
                model.renew(model.generation, "bad", 30)
                model.release(model.generation, "t", 40)
            count += 4 * BATCH
        return count, time.perf_counter() - begun

    return case


def tenure_case(seconds: float) -> tuple[int, float]:
    owner = lease.Owner("w", "w.1")
    acquire, renew = lease.Acquire("t", owner, 100, 10), lease.Renew(1, "t", 20)
    stale, release = lease.Renew(1, "bad", 30), lease.Release(1, "t")
    vacant, step = lease.Vacant(), lease.step
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for _ in range(BATCH):
            held: Any = step(vacant, acquire)
            held = step(held.state, renew)
            step(held.state, stale)
            step(held.state, release)
        count += 4 * BATCH
    return count, time.perf_counter() - begun


def steps(bench: Bench) -> Section:
    floor, mine = "lease machine in transitions", "lease machine"
    cases = [in_process(mine, tenure_case, floor)]
    failed = []
    try:
        cases.append(in_process(floor, transitions_case()))
    except ImportError as error:
        failed.append(Failed(floor, f"{error}: install the extra 'bench'"))
    cases += [in_process(EVERY_CASE, every_case)]
    rounds, more = interleave(cases, bench.rounds, min(bench.seconds, 0.5), bench.say)
    found = figures(cases, rounds, [Budget(mine, floor, 5.0)], "steps/s")
    for number, figure in enumerate(found):
        if figure.name == EVERY_CASE:
            reached = figure.value >= STEPS_LEAST
            found[number] = evolve(figure, budgets={f">= {STEPS_LEAST:,} steps/s": reached})
    return found, [*failed, *more]


def every_case(seconds: float) -> tuple[int, float]:
    """Step the machines in every case of their domains."""
    cases = [
        (m.table.step, state, command)
        for m in (LEASE, QUEUE_ENTRY, RUN)
        for state, command in m.cases()
    ]
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for step, state, command in cases:
            step(state, command)
        count += len(cases)
    return count, time.perf_counter() - begun


def explored(bench: Bench, config: ModelConfig) -> Section:
    """Measure how fast `tenure check` explores a system of one session with crashes."""
    bench.say(f"exploring the system {config.name}")
    begun = time.perf_counter()
    result = search(config)
    taken = time.perf_counter() - begun
    found, system = result.explored, f"system {config.name!r}"
    assert found.good, result.line()
    states, rate = found.states / taken, found.transitions / taken
    least = DECISIONS_LEAST
    return [
        exactly(f"explorer, {system}: steps, each an executed command", rate, "steps/s",
                f">= {least:,} steps/s", rate >= least),
        exactly(f"explorer, {system}: states", states, "states/s"),
    ], []  # fmt: skip


def decisions(bench: Bench, items: int = 300) -> Section:
    """Medians of `decide` alone, in microseconds, over a session that is worked item by item."""
    taken: dict[str, list[float]] = {}
    world, client = EMPTY, Client(0)

    def execute(command: Command[Any, Any]) -> Any:
        nonlocal world
        view = world.load(command.reads())
        best = []
        for _ in range(5):
            begun = time.perf_counter_ns()
            decided = command.decide(view, 1_000)
            best.append((time.perf_counter_ns() - begun) / 1_000)
        taken.setdefault(type(command).__name__, []).append(statistics.median(best))
        assert isinstance(decided, Decided), decided
        world = forward(world, decided.writes)
        return decided.outcome

    bench.say("decisions")
    for _ in range(items):
        execute(client.admit())
        begun = execute(client.begin())
        execute(client.renew(begun))
        execute(client.commit(begun))
    out = []
    for name, values in taken.items():
        value = statistics.median(values)
        figure = exactly(f"decide {name}", value, "us", f"<= {DECIDE_US:g} us", value <= DECIDE_US)
        out.append(evolve(figure, low=min(values), high=max(values)))
    return out, []


def rows() -> Section:
    """Rows and events that an ordinary item writes."""
    written = [write for transaction in recorded_item()[1] for write in transaction]
    events = sum(len(w.record.events) for w in written if isinstance(w.record, EventBatch))
    return [
        exactly("rows an item", len(written), "rows", "<= 12 rows", len(written) <= 12),
        exactly("events an item", events, "events", "<= 3 events", events <= 3),
    ], []
