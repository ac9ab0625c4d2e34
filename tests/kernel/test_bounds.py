"""Limits that need many rows: what fits exactly is taken, and one more is not.  Smaller limits have scenarios."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tenure.commands import (
    Acquire,
    Admit,
    Amend,
    Begin,
    Begun,
    Checkpoint,
    Checkpointed,
    Commit,
    Fail,
    Intend,
    Interrupt,
    NewAttachment,
    NewEntry,
    NewInput,
    NewOutbound,
    NewProfile,
    NothingDue,
    Open,
    Reorder,
    Replace,
    Reset,
    Sweep,
    Swept,
)
from tenure.commands.admit import validate_input
from tenure.failure import ErrorKind, Failure
from tenure.frame import NewState, Switch
from tenure.limits import (
    ADMITTED_MAX,
    CHECKPOINT_NODES_MAX,
    CHECKPOINT_ROWS_MAX,
    COMMIT_NODES_MAX,
    PAYLOAD_BYTES_MAX,
    RUN_INPUTS_MAX,
)
from tenure.machines.input import Ended
from tenure.machines.lease import Fence, Owner
from tenure.outcome import Decided, Refused
from tenure.policy import POLICIES, Boundary, Delivery, IfOver, KeyScope, Lane, Policy
from tenure.queries import Command
from tenure.records import EntryKind, MarkRaise, QueueEntry
from tenure.replace import replace
from tenure.transcript import NewNode, Role, UsageDelta
from tenure.world import EMPTY, World, evolve

OWNER = Owner("w", "w.1")
LATER_MS = 2_000


class Played:
    """A session in the reference model of a store, under a clock that stands still."""

    def __init__(self) -> None:
        self.world: World = EMPTY
        self.now_ms = 1_000

    def answer(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        answer = command.decide(self.world.load(command.reads()), self.now_ms)
        if isinstance(answer, Decided):
            self.world = evolve(self.world, answer.writes)
        return answer

    def do(self, command: Command[Any, Any]) -> Any:
        answer = self.answer(command)
        assert isinstance(answer, Decided), answer
        return answer.outcome

    def admit(self, inputs: Iterable[NewInput]) -> None:
        given = list(inputs)
        for at in range(0, len(given), ADMITTED_MAX):
            self.do(Admit("s", tuple(given[at : at + ADMITTED_MAX])))

    def begin(self, lease_id: str, **more: Any) -> Begun:
        begun = self.do(Begin("s", lease_id, f"r{lease_id}", OWNER, **more))
        assert isinstance(begun, Begun), begun
        return begun

    def run_that_waits(self, lease_id: str, inputs: Iterable[NewInput]) -> None:
        """Bind all these inputs to a run that waits for its retry."""
        given = list(inputs)
        self.admit(given)
        begun = self.begin(lease_id, limit=RUN_INPUTS_MAX)
        assert len(begun.inputs) == len(given)
        self.do(Fail("s", begun.fence, begun.run_id, 1, Failure(ErrorKind.TRANSIENT)))

    def sweep(self) -> Swept:
        swept = self.do(Sweep("s"))
        assert isinstance(swept, Swept)
        return swept


def inputs(name: str, count: int, lane: Lane, **more: Any) -> list[NewInput]:
    """Inputs of one group, each with an open key: two rows each when they end."""
    policy = Policy(lane, batch="b", key_scope=KeyScope.OPEN)
    names = [f"{name}{n}" for n in range(count)]
    return [NewInput(i, "job", "x", policy=policy, key=i, **more) for i in names]


# -- one command


def test_a_payload_may_have_as_many_bytes_as_the_limit() -> None:  # INBOX-4
    fits = "é" * (PAYLOAD_BYTES_MAX // 2)

    assert validate_input(NewInput("i", "prompt", fits), POLICIES["prompt"], 0) is None
    assert validate_input(NewInput("i", "prompt", fits + "x"), POLICIES["prompt"], 0) is not None


@pytest.mark.parametrize(("nodes", "clause"), [(32, "COMMIT-10"), (33, "COMMIT-8")])
def test_a_commit_has_at_most_32_nodes(nodes: int, clause: str) -> None:
    session = Played()
    session.admit([NewInput("i", "prompt", "x")])
    begun = session.begin("L1")
    said = (NewNode(Role.ASSISTANT, "x"),) * nodes

    answer = session.answer(Commit("s", begun.fence, begun.run_id, 1, 0, 0, nodes=said))

    assert COMMIT_NODES_MAX == 32
    assert answer.clause == clause


@pytest.mark.parametrize(("limit", "taken"), [(63, 63), (64, 64), (65, 64), (1_000, 64)])
def test_a_group_has_at_most_64_inputs(limit: int, taken: int) -> None:  # INBOX-16
    session = Played()
    session.admit(inputs("u", 70, Lane.USER))

    begun = session.begin("L1", limit=limit)

    assert begun.inputs == tuple([f"u{n}" for n in range(taken)])


@pytest.mark.parametrize(("count", "rows"), [(2, 4), (64, 66)])
def test_a_reorder_writes_its_inputs_and_two_rows(count: int, rows: int) -> None:  # INBOX-42
    session = Played()
    session.admit(inputs("u", 70, Lane.USER))
    names = tuple([f"u{n}" for n in reversed(range(count))])

    answer = session.answer(Reorder("s", "c1", Lane.USER, names))

    assert isinstance(answer, Decided)
    assert len(answer.writes) == rows
    assert session.begin("L1", limit=count).inputs == names


@pytest.mark.parametrize("count", [0, 65])
def test_a_reorder_names_1_to_64_inputs(count: int) -> None:  # INBOX-40
    session = Played()
    session.admit(inputs("u", 70, Lane.USER))

    answer = session.answer(Reorder("s", "c1", Lane.USER, tuple([f"u{n}" for n in range(count)])))

    assert answer.clause == "INBOX-40"


def test_an_amend_with_everything_writes_206_rows() -> None:
    """64 nodes, 64 others hidden, 16 labels instead of 16, 8 states that a frame inherits, 8 counts of usage, 8 commands sent."""
    session = Played()
    session.answer(Open("s"))
    session.answer(Acquire("s", "L1", OWNER))
    fence = Fence("s", 1, "L1")
    nodes = (NewNode(Role.USER, "text"),) * 64

    def amend(command_id: str, revision: int, **changes: Any) -> Decided[Any] | Refused:
        return session.answer(Amend("s", command_id, fence, revision, **changes))

    def labels(value: str) -> tuple[tuple[str, str], ...]:
        return tuple([(f"label-{value}-{n}", value) for n in range(16)])

    states = tuple([NewState(f"state-{n}", f"text {n}") for n in range(8)])
    others = tuple([NewState(f"state-{n}", f"other {n}") for n in range(8)])
    usage = tuple([UsageDelta("api", f"model-{n}", 1) for n in range(8)])
    amend("c1", 0, nodes=nodes, states=states, profile=NewProfile(labels=labels("a")))
    hide = tuple([f"c1/{n}" for n in range(64)])
    everything: dict[str, Any] = {"nodes": nodes, "hide": hide, "usage": usage, "states": others}
    everything["outbound"] = tuple([NewOutbound(Admit("t", (NewInput("", "wake", "x"),)))] * 8)

    answer = amend(
        "c2", 1, **everything, switch=Switch("f1"), profile=NewProfile(labels=labels("b"))
    )

    assert isinstance(answer, Decided), answer
    assert len(answer.writes) == 206


def test_an_amend_takes_nodes_and_attachments_up_to_a_common_bound() -> None:  # ATTACH-14
    session = Played()
    session.answer(Open("s"))
    session.answer(Acquire("s", "L1", OWNER))
    files = tuple([NewAttachment(f"a{n}", f"{n:064x}", 1, "image/png") for n in range(64)])
    session.answer(Intend("s", files))
    ids = [each.attachment_id for each in files]
    nodes = (NewNode(Role.USER, "text"),) * 64
    first = Amend("s", "c1", Fence("s", 1, "L1"), 0, nodes[:1])
    session.answer(first)
    most = replace(
        first, command_id="c2", expected_revision=1, nodes=nodes, attach=tuple(ids[:32]),
        forget=tuple(ids[32:]),
    )  # fmt: skip

    refused = session.answer(replace(most, hide=("c1/0",)))
    taken = session.answer(most)

    assert isinstance(refused, Refused) and refused.clause == "ATTACH-14"
    assert refused.detail == "64 nodes, 1 to hide or show, 64 attachments: at most 128 together"
    assert isinstance(taken, Decided) and len(taken.writes) == 64 + 64 + 3


def test_a_replace_writes_a_handful_of_rows() -> None:  # INBOX-38
    session = Played()
    session.admit(inputs("u", 70, Lane.USER))
    (new,) = inputs("v", 1, Lane.USER)

    answer = session.answer(Replace("s", "c1", "u5", new))

    assert isinstance(answer, Decided)
    assert (
        len(answer.writes) == 8
    )  # both inputs with their keys, the session, the command, the events


# -- Sweep: SWEEP-6


def test_a_sweep_that_fills_its_rows_exactly_ends_all_that_fits() -> None:
    session = Played()
    session.admit(inputs("u", 96, Lane.USER) + inputs("s", 30, Lane.SYSTEM))
    session.do(Reset("s", "c1"))

    assert session.sweep() == Swept(96 + 24, 0, True)  # 240 rows: two for each input
    assert session.sweep() == Swept(6, 0, False)


@pytest.mark.parametrize(
    ("bound", "contributors", "ended"),
    [
        (10, 23, 23),  # 193 + 47 rows
        (0, 23, 23),  # 192 + 47 rows: one is left, and the next input needs two
        (0, 24, 0),  # 192 + 49 rows would be one too many
    ],
)
def test_a_sweep_ends_a_run_if_all_its_rows_fit(bound: int, contributors: int, ended: int) -> None:
    """An input takes two rows, a run takes one more.  Of the 96 inputs of lane USER a run has bound some."""
    session = Played()
    if bound:
        session.run_that_waits("L1", inputs("u", bound, Lane.USER))
    session.run_that_waits("L2", inputs("s", contributors, Lane.SYSTEM))
    session.admit(inputs("v", 96 - bound, Lane.USER))
    session.admit(inputs("t", 1, Lane.SYSTEM))
    session.do(Reset("s", "c1"))

    assert session.sweep() == Swept(96 + ended, 0, True)


@pytest.mark.parametrize(("aged", "more"), [(95, False), (96, True), (97, True)])
def test_a_sweep_that_read_all_it_may_says_that_there_may_be_more(aged: int, more: bool) -> None:
    session = Played()
    session.admit(inputs("u", aged, Lane.USER))
    session.do(Interrupt("s", "c1"))

    assert session.sweep() == Swept(min(aged, 96), 0, more)


@pytest.mark.parametrize(("raises", "left", "more"), [(31, 0, False), (32, 0, True), (33, 1, True)])
def test_a_sweep_drops_32_raises_of_a_lane(raises: int, left: int, more: bool) -> None:
    session = Played()
    session.admit(inputs("s", 1, Lane.SYSTEM))
    for n in range(raises):
        session.do(Interrupt("s", f"c{n}"))

    assert session.sweep() == Swept(0, 0, more)
    assert len(session.world.all(MarkRaise)) == left


@pytest.mark.parametrize(("delayed", "more"), [(191, False), (192, True), (193, True)])
def test_a_sweep_promotes_192_inputs(delayed: int, more: bool) -> None:
    session = Played()
    session.admit(inputs("u", delayed, Lane.USER, available_at_ms=LATER_MS))
    session.now_ms = LATER_MS

    assert session.sweep() == Swept(0, min(delayed, 192), more)


def test_a_sweep_promotes_into_the_rows_that_are_left() -> None:
    session = Played()
    session.admit(inputs("u", 90, Lane.USER))
    session.admit(inputs("s", 61, Lane.SYSTEM, available_at_ms=LATER_MS))
    session.do(Interrupt("s", "c1"))
    session.now_ms = LATER_MS

    assert session.sweep() == Swept(90, 59, True)  # 180 rows, one for the raise, and 59
    assert session.sweep() == Swept(0, 2, False)


# -- steering


def steering(count: int, **more: Any) -> list[NewInput]:
    """Inputs for the run rL1, each with an open key: two rows each when they end."""
    policy = Policy(Lane.USER, Delivery.EARLIEST, key_scope=KeyScope.OPEN)
    names = [f"m{n}" for n in range(count)]
    return [NewInput(i, "job", "x", policy=policy, key=i, target="rL1", **more) for i in names]


def test_a_checkpoint_takes_at_most_64_inputs() -> None:  # JOURNAL-35
    session = Played()
    session.admit([NewInput("i", "prompt", "x")])
    begun = session.begin("L1")
    session.admit(steering(70))

    def take(n: int) -> Checkpointed:
        found = session.do(
            Checkpoint("s", begun.fence, "rL1", 1, n, take=Boundary.AFTER_WORK, take_id=f"c{n}")
        )
        assert isinstance(found, Checkpointed)
        return found

    first, second = take(0), take(1)

    assert (len(first.inputs), first.more) == (63, False)  # the run has 64 inputs, and is full
    assert (second.inputs, second.more) == ((), False)


def test_a_checkpoint_writes_at_most_256_rows() -> None:  # JOURNAL-35
    session = Played()
    session.admit([NewInput("i", "prompt", "x")])
    begun = session.begin("L1")
    session.admit(steering(70))
    said = (NewNode(Role.USER, "x"),) * CHECKPOINT_NODES_MAX
    entries = tuple([NewEntry(EntryKind.REPORT, f"e{n}", "{}") for n in range(64)])
    sent = (NewOutbound(Admit("t", (NewInput("", "wake", "x"),))),) * 8

    answer = session.answer(
        Checkpoint(
            "s",
            begun.fence,
            "rL1",
            1,
            0,
            entries,
            said,
            take=Boundary.AFTER_WORK,
            take_id="c",
            outbound=sent,
        )
    )

    assert isinstance(answer, Decided), answer
    assert 240 < len(answer.writes) <= CHECKPOINT_ROWS_MAX
    assert answer.outcome.more


def test_begin_and_sweep_end_what_is_over_a_part_at_a_time() -> None:  # INBOX-55, SWEEP-27
    session = Played()
    session.admit([NewInput("i", "prompt", "x")])
    begun = session.begin("L1")
    session.admit(steering(112, if_over=IfOver.ABANDON))
    session.do(Commit("s", begun.fence, "rL1", 1, 0, 0, nodes=(NewNode(Role.ASSISTANT, "x"),)))

    assert isinstance(session.do(Begin("s", "L2", "r2", OWNER)), NothingDue)
    ended = [p for p in session.world.all(QueueEntry) if isinstance(p.state, Ended)]
    assert len(ended) == 1 + 8
    assert session.sweep() == Swept(96, 0, True)
    assert session.sweep() == Swept(8, 0, False)


def test_what_a_checkpoint_reads_does_not_grow_with_the_queue() -> None:  # JOURNAL-33
    def read(queued: int, addressed: int) -> int:
        session = Played()
        session.admit([NewInput("i", "prompt", "x")])
        begun = session.begin("L1")
        session.admit([NewInput(f"q{n}", "prompt", "x") for n in range(queued)])
        session.admit(steering(addressed))
        command = Checkpoint("s", begun.fence, "rL1", 1, 0, take=Boundary.AFTER_WORK, take_id="c")
        found = session.world.load(command.reads())
        return len(repr(found))

    assert read(2_000, 500) - read(200, 200) < 2_000


@pytest.mark.parametrize(
    ("now_ms", "at", "refused"),
    [
        (1_767_225_600_000, 1_767_225_600, True),
        (1_767_225_600_000, 10**9, True),
        (1_767_225_600_000, 10**9 - 1, False),
        (1_767_225_600_000, 10**10, False),
        (10**12, 10**10 - 1, True),
        (
            10**12 - 1,
            10**9,
            False,
        ),  # a clock that begins at 0, as in a simulation, may show such a time
    ],
)
def test_a_time_in_seconds_is_refused(now_ms: int, at: int, refused: bool) -> None:  # INBOX-4
    problem = validate_input(
        NewInput("i", "prompt", "x", available_at_ms=at), POLICIES["prompt"], now_ms
    )

    assert (problem is not None) is refused
    if problem is not None:
        assert problem == (
            f"available_at_ms {at}: seconds? expected milliseconds since 1970, such as {at * 1000}"
        )
