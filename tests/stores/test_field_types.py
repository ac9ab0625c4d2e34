"""STORE-42, STORE-43: every store refuses the same commands, and what it accepts can be read after it was opened again."""

from __future__ import annotations

import asyncio
import enum
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from pg_server import drop, shared

import tenure.commands
from tenure.commands import (
    Acquire,
    Admit,
    Amend,
    Begin,
    CancelInput,
    CancelJob,
    CancelOrphans,
    ChangeSubscription,
    Checkpoint,
    ClaimScraps,
    Commit,
    Complete,
    Decide,
    DeleteTrigger,
    Destroy,
    DestroyJob,
    Drain,
    DropScraps,
    Emit,
    EventType,
    Fail,
    FailJob,
    FenceOff,
    Fire,
    Forget,
    Grant,
    IfIdle,
    ImportPage,
    Intend,
    Interrupt,
    JobCheckpoint,
    LetGo,
    LineUp,
    NewAttachment,
    NewEntry,
    NewInput,
    NewOutbound,
    NewProfile,
    NewState,
    NewTicket,
    Occur,
    Open,
    Park,
    Prune,
    Publish,
    Readmit,
    Reclaim,
    Register,
    Release,
    ReleaseSession,
    Renew,
    Reopen,
    Reorder,
    Replace,
    RequestAbandon,
    RequestCancel,
    Reseal,
    Resend,
    Reset,
    Retire,
    Revoke,
    Rewind,
    RowName,
    SendFailed,
    SendRefused,
    Sent,
    Settle,
    SetTrigger,
    Signal,
    Start,
    Stop,
    Subscribe,
    SubscriptionChange,
    Sweep,
    Switch,
    Take,
    Then,
    Transfer,
    Wait,
    Withdraw,
    WithdrawFrom,
)
from tenure.commands.restore import Restore, restoring
from tenure.failure import ErrorKind, Failure, RetryLimits
from tenure.imports import ImportNode, digest_of_page, promise
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.machines.job import Disposition
from tenure.machines.lease import Evidence, Fence, LocalProcess, Owner
from tenure.machines.run import Termination, WaitReason
from tenure.machines.ticket import Action, Rest, TicketKind
from tenure.outcome import Decided, Refusal, Refused
from tenure.policy import POLICIES, Boundary, IfOver, Lane, WhileWaiting
from tenure.queries import Command, Record
from tenure.records import Child, EntryKind, Node, Session, Work
from tenure.retention import Keep, PruneKind, Retention
from tenure.transcript import Form, NewNode, Role, UsageDelta
from tenure.trigger_records import Missed, Schedule, StartsInput, StartsJob
from tenure.verdict import Observed
from tenure.world import EMPTY, World
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.field_types import measure_command
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.sqlite.store import SqliteStore
from tenure_drivers.testing.fixtures import START_MS, ManualClock, Opener, decided

OWNER = Owner("w", "w.1", LocalProcess("host", "boot", "1", 7, "0"))
FENCE = Fence("s1", 1, "l0")


class Text(str):
    """A subclass of `str`, as templates and array libraries have."""


class Number(enum.IntEnum):
    ONE = 1


