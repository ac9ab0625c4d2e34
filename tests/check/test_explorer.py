"""The explorer and the session models: each model is explored completely.

The numbers of states are pinned: a rule that allows more or less than before changes them.  The numbers of small systems
are derived here.  For the others a second search and the symmetry of workers check the first search.
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
from tenure.check import Report, check, descriptions, names, search
from tenure.check.explorer import CAN_FINISH, Progress, explore
from tenure.check.pruning import SYSTEMS as PRUNING
from tenure.check.session.configs import BATCH_LOST, DEFAULT, LEASE
from tenure.check.session.model import SessionModel
from tenure.check.session.pieces import PLAIN
from tenure.check.session.states import ModelConfig, State
from tenure.check.trace import Line

# model: states and transitions
PINNED: dict[str, tuple[int, int]] = {
    "lease": (3_017, 16_282),
    "failure": (13_100, 82_343),
    "retry": (13_100, 82_343),
    "order": (3_844, 8_975),
    "delay": (2_876, 10_070),
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
    "steering": (17_371, 102_266),
    "steering-stop": (11_512, 50_098),
    "steering-calls": (1_956, 3_568),
    "steering-wake": (5_810, 19_407),
    "slots": (975, 2_954),
    "frames": (7_226, 28_881),
    "blobs": (7_370, 14_755),
    "barrier": (780, 1_466),
    "debounce": (1_896, 3_688),
    "dead": (6_660, 20_707),
    "publishing": (3_513, 21_313),
    "edits": (16_242, 48_575),
    "rollback": (3_749, 14_090),
    "waiting": (633, 2_258),
    "waiting-any": (5_130, 11_139),
    "waiting-prompt": (1_955, 4_128),
    "waiting-input": (3_781, 8_451),
    "waiting-background": (5_393, 15_804),
    "children": (1_464, 4_556),
    "join": (1_674, 6_284),
    "approval": (1_245, 4_053),
    "import": (3_711, 11_459),
}

# Clauses that no model reaches.  Most are rows of machines for cases that the commands exclude before.
UNREACHED = {
    "LEASE-2",  # Begin and Acquire recognise their own lease before they ask for one (LEASE-22)
    "LEASE-12",  # commands end a lease only if there is one
    "PLACE-2",  # no command answers with it: a delayed input that is not due stays as it is
    "PLACE-4",  # a ready input of an older mark is never a candidate
    "PLACE-6",  # only runs consume and dead-letter, and only inputs that are bound to them
    "FRAME-6",  # no model has 256 frames; see tests/kernel/test_frames.py
    *(
        f"ATTACH-{n}" for n in (*range(1, 9), 10, 11, 14, *range(20, 23), 41, 42, 44, 45)
    ),  # see `attach`
    "STORE-39",  # no model has an export to restore; see tests/cli/test_cli_store.py
    "STORE-45",  # the same; see tests/stores/test_field_types.py
    "PLACE-10",  # no command changes an input that has ended
    "INBOX-18",  # the workers of a model have no other sessions; see run/needs_room.txt
    "TICKET-2",  # Decide and Sweep look first whether a ticket is settled
    "TICKET-11",  # a model decides under one id with one content; see the scenarios of tickets
    "RETENTION-1",  # every model has a session
    "RETENTION-16",  # sessions have no occurrences; see retention/occurrences.txt
    "RETENTION-2",  # who prunes makes legal steps; see retention/refused.txt
    *(f"TRANSCRIPT-{n}" for n in (40, 42, 44, 45)),  # sessions drop nodes; see the system `hiding`
    "PHASE-14",  # no model starts in a phase that begins nothing; see phase/swept_at_rest.txt
}


@pytest.fixture(autouse=True)
def without_collection() -> Iterator[None]:
    """A search makes no reference cycles, and the search for them takes a third of the time."""
    gc.disable()
    yield
    gc.enable()


# -- the models


@pytest.mark.parametrize("config", DEFAULT, ids=lambda c: c.name)
def test_every_property_holds_in_every_state_of_the_model(config: ModelConfig) -> None:
    found = explore(SessionModel(config))

    assert found.broken == {}, "\n".join(trace.text() for trace in found.traces())
    assert found.stuck is None, found.stuck.text()
    assert found.unseen == ()
    assert found.complete
    assert (found.states, found.transitions) == PINNED[config.name]


def found_states(model: SessionModel) -> set[State]:
    """Return all states, found by a second and simpler search that checks the first one."""
    start = [model.canonical(state) for state in model.initial()]
    seen, work = set(start), start
    while work:
        for _, after in model.actions(work.pop()):
            known = model.canonical(after)
            if known not in seen:
                seen.add(known)
                work.append(known)
    return seen


OTHER_SYSTEMS = {"JOB", "OUTBOUND", "TRIGGER"}  # have small systems of their own


def test_every_clause_that_a_command_can_answer_fires_in_some_model() -> None:
    """The test above checks that the clauses fire that a configuration expects."""
    expected = {clause for config in (*DEFAULT, *PRUNING) for clause in config.expects}

    named = clauses_of(
        *(KERNEL / "commands").glob("*.py"),
        *(KERNEL / "machines").glob("*.py"),
        KERNEL / "failure.py",
    )

    named = {clause for clause in named if clause.partition("-")[0] not in OTHER_SYSTEMS}

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


# -- numbers of states that can be derived


def prompts(count: int, **more: Any) -> ModelConfig:
    each = tuple((c.NewInput(f"p{i}", "prompt", "p"),) for i in range(count))
    no_faults = dict(workers=1, lose=False, crash=False, lapse=False)
    return ModelConfig("prompts", "", each, PLAIN, **(no_faults | more))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_prompts_without_faults_have_the_derived_number_of_states(count: int) -> None:
    """Of n prompts, a are not yet admitted and e have ended; the other m = n - a - e wait in order of admission.

    There are n! / (a! e! m!) ways to choose them and m! orders.  If m > 0, the first one is running or not.
    """
    derived = 0
    for absent in range(count + 1):
        for ended in range(count + 1 - absent):
            ways = factorial(count) // (factorial(absent) * factorial(ended))
            derived += ways if absent + ended == count else 2 * ways

    found = search(prompts(count)).explored

    assert found.good
    assert found.states == derived


def test_a_lost_answer_adds_the_states_in_which_a_worker_waits_for_it() -> None:
    """Not admitted, ready, running, ended: 4.  Begun or committed with the answer lost: 2."""
    one_worker = search(prompts(1, lose=True)).explored
    two_workers = search(prompts(1, lose=True, workers=2)).explored

    assert (one_worker.states, one_worker.good) == (6, True)
    # the second worker has nothing to do in any of these states
    assert (two_workers.states, two_workers.good) == (6, True)


@pytest.mark.parametrize("config", [LEASE, BATCH_LOST], ids=lambda c: c.name)
def test_symmetry_merges_exactly_the_states_that_differ_only_in_names(config: ModelConfig) -> None:
    config = evolve(config, probes=False)
    model = SessionModel(config)
    orbits = [{state, swapped(model, state)} for state in found_states(model)]

    without_symmetry = explore(Named(config)).states

    assert without_symmetry == sum(map(len, orbits))


def swapped(model: SessionModel, state: State) -> State:
    """Return the state with the two workers exchanged."""
    number, workers, history, broken = state
    lease = model.transitions.snapshots[number].session.lease
    owner = getattr(lease, "owner", None)
    if owner is not None:
        number = model.with_owner(number, 1 - int(owner.owner_id[1:]))
    return (number, workers[::-1], history, broken)


class Named(SessionModel):
    """The session model without symmetry: workers with other names are other workers."""

    def canonical(self, state: State) -> State:
        return state


# -- the explorer itself


@frozen
class Counting:
    """Two threads add one to a number.  Each reads it and then writes it."""

    atomic: bool = False
    name: str = "counting"
    always: tuple[str, ...] = ("when both are done the number is two",)
    sometimes: tuple[str, ...] = ("one is done before the other begins",)

    def initial(self) -> Iterable[Any]:
        yield (0, ((0, None), (0, None)))

    def actions(self, state: Any) -> Iterator[tuple[Any, Any]]:
        number, threads = state
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

    def broken(self, state: Any) -> tuple[str, ...]:
        done = all(step == 2 for step, _ in state[1])
        return self.always if done and state[0] != 2 else ()

    def seen(self, state: Any) -> tuple[str, ...]:
        steps = sorted(step for step, _ in state[1])
        return ("one is done before the other begins",) if steps == [0, 2] else ()

    def finished(self, state: Any) -> bool:
        return all(step == 2 for step, _ in state[1])

    def canonical(self, state: Any) -> Any:
        return state


def test_a_violation_has_a_shortest_trace() -> None:
    found = explore(Counting())

    (trace,) = found.broken.values()
    assert trace.text() == (
        "counting: property violated after 4 steps:\n"
        "  1. t0: reads -> 0\n"
        "  2. t1: reads -> 0\n"
        "  3. t0: writes -> 1\n"
        "  4. t1: writes -> 1\n"
        "     violated: when both are done the number is two"
    )
    assert "    t0->>memory: reads\n    memory-->>t0: 0\n" in trace.mermaid()
    assert trace.mermaid().startswith("sequenceDiagram\n    participant t0 as t0\n")
    assert not found.good


def test_a_model_without_violation_has_the_derived_number_of_states() -> None:
    """(0,0) (1,0) (2,0) (2,1) (2,2), and the same with the threads exchanged: 5 + 5 - 2."""
    found = explore(Counting(atomic=True))

    assert found.good
    assert found.states == 8
    assert found.depth == 4


def test_a_search_stops_at_its_limit_and_reports_it() -> None:
    found = explore(Counting(), limit=3)

    assert not found.complete and not found.good
    assert found.message == (
        "counting: stopped at 5 states; raise the limit or make the system smaller"
    )


def test_a_sometimes_property_that_never_holds_is_reported() -> None:
    found = explore(evolve(Counting(atomic=True), sometimes=("the number is three",)))

    assert found.unseen == ("the number is three",)
    assert not found.good


class Crashing(Counting):
    """The first thread may crash after it has read.  Then nothing more can happen."""

    def actions(self, state: Any) -> Iterator[tuple[Any, Any]]:
        number, threads = state
        if threads[0] != (3, None):
            yield from super().actions(state)
        if threads[0][0] == 1:
            yield (0, "crashes", ""), (number, ((3, None), threads[1]))


def test_a_state_from_which_work_cannot_be_finished_is_reported() -> None:
    found = explore(Crashing(atomic=True))

    assert found.stuck is not None
    assert found.stuck.lines[-1].what == "crashes"
    assert found.stuck.violated == CAN_FINISH


def test_progress_is_reported_until_no_state_is_left() -> None:
    reported: list[Progress] = []

    search(LEASE, reported.append)

    assert [p.states for p in reported] == sorted(p.states for p in reported)
    assert reported[-1].frontier == 0


# -- the report


def test_a_report_lists_the_properties_that_hold() -> None:
    report = check(["slots", "keys"])

    assert report.good
    assert [explored.name for explored in report.explored] == ["slots", "keys"]
    assert "  - a once step runs at most once\n" in report.text()
    assert report.mermaid() == ""
    assert report.clauses["INBOX-8"] > 0


def test_a_report_shows_the_shortest_counterexample() -> None:
    broken = explore(Counting())
    report = Report((evolve(check(["slots"]).results[0], explored=broken),))

    assert not report.good
    assert "property violated after 4 steps" in report.text()
    assert report.mermaid().startswith("sequenceDiagram")


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ValueError, match="unknown system leese; expected lease, failure, "):
        check(["leese"])
    assert set(names()) < set(names(deep=True))


@pytest.mark.parametrize("deep", [False, True])
def test_every_model_has_a_description(deep: bool) -> None:
    assert tuple(descriptions(deep)) == names(deep)
    assert all(descriptions(deep).values())
