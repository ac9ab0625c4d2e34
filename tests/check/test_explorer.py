"""The explorer, and what it shows of a session: every world of every day is searched to its end.

Counts are pinned: a rule that allows more or less than before moves them.  Small ones are derived here; of the others
the derivation is the search itself, checked by what symmetry and the parts of a state must add up to.
"""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterable, Iterator
from math import factorial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from paths import KERNEL

from tenure import commands as c
from tenure.check import Report, check, names, search
from tenure.check.explorer import Progress, explore
from tenure.check.session.configs import BATCH_LOST, DEFAULT, LEASE, PLAIN
from tenure.check.session.model import SessionModel
from tenure.check.session.states import ModelConfig, State
from tenure.check.trace import Line

# states and steps
PINNED: dict[str, tuple[int, int]] = {
    "lease": (3_017, 16_282),
    "failure": (13_100, 82_343),
    "order": (3_844, 8_975),
    "delay": (2_479, 8_561),
    "batch": (7_373, 24_524),
    "batch-lost": (7_369, 41_631),
    "interrupt": (19_767, 112_923),
    "interrupts": (2_961, 6_259),
    "cancel": (8_899, 52_578),
    "stop": (5_696, 20_815),
    "stop-abandon": (11_138, 36_059),
    "reset": (5_599, 16_224),
    "retire": (2_160, 7_913),
    "destroy": (8_227, 39_388),
    "fence": (8_802, 46_945),
    "amend": (2_619, 14_657),
    "amend-stop": (2_060, 7_342),
    "next": (2_824, 14_585),
    "next-order": (1_404, 3_306),
    "keys": (1_002, 2_967),
    "slots": (975, 2_954),
}

# clauses that no world reaches; of machines: rows that commands check before they step
UNREACHED = {
    "LEASE-2",  # Begin and Acquire know their lease before they ask for one: LEASE-22
    "LEASE-12",  # a lease is only ended where there is one
    "PLACE-2",  # reached, but a refusal to promote is no answer: what is not due is left
    "PLACE-4",  # heads of an older mark are never candidates
    "PLACE-6",  # nothing consumes or dead-letters what is not bound
    "STORE-39",  # Restore writes rows of an export; no world has one: tests/cli/test_cli_store.py
    "PLACE-10",  # what has ended is never touched again
    "INBOX-18",  # the workers of a model run nothing beside: run/needs_room.txt
    "PHASE-14",  # no world begins in a phase that begins nothing; told in phase/swept_at_rest.txt
}


@pytest.fixture(autouse=True)
def without_collection() -> Iterator[None]:
    """A search makes no cycles; looking for them takes a third of the time."""
    gc.disable()
    yield
    gc.enable()


# -- the worlds


@pytest.mark.parametrize("setting", DEFAULT, ids=lambda s: s.name)
def test_everything_holds_in_every_state_of_the_world(setting: ModelConfig) -> None:
    world = SessionModel(setting)

    found = explore(world)

    assert found.broken == {}, "\n".join(trace.text() for trace in found.traces())
    assert found.stuck is None, found.stuck.text()
    assert found.unseen == ()
    assert found.complete
    assert (found.states, found.transitions) == PINNED[setting.name]


def found_states(world: SessionModel) -> set[State]:
    """All states again, the simple way: the search is checked by another one."""
    start = [world.canonical(state) for state in world.initial()]
    seen, work = set(start), start
    while work:
        for _, after in world.actions(work.pop()):
            known = world.canonical(after)
            if known not in seen:
                seen.add(known)
                work.append(known)
    return seen


def test_every_clause_that_a_command_can_answer_fires_in_some_world() -> None:
    """Each world says which clauses it must see (`expects`), and is held to it above."""
    expected = {clause for setting in DEFAULT for clause in setting.expects}

    named = clauses_of(
        *(KERNEL / "commands").glob("*.py"),
        *(KERNEL / "machines").glob("*.py"),
        KERNEL / "failure.py",
    )

    assert named - expected == UNREACHED
    assert expected - named == set()


def clauses_of(*paths: Path) -> set[str]:
    clause = re.compile(r"[A-Z]+-\d+")
    return {
        node.value
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and clause.fullmatch(node.value)
    }


# -- counts that can be derived


def prompts(count: int, **more: Any) -> ModelConfig:
    each = tuple((c.NewInput(f"p{i}", "prompt", "p"),) for i in range(count))
    calm = dict(workers=1, lose=False, crash=False, lapse=False)
    return ModelConfig("prompts", "", each, PLAIN, **(calm | more))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_prompts_without_faults_are_as_many_states_as_can_be_counted(count: int) -> None:
    """Of n prompts a are not there yet and e have ended; the m = n - a - e others stand in the order of admission.

    n! / (a! e! m!) ways to choose them, m! orders; if there are any, the first of them is at work or is not.
    """
    derived = 0
    for absent in range(count + 1):
        for ended in range(count + 1 - absent):
            ways = factorial(count) // (factorial(absent) * factorial(ended))
            derived += ways if absent + ended == count else 2 * ways

    found = search(prompts(count)).explored

    assert found.good
    assert found.states == derived


def test_a_lost_answer_adds_the_states_in_which_it_is_waited_for() -> None:
    """Nothing, ready, at work, ended; begun and ended with the answer lost: 4 + 2.  A second worker finds all held."""
    found = search(prompts(1, lose=True)).explored
    beside = search(prompts(1, lose=True, workers=2)).explored

    assert (found.states, found.good) == (6, True)
    # the second worker has nothing to do in any of them, and never knows anything
    assert (beside.states, beside.good) == (6, True)