class Silent:
    """A value whose text cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no text")


WRONG = (
    *(True, 1, 0, -1, 1.5, float("nan"), 2**63 - 1, 2**63, -(2**63) - 1, 10**30, None),
    *("", "text", "a\0b", "\ud800", "\U0001f600", Text("text"), b"text", Role.USER, Number.ONE),
    *((), ("x",), (1,), ["x"], {"a": 1}, Silent(), Silent, EntryKind.NODE, OWNER),
    *(NewInput("i0", "prompt", "hello"), NewNode(Role.ASSISTANT, "x"), UsageDelta("s", "m")),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in a command: names of fields, and places in tuples."""
    parts: list[tuple[Any, Any]] = []
    if attrs.has(value.__class__):
        parts = [(a.name, getattr(value, a.name)) for a in attrs.fields(value.__class__)]
    elif isinstance(value, tuple):
        parts = list(enumerate(value))
    for name, part in parts:
        yield (*path, name)
        yield from paths(part, (*path, name))


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a command with another value at the end of a way."""
    if not path:
        return new
    first, *rest = path
    if isinstance(value, tuple):
        inner = with_value(value[first], tuple(rest), new)
        return (*value[:first], inner, *value[first + 1 :])
    return attrs.evolve(value, **{first: with_value(getattr(value, first), tuple(rest), new)})


def admitted(s: str) -> Admit:
    return Admit(s, (NewInput("i1", "prompt", "hello"), NewInput("i2", "wake", "x", key="k")))


def begun(s: str) -> tuple[Command[Any, Any], ...]:
    return admitted(s), Begin(s, "L1", "r1", OWNER, 60_000, 1)


def examples(s: str) -> list[tuple[Command[Any, Any], ...]]:
    """Return, for each command, what has to be executed before it, and the command with all its fields."""
    fence, usage = Fence(s, 1, "L1"), (UsageDelta("api", "m", 1, 2, 3, 1, 1),)
    node = NewNode(Role.ASSISTANT, "body", (), False, Form.TEXT)
    full = NewInput(
        "i3",
        "tick",
        "x",
        "api",
        "k3",
        5,
        9_000_000,
        "slot",
        "c",
        POLICIES["wake"],
        "r9",
        IfIdle.QUEUE,
        IfOver.QUEUE,
    )
    handed = NewInput("i4", "prompt", "x", correlation_id="c")
    entry = NewEntry(EntryKind.REPORT, "e#1", "body")
    acquired = Acquire(s, "L1", OWNER, 60_000)
    ticket = NewTicket("t1", "ask#1", TicketKind.APPROVAL, "may I?", (Action.EDIT,), 60_000)
    work = NewTicket("t2", "join#1", TicketKind.WORK, awaits=Work("other", "j1"))
    parked = Park(s, fence, "r1", 1, 0, "ask#1", WaitReason.APPROVAL, tickets=(ticket, work))
    profile = NewProfile("name", (("team", "x"),), Child("p", "why"), "{}")
    switch = Switch("f1", "planner", "why", True, "{}", False)
    states = (NewState("plan", "first this"),)
    files = tuple(NewAttachment(f"a{n}", f"{n}" * 64, 3, "image/png") for n in (1, 2))
    intend = Intend(s, files)
    imported = (ImportNode("n1", Role.USER, "hello", 1_000, (), Form.TEXT),)
    promised = promise([digest_of_page(imported)], "a file")
    keep = Keep(COMMANDS_FOR_MS_MIN, 1)
    kept = Retention(keep, keep, COMMANDS_FOR_MS_MIN, keep, 1_000, COMMANDS_FOR_MS_MIN)
    return [
        (Open(s, profile, promised),),
        (Open(s, None, promised), ImportPage(s, 1, imported)),
        (Admit(s, (full, handed), True, 9, True, profile),),
        (*begun(s), Intend(s, files, fence, "r1")),
        (admitted(s), intend, Forget(s, ("a1",))),
        (admitted(s), intend, Forget(s, ("a1",)), ClaimScraps(s, "k1", (("a1", "1" * 64),))),
        (admitted(s), intend, Forget(s, ("a1",)), ClaimScraps(s, "k1", (("a1", "1" * 64),)),
         DropScraps(s, "k1", ("a1",))),
        (admitted(s), Prune(s, kept, PruneKind.INPUTS, 0, "", ("i1",), ("r1",), 5_000)),
        (admitted(s), Reseal(s, (RowName("JournalEntry", ("r1",), (1, 0, 0)),))),
        (*begun(s), intend, Checkpoint(
            s, fence, "r1", 1, 0, (entry,), tickets=(ticket,), attach=("a1",),
        )),
        (*begun(s), intend, Commit(
            s, fence, "r1", 1, 0, 0, switch=switch, states=states, attach=("a1",), resolution="v1",
        )),
        (admitted(s), acquired, intend, Amend(s, "c0", fence, 0, (node,)), Amend(
            s, "c1", fence, 1, (node,), Rewind("c0/0"), profile, switch, states, usage, ("c0/0",),
            (), ("a1",), ("a2",),
        )),
        (admitted(s), Begin(s, "L1", "r1", OWNER, 60_000, 8, 1_000, 0, ("i1",))),
        (*begun(s), Checkpoint(
            s, fence, "r1", 1, 0, (entry,), (node,), usage, "environment",
            Boundary.AFTER_WORK, 4, "take#1",
        )),
        (*begun(s), Commit(
            s, fence, "r1", 1, 0, 0, Termination.FINISHED, "why", (node,), usage, "state",
            Then.NEXT, "r2", 8, 1_000, handed, "frame", False,
        )),
        (*begun(s), Park(
            s, fence, "r1", 1, 0, "ask#1", WaitReason.APPROVAL, (), 1, WhileWaiting.FOLD,
            (entry,), (node,), (ticket,), usage, "environment", Rest.SUPERSEDE,
        )),
        (*begun(s), parked, Decide(s, "t1", "d1", Action.EDIT, "{}", "ann")),
        (*begun(s), parked, Settle(s, "d1", "t2", Action.FAILED, "{}", "child")),
        (*begun(s), Fail(s, fence, "r1", 1, Failure(ErrorKind.TRANSIENT, "why", 1, 1), usage)),
        (*begun(s), Release(s, fence, "r1")),
        (*begun(s), Renew(s, fence)),
        (*begun(s), Reclaim(s, "c1", fence, Evidence.DEAD)),
        (*begun(s), RequestCancel(s, "c1", "r1")),
        (*begun(s), Interrupt(s, "c1", handed, False, True)),
        (*begun(s), FenceOff(s, "c1", 2)),
        (admitted(s), acquired),
        (admitted(s), acquired, Amend(s, "c1", fence, 0, (node,))),
        (admitted(s), acquired, ReleaseSession(s, fence)),
        (admitted(s), Withdraw(s, "c1", "i1")),
        (admitted(s), CancelInput(s, "c1", "i1")),
        (admitted(s), WithdrawFrom(s, "c1", "i1")),
        (admitted(s), Replace(s, "c1", "i1", full)),
        (admitted(s), Reorder(s, "c1", Lane.USER, ("i1",))),
        (
            *begun(s),
            Fail(s, fence, "r1", 1, Failure(ErrorKind.INVALID_REQUEST)),
            Readmit(s, "c1", "i1", "i9"),
        ),
        (admitted(s), Publish(s, 1)),
        (admitted(s), Sweep(s)),
        *[(admitted(s), kind(s, "c1")) for kind in (Retire, Stop, Reset, Reopen, Destroy)],
        (admitted(s), Destroy(s, "c1", True)),
        (Restore(s, (Node(s, "n", None, "r", 1, Role.USER, ("i",), ("c",), "d", False, 1, "b"),)),),
        *outbound_examples(s),
        *job_examples(s),
        *trigger_examples(s),
    ]  # fmt: skip


def outbound_examples(s: str) -> list[tuple[Command[Any, Any], ...]]:
    """Examples of the commands that send, and of what relays store."""
    fence = Fence(s, 1, "L1")
    new = NewInput("", "wake", "x")
    sent = (NewOutbound(Admit("t", (new,))), NewOutbound(RequestCancel("t", "", "r"), "far"))
    node = NewNode(Role.ASSISTANT, "x")
    acquired = Acquire(s, "L1", OWNER, 60_000)
    amended = (Open(s), acquired, Amend(s, "c1", fence, 0, outbound=sent))
    return [
        (*begun(s), Commit(s, fence, "r1", 1, 0, 0, outbound=sent[1:])),
        (*begun(s), Checkpoint(s, fence, "r1", 1, 0, nodes=(node,), outbound=sent[1:])),
        amended,
        (*amended, Sent(s, 2, "t", "far")),
        (*amended, SendFailed(s, 1, "t", 0, "why")),
        (*amended, SendRefused(s, 1, "t", "phase", "INBOX-3", "why")),
        (*amended, LineUp(s, "t", (1,))),
        (*amended, Resend(s, "c2", 1)),
    ]


def trigger_examples(s: str) -> list[tuple[Command[Any, Any], ...]]:
    """Examples of the commands of triggers, each after those that it needs."""
    at_ms = 1_000_000
    schedule = Schedule("every", "5s", "UTC")
    made = SetTrigger(s, "c1", 0, schedule, at_ms, Missed.ALL)
    job = StartsJob("build", Disposition.OWNER_BOUND, "s1", RetryLimits(3, 4, 5, 6, 7))
    subscribed = (made, Subscribe(s, "c2", "a", job, "{body}"))
    starts = StartsInput("t", "tick", "slot", POLICIES["prompt"])
    update = ChangeSubscription(s, "c3", "a", SubscriptionChange.UPDATE, 1, starts, "{key}")
    return [
        (made,),
        subscribed,
        (*subscribed, update),
        (*subscribed, Occur(s, "api", "k1", "body", at_ms)),
        (*subscribed, Fire(s, 1, (at_ms,), at_ms + 5_000)),
        (*subscribed, DeleteTrigger(s, "d1", True)),
    ]


def job_examples(s: str) -> list[tuple[Command[Any, Any], ...]]:
    """Examples of the commands of jobs, each after those that it needs."""
    fence = Fence(s, 1, "L1")
    register = Register(
        s, "build", "in", Disposition.OWNER_BOUND, "s1", "ann", "s1", RetryLimits(3, 4, 5, 6, 7), 5,
        (EventType("note", "{}"),),
    )  # fmt: skip
    take = Take(s, "L1", OWNER, 60_000, (Observed(OWNER, Evidence.DEAD),))
    started = (attrs.evolve(register, available_at_ms=None), take, Start(s, fence))
    external = attrs.evolve(register, disposition=Disposition.EXTERNAL, available_at_ms=None)
    failure = Failure(ErrorKind.TRANSIENT, "why", 1, 1)
    return [
        (register,),
        started[:2],
        started,
        (*started, JobCheckpoint(s, fence, 0, (NewEntry(EntryKind.REPORT, "a#1", "1"),))),
        (*started, Emit(s, fence, "note", "{}", "k1", True)),
        (*started, Wait(s, fence, "go", 1)),
        (started[0], Signal(s, "g1", "go", "now")),
        (*started, Complete(s, "out", fence)),
        (external, Complete(s, "out", None, "ann")),
        (*started, FailJob(s, failure, fence)),
        (external, FailJob(s, failure, None, "ann")),
        (*started[:2], LetGo(s, fence)),
        (*started, Drain(s, OWNER, "L1")),
        (started[0], RequestAbandon(s, "q1", "ann", "why")),
        (started[0], CancelJob(s, "x1", "bob")),
        (*started, Complete(s, "out", fence), DestroyJob(s, "d1", True)),
        (admitted(s), Grant(s, ("j1", "j2"), "ann")),
        (admitted(s), Grant(s, ("j1",)), Revoke(s, ("j1", "j2"))),
        (admitted(s), Transfer(s, "c1", "s9", ("j1",))),
        (admitted(s), Grant(s, ("j1",)), Destroy(s, "c1"), CancelOrphans(s, "c2", ("j1",))),
    ]


def variants() -> Iterator[tuple[Command[Any, Any], ...]]:
    """Yield every example with every wrong value in every place, each in a session of its own.

    Of the values that have a wrong type in one place, only the first: all of them are refused before they are sent.
    """
    numbers = itertools.count()
    for at, example in enumerate(examples("s")):
        yield examples(f"s{next(numbers)}")[at]
        for path in paths(example[-1]):
            refused = False
            for wrong in WRONG if path != ("session_id",) else ():  # which sorts a group
                mistyped = isinstance(
                    measure_command(with_value(example[-1], path, wrong)), Refused
                )
                if not (mistyped and refused):
                    *before, command = examples(f"s{next(numbers)}")[at]
                    yield (*before, with_value(command, path, wrong))
                refused = refused or mistyped


@functools.cache
def expected() -> tuple[list[tuple[Command[Any, Any], ...]], list[object], frozenset[Record]]:
    """Return the variants, the last answer to each, and what they leave."""
    plays, answers, left = list(variants()), [], set[Record]()
    for commands in plays:
        world, answer = EMPTY, object()
        for command in commands:
            answer, world = decided(world, command, START_MS)
        answers.append(answer)
        left |= set(world)
    return plays, answers, frozenset(left)


def check_agreement(opener: Opener) -> None:
    """Execute all variants; the store answers as the model does, and holds the same records when it is reopened."""
    plays, answers, left = expected()

    async def play(store: Store, commands: tuple[Command[Any, Any], ...]) -> object:
        for command in commands:
            answer = await store.decide(command)
        return answer

    async def run() -> None:
        store = opener(ManualClock())
        found = await asyncio.gather(*[play(store, p) for p in plays], return_exceptions=True)
        for commands, answer, wanted in zip(plays, found, answers, strict=True):
            assert answer == wanted, commands[-1]
        if "reopen" in store.capabilities:
            await store.aclose()
            store = opener(ManualClock())
        assert set(await store.dump()) == left
        await store.aclose()

    asyncio.run(run())


def test_every_example_is_accepted_as_it_is() -> None:
    for commands in examples("s"):
        world = EMPTY
        for command in commands:
            answer, world = decided(world, command, START_MS)
            assert isinstance(answer, Decided), (command, answer)


def test_every_command_has_an_example() -> None:
    kinds = {commands[-1].__class__ for commands in examples("s")}

    public = [getattr(tenure.commands, name) for name in tenure.commands.__all__]
    commands = {c for c in public if isinstance(c, type) and issubclass(c, Command)}
    assert kinds == commands


def test_a_store_in_memory_agrees_with_the_model() -> None:
    check_agreement(lambda clock: MemoryStore(clock=clock))


def test_sqlite_accepts_the_same_commands_and_can_read_them(tmp_path: Path) -> None:
    check_agreement(lambda clock: SqliteStore(tmp_path / "s.db", clock=clock))


def test_files_accept_the_same_commands_and_can_be_read(tmp_path: Path) -> None:
    check_agreement(lambda clock: FilesStore(tmp_path / "s", clock=clock))


@pytest.mark.postgres
def test_a_server_accepts_the_same_commands_and_can_read_them() -> None:
    from tenure_drivers.stores.postgres.store import PostgresStore

    schema = f"field_types_{os.getpid()}"
    check_agreement(lambda clock: PostgresStore(shared(), schema=schema, clock=clock))
    drop(shared(), schema)


# -- the message


def admit(**fields: Any) -> Admit:
    return Admit("s", (NewInput("i1", "prompt", "hello"), NewInput("i2", "prompt", "x", **fields)))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (admit(priority=True), "Admit: inputs[1].priority True (bool): expected int of at most 64 bits or None"),
        (admit(available_at_ms=1.5), "Admit: inputs[1].available_at_ms 1.5 (float): expected int of at most 64 bits or None"),
        (admit(key=Text("k")), "Admit: inputs[1].key 'k' (Text): expected str or None"),
        (admit(policy="user"), "Admit: inputs[1].policy 'user' (str): expected Policy or None"),
        (Admit("s", [NewInput("i", "prompt", "x")]), "Admit: inputs [NewInput(input_id='i', kind='prompt', payload='x', source='api', key=None, prio... (list): expected tuple of NewInput"),  # type: ignore[arg-type]
        (Commit("s", FENCE, "r", 1, 0, 0, state=5), "Commit: state 5 (int): expected str or None"),  # type: ignore[arg-type]
        (Commit("s", FENCE, "r", 1, 0, 0, "finished"), "Commit: termination 'finished' (str): expected Termination"),  # type: ignore[arg-type]
        (Commit("s", FENCE, "r", 1, 10**30, 0), f"Commit: n {10**30} (int): expected int of at most 64 bits"),
        (Renew(["s"], FENCE), "Renew: session_id ['s'] (list): expected str"),  # type: ignore[arg-type]
        (Renew("s", Silent()), "Renew: fence without a representation (Silent): expected Fence"),  # type: ignore[arg-type]
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_a_refusal_names_the_field_its_value_and_what_is_expected(
    command: Command[Any, Any], message: str
) -> None:
    assert measure_command(command) == Refused(Refusal.ILLEGAL, "STORE-42", message)


def test_a_wrong_session_id_fails_no_neighbour(tmp_path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(tmp_path / "s.db")
        wrong: Any = Renew(["s"], FENCE)  # type: ignore[arg-type]
        answers = await asyncio.gather(
            store.execute(wrong), *[store.execute(Admit(f"s{n}", (NewInput(f"i{n}", "prompt", "x"),))) for n in range(3)]
        )  # fmt: skip
        assert isinstance(answers[0], Refused)
        assert not any(isinstance(answer, Refused) for answer in answers[1:])
        await store.aclose()

    asyncio.run(run())


# -- the size


def test_a_command_beyond_a_gigabyte_is_refused_and_one_of_a_gigabyte_is_not() -> None:
    payload = "é" * 5_000_000  # one text in memory, named often
    inputs = [NewInput(f"i{n}", "prompt", payload) for n in range(101)]

    assert measure_command(Admit("s", tuple(inputs[:99]))) == 99 * 5_000_000 + size_of_names(99)
    refused = measure_command(Admit("s", tuple(inputs)))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.clause) == (Refusal.ILLEGAL, "STORE-43")
    assert "at most 1000000000 in one command" in str(refused.detail)


def size_of_names(count: int) -> int:
    """The characters besides the payloads: session, ids, kinds and sources."""
    return 1 + sum(len(f"i{n}") + len("prompt") + len("api") for n in range(count))


def test_no_world_is_needed_to_refuse() -> None:
    answer, world = decided(EMPTY, admit(priority=True), 0)

    assert isinstance(answer, Refused) and isinstance(world, World)


@attrs.frozen
class Anything:
    """A command of a user's own, whose fields may have any type."""

    session_id: str
    rows: tuple[Any, ...]
    more: Any = None


