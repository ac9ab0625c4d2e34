"""The replay rules of steps: what a turn does with a step, by what its journal has about it.  Spec: specs/journal.md.

A host calls the functions of steps; it does not decide whether to call them.  The explored workers of `tenure.check`
use the same rules.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable
from typing import Final

from .commands import NewEntry
from .records import EntryKind, JournalEntry

__all__ = [
    "StepAction",
    "effect_id_of",
    "idempotency_key",
    "latest_entries",
    "noted_versions",
    "once_action",
    "report",
    "start_mark",
    "step_action",
    "unknown",
    "validate_name",
    "validate_version",
    "version_note",
]


NAME_MAX: Final = 180
VERSION_MAX: Final = 200
NOT_STEPS: Final = (EntryKind.NODE, EntryKind.NOTE, EntryKind.TAKEN)


class StepAction(enum.StrEnum):
    """What to do with a step."""

    CALL = "call"  # call the function, then record its report
    MARK = "mark"  # record the start mark, then call the function once, then record its report
    PROBE = "probe"  # started, without a report: ask the probe, then record its report or "unknown"
    UNKNOWN = "unknown"  # the outcome is unknown: do not call the function
    REPLAY = "replay"  # use the report in the journal: do not call the function


def step_action(entry: JournalEntry | None) -> StepAction:
    """Return what to do with a step that may run again."""
    if entry is not None and entry.kind is EntryKind.REPORT:
        return StepAction.REPLAY
    return StepAction.CALL


def once_action(entry: JournalEntry | None) -> StepAction:
    """Return what to do with a once step.  A step with a start mark is never called again."""
    if entry is None:
        return StepAction.MARK
    if entry.kind is EntryKind.START:
        return StepAction.PROBE
    return StepAction.UNKNOWN if entry.kind is EntryKind.UNKNOWN else StepAction.REPLAY


def latest_entries(entries: Iterable[JournalEntry], turn: int) -> dict[str, JournalEntry]:
    """Return the latest entry of each step of a turn.  `entries` are in the order of the journal."""
    return {e.effect_id: e for e in entries if e.kind not in NOT_STEPS and e.turn == turn}


# -- versions


def noted_versions(entries: Iterable[JournalEntry], turn: int) -> set[str]:
    """Return the ids of the notes that a turn's journal has."""
    return {e.effect_id for e in entries if e.kind is EntryKind.NOTE and e.turn == turn}


def version_note(
    noted: Container[str], effect_id: str, recorded: str | None, current: str | None
) -> NewEntry | None:
    """JOURNAL-12: return the note that a result of another version of the function is used.

    None if the versions are equal, if the function has none now, or if this version is noted already.
    """
    note_id = f"{effect_id}@{current}"
    if current is None or current == recorded or note_id in noted:
        return None
    by = "without a version" if recorded is None else f"by version {recorded!r} of its function"
    text = f"step {effect_id}: its result was recorded {by}, and this is {current!r}"
    return NewEntry(EntryKind.NOTE, note_id, text)


# -- names


def validate_name(name: str) -> str | None:
    """Return the problem with the name of a step, or None."""
    if not name or len(name) > NAME_MAX or not name.isprintable():
        return f"step name {name[:40]!r}: expected 1 to {NAME_MAX} printable characters"
    return None


def validate_version(version: object) -> str | None:
    """Return the problem with the version of a step, or None."""
    if version is None or (isinstance(version, int) and not isinstance(version, bool)):
        return None
    if isinstance(version, str) and 0 < len(version) <= VERSION_MAX and version.isprintable():
        return None
    shown = repr(version)[:40]
    return f"step version {shown}: expected a number or 1 to {VERSION_MAX} printable characters"


def effect_id_of(name: str, use: int) -> str:
    """Return the id of a step: its name, and the number of the use of this name in the turn."""
    return f"{name}#{use}"


def idempotency_key(run_id: str, turn: int, effect_id: str) -> str:
    """Return the key of a once step.  It is the same in every attempt."""
    return f"{run_id}:{turn}:{effect_id}"


# -- entries


def start_mark(effect_id: str) -> NewEntry:
    """Return the entry that comes before the call of a once step."""
    return NewEntry(EntryKind.START, effect_id)


def report(effect_id: str, body: str) -> NewEntry:
    """Return the entry with the result of a step."""
    return NewEntry(EntryKind.REPORT, effect_id, body)


def unknown(effect_id: str) -> NewEntry:
    """Return the entry of a once step whose outcome is unknown."""
    return NewEntry(EntryKind.UNKNOWN, effect_id)