@pytest.mark.parametrize("setting", [LEASE, BATCH_LOST], ids=lambda s: s.name)
def test_symmetry_leaves_out_exactly_the_states_that_differ_in_names(setting: ModelConfig) -> None:
    setting = evolve(setting, probes=False)
    world = SessionModel(setting)
    orbits = [{state, swapped(world, state)} for state in found_states(world)]

    everything = explore(Named(setting)).states

    assert everything == sum(map(len, orbits))


def swapped(world: SessionModel, state: State) -> State:
    number, workers, memory, broken = state
    lease = world.transitions.snapshots[number].session.lease
    owner = getattr(lease, "owner", None)
    if owner is not None:
        number = world.handed_to(number, 1 - int(owner.owner_id[1:]))
    return (number, workers[::-1], memory, broken)


class Named(SessionModel):
    """The same world, where workers are told apart by their names."""

    def canonical(self, state: State) -> State:
        return state


# -- the explorer itself


@frozen
class Counting:
    """Two threads that add one to a number, each by reading, then writing."""

    atomic: bool = False
    name: str = "counting"
    always: tuple[str, ...] = ("when both are done the number is two",)
    sometimes: tuple[str, ...] = ("one is done before the other begins",)

    def initial(self) -> Iterable[Any]:
        yield (0, ((0, None), (0, None)))

    def actions(self, world: Any) -> Iterator[tuple[Any, Any]]:
        number, threads = world
        for i, (step, held) in enumerate(threads):
            other = threads[1 - i]
            if step == 0 and not (self.atomic and other[0] == 1):
                yield (i, "reads", number), self.put(number, threads, i, (1, number))
            if step == 1:
                yield (i, "writes", held + 1), self.put(held + 1, threads, i, (2, None))

    def put(self, number: int, threads: Any, i: int, thread: Any) -> Any:
        return (number, (thread, threads[1]) if i == 0 else (threads[0], thread))

    def describe(self, label: Any) -> Line:
        return Line(f"t{label[0]}", label[1], str(label[2]), "memory")

    def broken(self, world: Any) -> tuple[str, ...]:
        done = all(step == 2 for step, _ in world[1])
        return self.always if done and world[0] != 2 else ()

    def seen(self, world: Any) -> tuple[str, ...]:
        steps = sorted(step for step, _ in world[1])
        return ("one is done before the other begins",) if steps == [0, 2] else ()

    def finished(self, world: Any) -> bool:
        return all(step == 2 for step, _ in world[1])

    def canonical(self, world: Any) -> Any:
        return world


def test_a_broken_sentence_is_shown_by_a_shortest_path() -> None:
    found = explore(Counting())

    (trace,) = found.broken.values()
    assert trace.text() == (
        "counting: broken after 4 steps:\n"
        "  1. t0: reads -> 0\n"
        "  2. t1: reads -> 0\n"
        "  3. t0: writes -> 1\n"
        "  4. t1: writes -> 1\n"
        "     NOT: when both are done the number is two"
    )
    assert "    t0->>memory: reads\n    memory-->>t0: 0\n" in trace.mermaid()
    assert trace.mermaid().startswith("sequenceDiagram\n    participant t0 as t0\n")
    assert not found.good


def test_what_holds_is_shown_with_counts_that_can_be_derived() -> None:
    """Steps (0,0) (1,0) (2,0) (2,1) (2,2) and the same mirrored: 5 + 5, the first and the last in common."""
    found = explore(Counting(atomic=True))

    assert found.good
    assert found.states == 8
    assert found.depth == 4


def test_a_search_gives_up_at_its_limit_and_says_so() -> None:
    found = explore(Counting(), limit=3)

    assert not found.complete and not found.good
    assert found.message == (
        "counting: gave up at 5 states; raise the limit or make the world smaller"
    )


def test_a_sometimes_that_is_never_true_is_reported() -> None:
    found = explore(evolve(Counting(atomic=True), sometimes=("the number is three",)))

    assert found.unseen == ("the number is three",)
    assert not found.good


class Dead(Counting):
    """A thread that has read may be taken away: then nothing goes on."""

    def actions(self, world: Any) -> Iterator[tuple[Any, Any]]:
        number, threads = world
        if threads[0] != (3, None):
            yield from super().actions(world)
        if threads[0][0] == 1:
            yield (0, "is gone", ""), (number, ((3, None), threads[1]))


def test_a_state_from_which_nothing_can_be_finished_is_reported() -> None:
    found = explore(Dead(atomic=True))

    assert found.stuck is not None
    assert found.stuck.lines[-1].what == "is gone"
    assert found.stuck.sentence.startswith("from every state with work left")


def test_progress_is_told_now_and_then() -> None:
    told: list[Progress] = []

    search(LEASE, told.append)

    assert [p.states for p in told] == sorted(p.states for p in told)
    assert told[-1].frontier == 0


# -- the report


def test_a_report_says_what_was_shown() -> None:
    report = check(["slots", "keys"])

    assert report.good
    assert [explored.name for explored in report.explored] == ["slots", "keys"]
    assert "  - a once step runs at most once\n" in report.text()
    assert report.mermaid() == ""
    assert report.clauses["INBOX-8"] > 0


def test_a_report_shows_the_shortest_counterexample() -> None:
    broken = explore(Counting())
    report = Report((evolve(check(["slots"]).worlds[0], explored=broken),))

    assert not report.good
    assert "broken after 4 steps" in report.text()
    assert report.mermaid().startswith("sequenceDiagram")


def test_a_world_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="no such world: leese; there are lease, failure, "):
        check(["leese"])
    assert set(names()) < set(names(deep=True))
