"""What a run waits for, in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tenure.machines.run import WaitReason

__all__ = ["waits_for"]


WORDS: Final[dict[str, str]] = {
    WaitReason.APPROVAL: "an approval",
    WaitReason.TOOL: "an answer",
    WaitReason.PAUSE: "its time",
    WaitReason.WORK: "the work of others",
    WaitReason.USER_INPUT: "the next message",
    WaitReason.BACKGROUND: "background work",
}


def waits_for(reason: str, tickets: Sequence[str]) -> str:
    """Return what a run waits for; its tickets in brackets."""
    named = f" (ticket {', '.join(tickets)})" if tickets else ""
    return f"waiting for {WORDS.get(reason, reason)}{named}"