@pytest.mark.parametrize("value", [None, 1, "x", ("x",), [1], Session("s"), object()])
def test_a_field_of_any_type_takes_every_value(value: Any) -> None:
    command: Any = Anything("s", (value,), value)

    assert isinstance(measure_command(command), int)


# -- rows that are restored


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Node("other", "n", None, None, 1, Role.USER, (), (), "d", False, 1, "b"), "expected a row of session s"),
        (Node("s", "n", None, None, 1, Role.USER, (), (), "d", False, 1, "a\0b"), "text with a NUL character"),
        (Node("s", "n", None, None, 1, Role.USER, ("\ud800",), (), "d", False, 1, "b"), "text with a lone surrogate"),
    ],
    ids=("session", "NUL", "surrogate"),
)  # fmt: skip
def test_a_row_that_not_every_store_can_hold_is_not_restored(node: Node, why: str) -> None:
    answer, _ = decided(EMPTY, Restore("s", (node,)), 0)

    assert isinstance(answer, Refused)
    assert (answer.reason, answer.clause) == (Refusal.ILLEGAL, "STORE-45")
    assert why in answer.detail


def test_large_rows_are_restored_by_several_commands() -> None:
    rows = [Node("s", f"n{n}", None, None, 1, Role.USER, (), (), "d", False, 1, "x" * 3_000_000) for n in range(5)]  # fmt: skip

    assert [len(command.records) for command in restoring(rows)] == [2, 2, 1]
