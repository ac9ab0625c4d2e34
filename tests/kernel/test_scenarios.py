"""Play specs/scenarios on the model and on every store."""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paths import ROOT

from tenure.check.scenario.player import Step, parse, play, steps
from tenure.check.scenario.text import ScenarioSyntaxError, read_command, write_command
from tenure.commands import Admit, Interrupt, NewInput
from tenure.event import EventKind
from tenure.indexes import DELAYED, OPEN_RUNS, READY
from tenure.machines.input import Ended
from tenure.outcome import Decided, Refused
from tenure.policy import LANES
from tenure.queries import First
from tenure.records import EventBatch, QueueEntry, Session
from tenure.scheduling import due_at_ms
from tenure.world import EMPTY

if TYPE_CHECKING:
    from tenure_drivers.stores.base import Store

SPECS = ROOT / "specs"
SCENARIOS = sorted((SPECS / "scenarios").rglob("*.txt"))
NAMED = re.compile(r"\b[A-Z]+-\d+\b")
DEFINED = re.compile(r"^- \*\*([A-Z]+-\d+)\*\*", re.MULTILINE)
PAGES = (  # whose clauses are about commands; the others have tests of their own
    *("lease", "inbox", "run", "journal", "commit", "transcript", "cancel", "phase", "sweep"),
    *(
        "due",
        "event",
        "store",
        "ticket",
        "frame",
        "import",
        "profile",
        "reading",
        "state",
        "retention",
    ),
    "attachment",
    "outbound",
    "job",
    "trigger",
    "signal",
    "handle",
)

UNREACHED = {
    "JOB-94": "a question: tests/stores/test_jobs.py",
    "JOB-11": "commands end the last lease before they take a job",
    "JOB-14": "a lease that has taken a job is always that of its state: refuse_fence comes first",
    "JOB-18": "a fence is checked first",
    "JOB-51": "the verdict never takes owner-bound work that was started: tests/check/test_jobs.py",
    "LEASE-2": "commands know the lease id on the row before they ask the machine (LEASE-22)",
    "FAIL-17": "a property of all kinds: tests/kernel/test_failures.py",
    "FAIL-22": "it is part of FAIL-3: run/outage_and_clock.txt, tests/kernel/test_failures.py",
    "FAIL-18": "about a store of an earlier release: tests/stores/test_schema.py",
    "FAIL-15": "a clause of drivers: tests/runtime/test_raised.py",
    "RUN-73": "a clause of drivers: tests/runtime/test_versions.py",
    "RETENTION-13": "a clause of drivers: tests/runtime/test_retention.py",
    "INBOX-59": "a property of a status, which no answer shows: tests/runtime/test_ends.py",
    "LEASE-12": "commands end a lease only if one is on the row",
    "PLACE-2": "no command answers with it: a delayed input that is not due stays as it is",
    "PLACE-4": "a ready input of an older mark is never bound: readers skip it (INBOX-17)",
    "PLACE-6": "only runs consume and dead-letter, and only inputs that are bound to them",
    "PLACE-10": "commands check first, so the machine of an ended queue entry is never stepped",
    "WAIT-32": "a rule of replay: tests/kernel/test_waits.py, tests/runtime/test_waiting.py",
    "WAIT-36": "a rule of replay: tests/runtime/test_waiting.py",
    "WAIT-33": "a rule of replay: tests/kernel/test_waits.py, tests/runtime/test_waiting.py",
    **{f"IMPORT-{n}": "about forks: tests/runtime/test_importing.py" for n in range(20, 24)},
    "IMPORT-30": "about conversations of other systems: tests/kernel/test_foreign.py",
    "IMPORT-31": "about conversations of other systems: tests/kernel/test_foreign.py",
    "TICKET-2": "Decide and Sweep look first whether a ticket is open",
    "STORE-1": "tests of every store, and test_a_store_agrees below",
    "STORE-3": "tests of every store",
    "STORE-8": "a clause of drivers: their own tests",
    "STORE-10": "a clause of drivers: their own tests",
    "STORE-11": "a clause of drivers: their own tests",
    "STORE-12": "a clause of drivers: their own tests",
    "STORE-13": "a clause of drivers: their own tests",
    "STORE-14": "a clause of drivers: their own tests",
    "STORE-15": "a clause of drivers: their own tests",
    "STORE-16": "a clause of drivers: their own tests",
    **{
        f"STORE-{n}": "a clause of drivers: their own tests"
        for n in (*range(20, 26), *range(30, 45), *range(46, 50))
    },
    **{
        f"STATE-{n}": "a clause of drivers: tests/stores/test_payloads.py"
        for n in (20, 21, 22, 23, 25)
    },
    "OUTBOUND-4": "tests/kernel/test_outbound.py: the ids of rows, and of the commands in them",
    "OUTBOUND-5": "tests/kernel/test_outbound.py: every command that may be sent, as text",
    "STORE-55": "a clause of drivers: the conformance suite",
    "FRAME-6": "tests/kernel/test_frames.py: 256 frames are too many for a scenario",
    "ATTACH-4": "tests/kernel/test_attachments.py: a scenario would have 257 attachments",
    "ATTACH-14": "tests/kernel/test_bounds.py: a scenario would name 129 rows",
    "ATTACH-52": "a clause of drivers: tests/runtime/test_attachments.py",
    "ATTACH-53": "a clause of drivers: tests/runtime/test_attachments.py",
    "STORE-45": "tests/stores/test_field_types.py: the language of scenarios has no rows",
    **{
        f"TRIGGER-{n}": "a clause of drivers: tests/runtime/test_schedules.py" for n in (50, 51, 52)
    },
    "TRIGGER-53": "a clause of drivers: tests/runtime/test_triggers.py",
    "STORE-17": "test_a_session_counts_its_inputs_and_runs",
}  # clauses that no scenario can show, with the test or the reason; all rows: test_machines.py


