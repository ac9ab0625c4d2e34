"""What a run waits for, in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tenure.machines.run import WaitReason
from tenure.records import Work

__all__ = ["waits_for", "work_of"]


WORDS: Final[dict[str, str]] = {
    WaitReason.APPROVAL: "an approval",
    WaitReason.TOOL: "an answer",
    WaitReason.PAUSE: "its time",
    WaitReason.WORK: "the work of others",
    WaitReason.USER_INPUT: "the next message",
    WaitReason.BACKGROUND: "background work",
}


def work_of(work: Work) -> str:
    """Return the work that a ticket awaits."""
    there = f" in store {work.peer}" if work.peer else ""
    if work.input_id is None:
        return f"job {work.done_by}{there}"
    return f"input {work.input_id} of session {work.done_by}{there}"


def waits_for(reason: str, tickets: Sequence[str], awaits: Sequence[Work] = ()) -> str:
    """Return what a run waits for; its tickets, and the work that they await, in brackets."""
    words = [f"ticket {', '.join(tickets)}"] if tickets else []
    words += map(work_of, awaits)
    named = f" ({'; '.join(words)})" if words else ""
    return f"waiting for {WORDS.get(reason, reason)}{named}"
