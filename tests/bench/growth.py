"""Costs that may not grow, by the depth of the inbox, the length of the transcript, frames and blobs; a burst; reopening; waiting."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from attrs import evolve

from tenure.commands import Admit, Begin, Checkpoint, Decide, NewInput, NewState, Sweep, Switch
from tenure.limits import RUN_INPUTS_MAX
from tenure.machines.ticket import Action
from tenure.outcome import Refused
from tenure.policy import Boundary
from tenure.questions.path import LoadPage
from tenure.questions.sessions import SessionRows
from tenure.records import Session
from tenure.replace import replace
from tenure_drivers.stores.sqlite.store import SqliteStore

from .filling import (
    FRAME_IDS,
    SESSION,
    TICKET,
    framed,
    inbox,
    restored_now,
    started,
    transcript,
    waiting,
    with_blobs,
    written,
)
from .items import OWNER, Client
from .measure import Figure, exactly
from .stores import Bench, Section
from .window import PAYLOAD

NOW_MS = 1_000_000
ROUNDS, ITEMS = 5, 50
NODES = 10  # of a page
FRAMES = (2, 256)
BLOBS = (10, 10_000)
DRAWN = ("inputs", "nodes")
RUNS = tuple(
    f"steered-{number}" for number in range(ROUNDS)
)  # a hundredth of the inputs is for them
Make: TypeAlias = Callable[[int], Iterable[Any]]
Open: TypeAlias = Callable[[Iterable[Any]], Any]


def steered(depth: int) -> Iterable[Any]:
    return inbox(depth, runs=RUNS)


def work(store: Any, times: int, done: int) -> dict[str, float]:
    """Medians of the commands of an item, in microseconds.  `done`: names behind it have not been used."""
    client = Client(0, done=done)
    taken: dict[str, list[float]] = {"admit": [], "begin": [], "commit": []}

    def timed(name: str, command: Any) -> Any:
        begun = time.perf_counter_ns()
        outcome = store.execute_now(command)
        taken[name].append((time.perf_counter_ns() - begun) / 1_000)
        assert not isinstance(outcome, Refused), outcome
        return outcome

    for _ in range(times):
        timed("admit", client.admit())
        begun = timed("begin", evolve(client.begin(), limit=1))  # as many as come: the depth holds
        timed("commit", client.commit(begun))
    return {name: statistics.median(values[times // 5 :]) for name, values in taken.items()}


def steer(store: Any, times: int, done: int) -> dict[str, float]:
    """The median of a checkpoint that takes one input for its run, in microseconds; for each taken one comes."""
    client = Client(0, done=done)
    client.admit()
    begin = evolve(client.begin(), run_id=RUNS[done // ITEMS % ROUNDS], limit=1)
    begun = store.execute_now(begin)
    taken: list[float] = []
    for n in range(min(times, RUN_INPUTS_MAX - 1)):
        new = NewInput(f"steer-{client.name}-{n}", "steering", PAYLOAD, target=begun.run_id)
        admitted = store.execute_now(Admit(SESSION, (new,)))
        assert not isinstance(admitted, Refused), admitted
        command = Checkpoint(
            SESSION, begun.fence, begun.run_id, begun.turn, n,
            take=Boundary.AFTER_WORK, take_max=1, take_id=f"take-{n}",
        )  # fmt: skip
        started = time.perf_counter_ns()
        outcome = store.execute_now(command)
        taken.append((time.perf_counter_ns() - started) / 1_000)
        assert outcome.inputs, outcome
    commit = evolve(client.commit(begun), n=len(taken))
    assert not isinstance(store.execute_now(commit), Refused)
    return {"take": statistics.median(taken[len(taken) // 5 :])}


def read(store: Any, times: int, done: int) -> dict[str, float]:
    """The median of reading a page of ten nodes, in microseconds a node."""

    async def pages() -> float:
        taken: list[float] = []
        for _ in range(times):
            started = time.perf_counter_ns()
            page = await store.ask(LoadPage(SESSION, limit=NODES))
            taken.append((time.perf_counter_ns() - started) / 1_000 / NODES)
            assert len(page.lines) == NODES, page
        return statistics.median(taken[len(taken) // 5 :])

    return {"read": asyncio.run(pages())}


def switch(store: Any, times: int, done: int) -> dict[str, float]:
    """The median of a commit that switches to another frame and sets a state there, in microseconds."""
    client, taken = Client(0, done=done), list[float]()
    for number in range(times):
        assert not isinstance(store.execute_now(client.admit()), Refused)
        begun = store.execute_now(evolve(client.begin(), limit=1))
        commit = evolve(
            client.commit(begun),
            switch=Switch(FRAME_IDS[number % 2]),
            states=(NewState("n0", client.name),),
        )
        started = time.perf_counter_ns()
        outcome = store.execute_now(commit)
        taken.append((time.perf_counter_ns() - started) / 1_000)
        assert not isinstance(outcome, Refused), outcome
    return {"switch": statistics.median(taken[times // 5 :])}


STEPS: dict[str, Callable[[Any, int, int], dict[str, float]]] = {
    "take": steer, "read": read, "switch": switch,
}  # fmt: skip


def curve(
    bench: Bench,
    title: str,
    steps: tuple[str, ...],
    of: str,
    sizes: Iterable[int],
    make: Make,
    opened: Open,
) -> list[Figure]:
    """All sizes stand side by side and take turns: ratios are those of the same round."""
    stores: dict[int, Any] = {}
    rounds: dict[str, list[dict[int, float]]] = {step: [] for step in steps}
    try:
        for size in sizes:
            bench.say(f"{title}: {', '.join(steps)} at {size:,} {of}")
            stores[size] = opened(make(size))
        for number, step in itertools.product(range(ROUNDS), steps):
            done = 10_000_000 * (1 + steps.index(step)) + number * ITEMS
            measured = STEPS.get(step, work)
            rounds[step].append(
                {n: measured(store, ITEMS, done)[step] for n, store in stores.items()}
            )
    finally:
        for store in stores.values():
            asyncio.run(store.aclose())
    return [figure for step in steps for figure in ladder(title, step, of, rounds[step])]


def ladder(title: str, step: str, of: str, rounds: list[dict[int, float]]) -> list[Figure]:
    """The figures of one step, by size."""
    first, out = next(iter(rounds[0])), []
    drawn = {"curve": f"{step}, {title}"} if of in DRAWN else {}
    for size in rounds[0]:
        values = [taken[size] for taken in rounds]
        figure = Figure(
            f"{title}: {step} at {size:,} {of}", statistics.median(values), "us", min(values),
            max(values), facts={**drawn, "size": size, "of": of},
        )  # fmt: skip
        if size != first:
            ratio = statistics.median(taken[size] / taken[first] for taken in rounds)
            figure = evolve(
                figure, ratios={"the first": ratio}, budgets={"<= 1.5 x the first": ratio <= 1.5}
            )
        out.append(figure)
    return out


def curves(bench: Bench, deepest: int) -> dict[str, Callable[[], Section]]:
    """The ladders on each store by itself, so that each can fail by itself."""
    depths = [d for d in (10, 1_000, 100_000, 1_000_000) if d <= deepest]
    lengths = [n for n in (10, 1_000, 10_000, 100_000) if n <= deepest]
    found: dict[str, Callable[[], Section]] = {"sqlite": partial(on_sqlite, bench, depths, lengths)}
    for title in ("memory", "files", "postgres"):
        if title != "postgres" or bench.databases is not None:
            found[title] = partial(on_another, bench, title, depths, lengths)
    return found


def on_sqlite(bench: Bench, depths: list[int], lengths: list[int]) -> Section:
    numbers = itertools.count()

    def opened(records: Iterable[Any]) -> Any:
        return written(bench.folder / f"growth-{next(numbers)}.db", records, [NOW_MS])

    out = all_curves(bench, "sqlite", depths, lengths, opened)
    for file in bench.folder.glob("growth-*.db*"):
        file.unlink()
    return out, []


def on_another(bench: Bench, title: str, depths: list[int], lengths: list[int]) -> Section:
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        url = "memory:" if title == "memory" else f"files:{bench.folder}/growth-NEW"
        if title == "postgres":
            assert bench.databases is not None
            url = stack.enter_context(bench.databases.database())
            url += f"{'&' if '?' in url else '?'}tenure_schema=growth_NEW"

        def opened(records: Iterable[Any]) -> Any:
            return restored_now(url.replace("NEW", str(next(numbers))), records, [NOW_MS])

        out = all_curves(bench, title, depths, lengths, opened)
    return out, []


def all_curves(
    bench: Bench, title: str, depths: list[int], lengths: list[int], opened: Open
) -> list[Figure]:
    out = curve(bench, title, ("begin",), "inputs", depths, inbox, opened)
    out += curve(bench, title, ("take",), "inputs", depths, steered, opened)
    turn = ("read", "commit", "switch")
    out += curve(bench, title, turn, "nodes", lengths, transcript, opened)
    out += curve(bench, title, turn, "frames", FRAMES, framed, opened)
    return out + curve(
        bench, title, turn, "blobs", [n for n in BLOBS if n <= max(lengths)], with_blobs, opened
    )


def burst(bench: Bench, depth: int) -> Section:
    """A tenth of a deep inbox falls due at once: a begin while it is promoted, beside a normal one."""
    bench.say(f"burst in an inbox of {depth:,}")
    clock = [NOW_MS]
    store = written(bench.folder / "growth.db", inbox(depth, 2 * NOW_MS), clock)
    normal = work(store, 200, 10_000_000)["begin"]
    clock[0] = 3 * NOW_MS
    during = work(store, 20, 20_000_000)["begin"]
    begun = time.perf_counter_ns()
    store.execute_now(Sweep(SESSION))
    swept = (time.perf_counter_ns() - begun) / 1_000
    session = asyncio.run(store.ask(SessionRows(limit=1)))[0]
    asyncio.run(store.aclose())
    assert session.delayed_count < depth // 10 - 96, "nothing was promoted: nothing was measured"
    ratio = during / normal
    name = f"begin in a burst of {depth // 10:,} falling due"
    figure = exactly(name, during, "us", "<= 10 x a normal begin", ratio <= 10)
    return [
        evolve(figure, ratios={"a normal begin": ratio}),
        exactly("sweep of a burst (96 promoted)", swept, "us"),
    ], []


def reopening(bench: Bench, sessions: int, unfinished: int) -> Section:
    """Open a database of many sessions of which some have a run whose lease is over; until the first begin."""
    bench.say(f"reopening {sessions:,} sessions")
    begun, resting = started(), Session(SESSION)

    def records() -> Iterable[Any]:
        for number in range(sessions):
            for record in begun if number < unfinished else [resting]:
                yield replace(record, session_id=f"session-{number:06d}")

    path = bench.folder / "growth.db"
    asyncio.run(written(path, records(), [NOW_MS]).aclose())
    value = asyncio.run(_first_begin(path))
    name = f"reopen {sessions:,} sessions, {unfinished:,} unfinished runs: first begin"
    return [exactly(name, value, "ms", "<= 1,000 ms", value <= 1_000)], []


def waiting_sessions(bench: Bench, sessions: int) -> Section:
    """Sessions that wait for people: a worker's look at the store, and a decision in one of them until it has begun."""
    looks, decided = {}, 0.0
    for size in (10, sessions):
        bench.say(f"{size:,} sessions that wait")
        store = written(bench.folder / f"growth-{size}.db", _parked(size), [NOW_MS])
        looks[size], decided = asyncio.run(_decided_among(store, size))
    for file in bench.folder.glob("growth-*.db*"):
        file.unlink()
    ratio = looks[sessions] / looks[10]
    name = f"a look among {sessions:,} waiting sessions"
    figure = exactly(name, looks[sessions], "us", "<= 1.5 x among 10", ratio <= 1.5)
    return [
        evolve(figure, ratios={"among 10": ratio}),
        exactly(f"a decision among {sessions:,}: until its run has begun", decided, "us"),
    ], []


