"""Commands as text, the ids of rows, and how much one command writes.  Spec: specs/outbound.md."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tenure import commands
from tenure.commands import (
    Admit,
    CancelInput,
    CancelJob,
    Child,
    Commit,
    Decide,
    Emit,
    EventType,
    NewInput,
    NewOutbound,
    NewProfile,
    Register,
    RequestCancel,
    Revoke,
    Sendable,
    Settle,
    Signal,
    Target,
)
from tenure.commands.encoding import UnreadableCommand, decode, encode
from tenure.commands.jobs.emit import EmitView
from tenure.commands.send import outbound_rows
from tenure.commands.sent import backoff_ms
from tenure.commands.sent_commands import SENDABLE, command_of
from tenure.event import Parent
from tenure.failure import RetryLimits
from tenure.kind import Kind
from tenure.machines.job import Disposition, Started
from tenure.machines.lease import Fence, Held, Owner
from tenure.machines.ticket import Action
from tenure.outbound_records import Outbound
from tenure.outcome import Decided, Insert
from tenure.policy import Delivery, IfOver, Lane, Policy
from tenure.records import Job, JobEventType, Session
from tenure.retention import time_of

FULL = NewInput(
    "i", "mine", 'é "\ud800\x00', "me", key="k", priority=3, available_at_ms=7, supersession_key="x",
    correlation_id="c", policy=Policy(Lane.SYSTEM, Delivery.EARLIEST, retry=RetryLimits(failures=2)),
    target=Target.CURRENT, if_over=IfOver.ABANDON, origin="o", parent=Parent("p", "r"), resolution="v",
)  # fmt: skip
PROFILE = NewProfile(name="n", labels=(("a", "b"), ("c", "d")), relation=Child("p", "x"))
EXAMPLES: tuple[Sendable, ...] = (
    Admit("t", (FULL, attrs.evolve(FULL, target="run-1", key=None)), queue_max=3, profile=PROFILE),
    Admit("t", (NewInput("", "prompt", "hello"),), open=False),
    Decide("t", "ticket", "", Action.ANSWER, "yes", "ada"),
    RequestCancel("t", "c", "r"),
    CancelInput("t", "", "i"),
    Settle("t", "", "ticket", Action.COMPLETED, "done", "child"),
    CancelJob("j", "", "ada"),
    Register(
        "j",
        "build",
        "make",
        Disposition.EXTERNAL,
        "s",
        "ada",
        "s",
        RetryLimits(failures=1),
        5,
        (EventType("step", '{"type": "object"}'),),
    ),
    Signal("j", "", "go", "now"),
    Revoke("t", ("j1", "j2"), "s", 7),
    CancelInput("t", "", "i"),
    Settle("t", "", "ticket", Action.COMPLETED, "done", "s"),
)
BY_NAME = {cls.__name__: cls for cls in SENDABLE}


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda c: type(c).__name__)
def test_a_command_is_read_as_it_was_written(command: Sendable) -> None:  # OUTBOUND-5
    text = encode(command)

    assert text.encode()  # every store can hold it
    assert decode(text, BY_NAME) == command


def test_a_wake_without_a_key_is_not_taken_for_one_with_a_key() -> None:  # EMIT-8
    owner = Owner("w", "i")
    lease = Held(1, "L", owner, 30_000, 31_000)
    session = Session("j", kind=Kind.JOB, lease=lease)
    job = Job("j", "r", Disposition.RERUNNABLE, "", 0, 0, Started(1), wake_target="s")
    sent = []
    for key in (None, "1"):
        emit = Emit("j", Fence("j", 1, "L"), "note", "look", key, True)
        decided = emit.decide(EmitView(session, job, JobEventType("j", "note", None), ()), 1_000)
        assert isinstance(decided, Decided)
        rows = [w.record for w in decided.writes if isinstance(w, Insert)]
        sent += [command_of(row) for row in rows if isinstance(row, Outbound)]
    first, second = [each.inputs[0].input_id for each in sent if isinstance(each, Admit)]
    assert first != second


def test_every_command_that_may_be_sent_has_its_place_and_an_example() -> None:
    marked = {
        cls
        for cls in vars(commands).values()
        if isinstance(cls, type) and issubclass(cls, Sendable) and cls is not Sendable
    }

    assert set(SENDABLE) == marked == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"v":1}',
        '{"v":2,"command":"Admit","fields":{}}',
        '{"v":1,"command":"Destroy","fields":{"session_id":"t"}}',
        '{"v":1,"command":"RequestCancel","fields":{"session_id":"t"}}',
        '{"v":1,"command":"RequestCancel","fields":{"session_id":"t","command_id":"c","run_id":"r","new":1}}',
        '{"v":1,"command":"Decide","fields":{"session_id":"t","ticket_id":"i","decision_id":"d","action":"sing"}}',
    ],
)
def test_a_text_of_another_release_is_not_read(text: str) -> None:  # OUTBOUND-5
    with pytest.raises(UnreadableCommand):
        decode(text, BY_NAME)


def rows_of(*sent: Sendable, by: str = "L1", now_ms: int = 1_700_000_000_000) -> list[Any]:
    new = [NewOutbound(command) for command in sent]
    return [write.record for write in outbound_rows(Session("s"), new, by, now_ms)[1]]


def test_the_id_of_a_row_takes_the_place_of_an_empty_one() -> None:  # OUTBOUND-4
    two = Admit("t", (NewInput("", "wake", "a"), NewInput("mine", "wake", "b")))
    admit, cancel, decide = rows_of(two, EXAMPLES[3], EXAMPLES[2])

    assert command_of(admit).inputs[0].input_id == admit.outbound_id  # type: ignore[attr-defined]
    assert command_of(admit).inputs[1].input_id == "mine"  # type: ignore[attr-defined]
    assert command_of(cancel) == EXAMPLES[3]
    assert command_of(decide).decision_id == decide.outbound_id  # type: ignore[attr-defined]


def test_every_id_of_a_row_is_another_and_has_its_time() -> None:  # OUTBOUND-4, RETENTION-4
    now_ms = 1_700_000_000_000
    many = Admit("t", tuple([NewInput("", "wake", "a")] * 3))
    rows = [*rows_of(many, many), *rows_of(many, many, by="L2"), *rows_of(many, now_ms=now_ms + 1)]
    ids = [new.input_id for row in rows for new in command_of(row).inputs]  # type: ignore[attr-defined]

    assert len(set(ids)) == len(ids) == 15
    assert [time_of(each) for each in ids] == [now_ms] * 12 + [now_ms + 1] * 3
    assert rows == [*rows_of(many, many), *rows_of(many, many, by="L2"), *rows_of(many, now_ms=now_ms + 1)]  # fmt: skip


def test_a_route_waits_longer_after_each_failure() -> None:  # OUTBOUND-35
    waits = [backoff_ms(n) for n in range(1, 12)]

    assert waits[:4] == [1_000, 2_000, 4_000, 8_000]
    assert waits[-1] == waits[-2] == backoff_ms(10_000) == 300_000


def test_a_commit_that_sends_nothing_has_the_digest_of_release_1() -> None:
    commit = Commit("s", None, "r", 1, 0, 0)  # type: ignore[arg-type]

    assert commit.digest((), []) == attrs.evolve(commit, outbound=()).digest((), [])
    sent = attrs.evolve(commit, outbound=(NewOutbound(EXAMPLES[3]),))
    assert commit.digest((), []) != sent.digest((), [])
    assert attrs.evolve(sent, outbound=(NewOutbound(EXAMPLES[3], "o"),)).digest((), []) != (
        sent.digest((), [])
    )
