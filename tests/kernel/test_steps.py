"""The replay rules of steps."""

from __future__ import annotations

import pytest

from tenure.records import EntryKind, JournalEntry
from tenure.steps import (
    StepAction,
    effect_id_of,
    idempotency_key,
    latest_entries,
    once_action,
    report,
    start_mark,
    step_action,
    unknown,
    validate_name,
)


def entry(kind: EntryKind, n: int = 0, turn: int = 1, effect_id: str = "pay#1") -> JournalEntry:
    return JournalEntry("s", "r", turn, n, 0, kind, effect_id, "lease", "digest")


@pytest.mark.parametrize(
    ("kind", "step", "once"),
    [
        (None, StepAction.CALL, StepAction.MARK),
        (EntryKind.START, StepAction.CALL, StepAction.PROBE),
        (EntryKind.UNKNOWN, StepAction.CALL, StepAction.UNKNOWN),
        (EntryKind.REPORT, StepAction.REPLAY, StepAction.REPLAY),
    ],
)
def test_the_latest_entry_decides(
    kind: EntryKind | None, step: StepAction, once: StepAction
) -> None:
    latest = None if kind is None else entry(kind)

    assert (step_action(latest), once_action(latest)) == (step, once)


def test_only_steps_of_this_turn_are_replayed_and_the_last_entry_of_each_counts() -> None:
    journal = (
        entry(EntryKind.REPORT, 0, turn=1),
        entry(EntryKind.START, 0, turn=2),
        entry(EntryKind.NODE, 1, turn=2, effect_id="node"),
        entry(EntryKind.REPORT, 2, turn=2),
        entry(EntryKind.START, 3, turn=2, effect_id="mail#1"),
    )

    found = latest_entries(journal, 2)

    assert {effect_id: e.n for effect_id, e in found.items()} == {"pay#1": 2, "mail#1": 3}


def test_a_step_is_named_by_its_name_and_use() -> None:
    assert effect_id_of("pay", 2) == "pay#2"
    assert idempotency_key("run", 3, "pay#2") == "run:3:pay#2"
    assert (start_mark("x").kind, report("x", "{}").body) == (EntryKind.START, "{}")
    assert unknown("x").kind is EntryKind.UNKNOWN


@pytest.mark.parametrize("name", ["", "x" * 181, "two\nlines"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    assert validate_name(name) == f"step name {name[:40]!r}: expected 1 to 180 printable characters"
    assert validate_name("x" * 180) is None