def _parked(sessions: int) -> Iterable[Any]:
    rows = waiting()
    for number in range(sessions):
        for record in rows:
            yield replace(record, session_id=f"session-{number:06d}")


async def _decided_among(store: Any, sessions: int) -> tuple[float, float]:
    """Return the medians of a look, and of a decision with the look and the begin that its hint leads to."""
    looks = []
    for _ in range(ITEMS):
        begun = time.perf_counter_ns()
        assert await store.due(64) == () and await store.horizon() is None
        looks.append((time.perf_counter_ns() - begun) / 1_000)
    taken = []
    for number in range(ROUNDS):
        answered = f"session-{number:06d}"
        begun = time.perf_counter_ns()
        await store.execute(Decide(answered, TICKET, "decision", Action.ANSWER, "yes"))
        (due,) = await store.due(64)
        assert due.session_id == answered
        outcome = await store.execute(Begin(answered, "lease-x", "run-x", OWNER))
        taken.append((time.perf_counter_ns() - begun) / 1_000)
        assert not isinstance(outcome, Refused), outcome
    await store.aclose()
    return statistics.median(looks), statistics.median(taken)


async def _first_begin(path: Path) -> float:
    begun = time.perf_counter()
    again = SqliteStore(path)
    (due, *_) = await again.due(1)
    worker = Client(int(due.session_id[-6:]), done=10_000_000)
    worker.admit()
    answer = await again.execute(worker.begin())
    taken = time.perf_counter() - begun
    assert not isinstance(answer, Refused), answer
    await again.aclose()
    return taken * 1_000
