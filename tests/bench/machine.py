"""Steps of the lease machine beside the same machine in `transitions`; decisions of the commands of an item."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

from tenure import lease
from tenure.evolve import EMPTY, evolve
from tenure.outcome import Decided
from tenure.queries import Command

from .items import Client
from .measure import Figure, figures, interleave

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


def steps(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Figure]:
    floor = "transitions"
    cases = {floor: transitions_case(), "lease machine": tenure_case}
    rates = interleave(cases, rounds, min(seconds, 0.5), say)
    return figures(rates, (floor,), {"lease machine": (floor, 5.0)}, "steps/s")


def decisions(say: Callable[[str], None], items: int = 300) -> list[Figure]:
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
        world = evolve(world, decided.writes)
        return decided.outcome

    say("decisions")
    for _ in range(items):
        execute(client.admit())
        begun = execute(client.begin())
        execute(client.renew(begun))
        execute(client.commit(begun))
    out = []
    for name, values in taken.items():
        value = statistics.median(values)
        limit = 25.0
        out.append(
            Figure(
                f"decide {name}", value, "us", min(values), max(values),
                {}, f"<= {limit:g} us", value <= limit,
            )
        )  # fmt: skip
    return out
