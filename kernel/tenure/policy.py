"""Policies of inputs: lane, delivery, grouping, retry and keys, for each kind.  Spec: specs/inbox.md."""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen

__all__ = [
    "LANES",
    "POLICIES",
    "Delivery",
    "KeyScope",
    "Lane",
    "OnOtherContent",
    "OnRetry",
    "Policy",
]


class Lane(enum.StrEnum):
    """A queue of a session; each lane has a mark of its own."""

    USER = "user"  # an interrupt supersedes its inputs
    SYSTEM = "system"  # an interrupt leaves its inputs


LANES: Final = (Lane.USER, Lane.SYSTEM)


class Delivery(enum.StrEnum):
    """When an input may reach the agent."""

    EARLIEST = "earliest"  # at a checkpoint of a running turn, if there is one
    AFTER_COMMIT = "after_commit"


class OnRetry(enum.StrEnum):
    """Whether later inputs may overtake a run that waits for its retry."""

    HOLD = "hold"  # later inputs wait too
    PASS = "pass"


class OnOtherContent(enum.StrEnum):
    """What a known key with other content means."""

    CONFLICT = "conflict"
    ORIGINAL = "original"  # answer with the first input


class KeyScope(enum.StrEnum):
    """How long an idempotency key is reserved."""

    RETAINED = "retained"  # as long as the input is kept
    OPEN = "open"  # until the input has ended


@frozen
class Policy:
    """The rules of an input.  Stored with it, so that a later release does not change them."""

    lane: Lane
    delivery: Delivery = Delivery.AFTER_COMMIT
    batch: str | None = None  # bound together with neighbours of this name; None: alone
    on_retry: OnRetry = OnRetry.PASS
    on_other_content: OnOtherContent = OnOtherContent.CONFLICT
    key_scope: KeyScope = KeyScope.RETAINED
    when_retired: bool = False  # a retired session still admits it
    priority: int = 128

    def group(self) -> str | None:
        """Return the name under which neighbours are bound together; None: alone."""
        return None if self.batch is None else f"{self.delivery.value}:{self.batch}"


POLICIES: Final[dict[str, Policy]] = {
    "prompt": Policy(Lane.USER),
    "directive": Policy(
        Lane.SYSTEM,
        on_retry=OnRetry.HOLD,
        on_other_content=OnOtherContent.ORIGINAL,
        key_scope=KeyScope.OPEN,
    ),
    "wake": Policy(
        Lane.SYSTEM,
        Delivery.EARLIEST,
        batch="wake",
        on_other_content=OnOtherContent.ORIGINAL,
        when_retired=True,
    ),
    "hand_off": Policy(Lane.SYSTEM, when_retired=True, priority=0),
}
