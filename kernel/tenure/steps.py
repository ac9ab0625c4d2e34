"""The replay rules of steps: what a turn does with a step, by what its journal has about it.  Spec: specs/journal.md.

A host calls the functions of steps; it does not decide whether to call them.  The explored workers of `tenure.check`
use the same rules.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from .commands import NewEntry
from .records import EntryKind, JournalEntry

__all__ = [
    "StepAction",
    "effect_id_of",
    "idempotency_key",
    "latest_entries",
    "once_action",
    "report",
    "start_mark",
    "step_action",
    "unknown",
    "validate_name",
]


NAME_MAX: Final = 180


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
    return {e.effect_id: e for e in entries if e.kind is not EntryKind.NODE and e.turn == turn}


# -- names


def validate_name(name: str) -> str | None:
    """Return the problem with the name of a step, or None."""
    if not name or len(name) > NAME_MAX or not name.isprintable():
        return f"step name {name[:40]!r}: expected 1 to {NAME_MAX} printable characters"
    return None


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
