"""What each kind of input means: lane, delivery, grouping, retry, keys.  Spec: specs/inbox.md."""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen


class Lane(enum.StrEnum):
    USER = "user"  # what an interrupt takes back
    SYSTEM = "system"  # what was promised to somebody else


LANES: Final = (Lane.USER, Lane.SYSTEM)


class Delivery(enum.StrEnum):
    EARLIEST = "earliest"  # at a checkpoint of a running turn, if there is one
    AFTER_COMMIT = "after_commit"


class OnRetry(enum.StrEnum):
    HOLD = "hold"  # what is behind a run that waits for its retry waits too
    PASS = "pass"


class OnOtherContent(enum.StrEnum):
    CONFLICT = "conflict"
    ORIGINAL = "original"  # answer the first input, whatever came now


class KeyScope(enum.StrEnum):
    RETAINED = "retained"  # as long as the input is kept
    OPEN = "open"  # free again when its holder has ended


@frozen
class Policy:
    """Stored with the input, so that a later release does not change what was promised."""

    lane: Lane
    delivery: Delivery = Delivery.AFTER_COMMIT
    batch: str | None = None  # None: alone; else grouped with its neighbours of this name
    on_retry: OnRetry = OnRetry.PASS
    on_other_content: OnOtherContent = OnOtherContent.CONFLICT
    key_scope: KeyScope = KeyScope.RETAINED
    when_retired: bool = False  # does a retired session still admit it
    priority: int = 128

    def group(self) -> str | None:
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