def name_of(path: Path) -> str:
    return path.relative_to(SPECS / "scenarios").with_suffix("").as_posix()


@functools.cache
def steps_of(path: Path) -> tuple[Step, ...]:
    """The steps of a scenario, which several tests look at."""
    return tuple(steps(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_a_scenario_has_the_answers_that_are_written(
    path: Path, request: pytest.FixtureRequest
) -> None:
    written = path.read_text(encoding="utf-8")

    played = play(written)

    if request.config.getoption("--rewrite"):
        path.write_text(played, encoding="utf-8")
    else:
        assert played == written


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_due_at_ms_is_a_function_of_the_rows(path: Path) -> None:  # DUE-1 .. DUE-6
    for step in steps_of(path):
        for session in step.after.all(Session):
            s = session.session_id
            runs = step.after.answer(First(OPEN_RUNS, (s,), 32))
            ready = {x: step.after.answer(First(READY, (s, x), 1)) for x in LANES}
            delayed = step.after.answer(First(DELAYED, (s,), 1))

            due = due_at_ms(session, {run.run_id: run for run in runs}, ready, delayed)

            assert session.due_at_ms == due, step.block.head


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_a_session_counts_its_inputs_and_runs(path: Path) -> None:  # STORE-17
    for step in steps_of(path):
        for session in step.after.all(Session):
            s = session.session_id
            lanes = [len(step.after.answer(First(READY, (s, lane), 1000))) for lane in LANES]

            assert [session.ready_user_count, session.ready_system_count] == lanes, step.block.head
            assert session.delayed_count == len(step.after.answer(First(DELAYED, (s,), 1000)))
            assert session.unfinished_run_count == len(
                step.after.answer(First(OPEN_RUNS, (s,), 1000))
            )


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_replays_and_refusals_write_nothing(path: Path) -> None:  # STORE-2
    for step in steps_of(path):
        if isinstance(step.answer, Refused) or getattr(step.answer, "replayed", False):
            assert step.after == step.before
            assert getattr(step.answer, "writes", ()) == ()


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_an_input_that_ends_is_named_by_one_event(path: Path) -> None:  # EVENT-6
    ends = (EventKind.INPUT_ENDED, EventKind.RUN_FINISHED)
    for step in steps_of(path):
        # erasing changes batches that are there
        known = {(batch.session_id, batch.seq) for batch in step.before.all(EventBatch)}
        after = step.after.all(EventBatch)
        rows = [batch for batch in after if (batch.session_id, batch.seq) not in known]
        events = [event for row in rows for event in row.events]
        named = [name for event in events if event.kind in ends for name in event.input_ids]
        over, before = (
            {
                (q.session_id, q.input_id)
                for q in world.all(QueueEntry)
                if isinstance(q.state, Ended)
            }
            for world in (step.after, step.before)
        )

        assert sorted(named) == sorted([name for _, name in over - before]), step.block.head


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
def test_a_written_command_is_read_as_the_same_command(path: Path) -> None:
    for block in parse(path.read_text(encoding="utf-8")):
        if block.command is not None:
            assert read_command(write_command(block.command).splitlines()) == block.command


# -- every clause has a scenario


def defined() -> set[str]:
    return {
        clause
        for page in PAGES
        for clause in DEFINED.findall((SPECS / f"{page}.md").read_text(encoding="utf-8"))
    }


def fired() -> set[str]:
    """Return the clauses of all answers, and of the rows of machines that they used."""
    found: set[str] = set()
    for path in SCENARIOS:
        for step in steps_of(path):
            if isinstance(step.answer, Decided | Refused):
                found.add(step.answer.clause)
                found.update(getattr(step.answer, "via", ()))
    return found


def clauses_named() -> set[str]:
    """Return the clauses in comments.  A clause about how something is done does not appear in an answer."""
    return {
        clause
        for path in SCENARIOS
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
        for clause in NAMED.findall(line)
    }


def test_every_clause_has_a_scenario() -> None:
    assert defined() - fired() - clauses_named() == UNREACHED.keys()


def test_no_exempt_clause_fires() -> None:
    assert UNREACHED.keys() & fired() == set()


def test_scenarios_name_only_clauses_that_are_defined() -> None:
    assert clauses_named() - defined() == set()


# -- the same on every store


def memory(path: Path, clock: Callable[[], int]) -> Store:
    from tenure_drivers.stores.memory import MemoryStore

    return MemoryStore(clock=clock)


def sqlite(path: Path, clock: Callable[[], int]) -> Store:
    from tenure_drivers.stores.sqlite.store import SqliteStore

    return SqliteStore(path / "scenario.db", clock=clock)


def files(path: Path, clock: Callable[[], int]) -> Store:
    from tenure_drivers.stores.files.store import FilesStore

    return FilesStore(path / "scenario", clock=clock)


def postgres(path: Path, clock: Callable[[], int]) -> Store:
    from pg_server import empty, shared

    from tenure_drivers.stores.postgres.store import PostgresStore

    schema = f"scenarios_{os.getpid()}"
    store = PostgresStore(shared(), schema=schema, clock=clock)
    empty(shared(), schema)
    return store


STORES: dict[str, Callable[[Path, Callable[[], int]], Store]] = {
    "memory": memory,
    "sqlite": sqlite,
    "files": files,
    "postgres": postgres,
}


async def replay_on(open_store: Callable[[Callable[[], int]], Store], text: str) -> list[str]:
    """Play a scenario on a store with the clock of the scenario.  Return the differences to the model."""
    now_ms = 0
    store = open_store(lambda: now_ms)
    differences = []
    world = EMPTY
    try:
        for step in steps(text):
            now_ms, world = step.now_ms, step.after
            answer = await _answer(store, step)
            if answer != step.answer:
                differences.append(f"{step.block.head}\nmodel: {step.answer}\nstore: {answer}")
        if set(await store.dump()) != set(world):
            differences.append("the stored rows differ at the end")
    finally:
        await store.aclose()
    return differences


async def _answer(store: Store, step: Step) -> Any:
    if step.block.command is not None:
        return await store.decide(step.block.command)
    if step.block.question is not None:
        return await store.ask(step.block.question)
    return None


@pytest.mark.parametrize("path", SCENARIOS, ids=name_of)
@pytest.mark.parametrize("name", STORES)
def test_a_store_agrees(name: str, path: Path, tmp_path: Path) -> None:  # STORE-1
    differences = asyncio.run(
        replay_on(lambda clock: STORES[name](tmp_path, clock), path.read_text(encoding="utf-8"))
    )

    assert differences == []


# -- the language


def test_one_input_is_on_the_line_and_several_are_below_it() -> None:
    one = read_command(['admit s i1 prompt "hello there" key=k open=false'])
    two = read_command(["admit s", "  i1 prompt a", "  i2 wake b policy=system,batch:x,earliest"])

    assert one == Admit("s", (NewInput("i1", "prompt", "hello there", key="k"),), open=False)
    assert isinstance(two, Admit) and [i.input_id for i in two.inputs] == ["i1", "i2"]
    assert two.inputs[1].policy is not None and two.inputs[1].policy.group() == "earliest:x"


def test_a_part_may_be_left_out() -> None:
    assert read_command(["interrupt s c1"]) == Interrupt("s", "c1")


def test_a_text_may_be_repeated() -> None:
    command = read_command(['admit s i1 prompt "ab"*3'])

    assert isinstance(command, Admit) and command.inputs[0].payload == "ababab"


@pytest.mark.parametrize(
    "line",
    ["unknown s", "admit", "begin s", "withdraw s c1 i1 i2", "interrupt s c1 i2", "checkpoint s x"],
)
def test_an_invalid_line_is_refused(line: str) -> None:
    with pytest.raises((ScenarioSyntaxError, ValueError)):
        read_command([line])


def test_two_commands_in_a_block_are_refused() -> None:
    with pytest.raises(ScenarioSyntaxError):
        parse("open s\nopen t")


def test_a_block_without_a_time_keeps_the_time() -> None:
    clocks = [s.now_ms for s in steps("at 5\nopen s\n\nopen t\n\nat +7\nopen u\n\nat 3")]

    assert clocks == [5, 5, 12, 3]
