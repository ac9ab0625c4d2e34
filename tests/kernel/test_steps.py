"""The replay rules of steps."""

from __future__ import annotations

import pytest

from tenure.records import EntryKind, JournalEntry
from tenure.steps import (
    StepAction,
    effect_id_of,
    idempotency_key,
    latest_entries,
    noted_versions,
    once_action,
    report,
    start_mark,
    step_action,
    unknown,
    validate_name,
    validate_version,
    version_note,
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


# -- versions: JOURNAL-12


@pytest.mark.parametrize(
    ("recorded", "current", "said"),
    [
        ("1", "2", "by version '1' of its function, and this is '2'"),
        (None, "2", "without a version, and this is '2'"),
        ("1", "1", None),
        ("1", None, None),
        (None, None, None),
    ],
)
def test_a_result_of_another_version_is_noted(
    recorded: str | None, current: str | None, said: str | None
) -> None:
    note = version_note((), "pay#1", recorded, current)

    if said is None:
        assert note is None
    else:
        assert note is not None and (note.kind, note.effect_id) == (EntryKind.NOTE, "pay#1@2")
        assert note.body == f"step pay#1: its result was recorded {said}"


def test_a_version_is_noted_once_in_a_turn_and_a_note_is_no_entry_of_its_step() -> None:
    note = entry(EntryKind.NOTE, 1, effect_id="pay#1@2")
    journal = (entry(EntryKind.REPORT), note, entry(EntryKind.NOTE, 2, turn=2, effect_id="pay#1@3"))

    noted = noted_versions(journal, 1)

    assert noted == {"pay#1@2"}
    assert version_note(noted, "pay#1", "1", "2") is None
    assert version_note(noted, "pay#1", "1", "3") is not None
    assert latest_entries(journal, 1) == {"pay#1": journal[0]}


def test_a_version_is_a_number_or_a_short_text() -> None:
    for version in (None, 0, 7, "v2", "x" * 200):
        assert validate_version(version) is None
    for wrong in ("", "x" * 201, "two\nlines", True, 1.5):
        assert "expected a number or 1 to 200 printable" in str(validate_version(wrong))
