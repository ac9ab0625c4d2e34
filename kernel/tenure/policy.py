"""Policies of inputs: lane, delivery, grouping, retry, slots and keys, for each kind.  Spec: specs/inbox.md."""

from __future__ import annotations

import enum
from typing import ClassVar, Final

from attrs import frozen

from .failure import RetryLimits

__all__ = [
    "LANES",
    "POLICIES",
    "REACHED",
    "Audience",
    "Boundary",
    "Delivery",
    "IfOver",
    "KeyScope",
    "Lane",
    "OnOtherContent",
    "OnRetry",
    "OnSameSlot",
    "Policy",
    "WhileWaiting",
]


class Lane(enum.StrEnum):
    """A part of the inbox of a session."""

    USER = "user"  # an interrupt supersedes its inputs
    SYSTEM = "system"  # an interrupt leaves its inputs


LANES: Final = (Lane.USER, Lane.SYSTEM)


class Delivery(enum.StrEnum):
    """When an input may reach the agent."""

    EARLIEST = "earliest"  # at any checkpoint of a running turn, if there is one
    BEFORE_COMPLETION = "before_completion"  # only where a running turn would end
    AFTER_COMMIT = "after_commit"  # never in a running turn
    added = enum.nonmember({"BEFORE_COMPLETION": 2})


class Boundary(enum.StrEnum):
    """Where a checkpoint of a running turn takes inputs."""

    AFTER_WORK = "after_work"  # between two model calls
    BEFORE_COMPLETION = "before_completion"  # where the turn would end


REACHED: Final = {
    Boundary.AFTER_WORK: (Delivery.EARLIEST,),
    Boundary.BEFORE_COMPLETION: (Delivery.EARLIEST, Delivery.BEFORE_COMPLETION),
}


class IfOver(enum.StrEnum):
    """What happens to an input if its target run ends before it has taken the input."""

    QUEUE = "queue"  # it is an ordinary input
    ABANDON = "abandon"
    since = enum.nonmember(2)


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


class OnSameSlot(enum.StrEnum):
    """What a new input does to a waiting input of the same kind and supersession key."""

    SUPERSEDE = "supersede"  # ends it, and stands at the tail
    COALESCE = "coalesce"  # ends it, and stands in its place
    since = enum.nonmember(2)


class Audience(enum.StrEnum):
    """Who reads the payload of an input."""

    ALL = "all"
    MODEL = "model"  # the model, and no reader of the conversation
    NOBODY = "nobody"  # it only makes a turn begin
    since = enum.nonmember(2)


class WhileWaiting(enum.StrEnum):
    """What happens to an input while the run of its session waits."""

    FOLD = "fold"  # it enters that run, unless calls are open
    HOLD = "hold"  # it waits until that run has ended
    SUPERSEDE = "supersede"  # it ends that run
    BACKGROUND = (
        "background"  # FOLD if the run waits for background work or the input names it, else HOLD
    )
    since = enum.nonmember(2)


@frozen
class Policy:
    """The rules of an input.  Stored with it, so that a later release does not change them."""

    added: ClassVar = {
        "barrier": 2,
        "on_same_slot": 2,
        "audience": 2,
        "may_be_empty": 2,
        "steers": 2,
        "while_waiting": 2,
        "retry": 2,
    }
    ignorable: ClassVar = ("audience", "while_waiting")
    lane: Lane
    delivery: Delivery = Delivery.AFTER_COMMIT
    batch: str | None = None  # bound together with neighbours of this name; None: alone
    on_retry: OnRetry = OnRetry.PASS
    on_other_content: OnOtherContent = OnOtherContent.CONFLICT
    key_scope: KeyScope = KeyScope.RETAINED
    when_retired: bool = False  # a retired session still admits it
    priority: int = 128
    barrier: bool = False  # begins only when no earlier run is unfinished
    on_same_slot: OnSameSlot = OnSameSlot.SUPERSEDE
    audience: Audience = Audience.ALL
    may_be_empty: bool = False  # an empty payload is admitted
    steers: bool = False  # it names the current run if it says nothing else
    while_waiting: WhileWaiting | None = None  # None: as the wait says
    retry: RetryLimits | None = None  # of a run that begins with it; None: the usual ones

    def group(self) -> str | None:
        """Return the name under which neighbours are bound together; None: alone."""
        if self.batch is None:
            return None
        return f"{self.delivery.value}:{self.batch}{':barrier' * self.barrier}"


POLICIES: Final[dict[str, Policy]] = {
    "prompt": Policy(Lane.USER),
    "steering": Policy(Lane.USER, Delivery.EARLIEST, steers=True),
    "follow_up": Policy(Lane.USER, Delivery.BEFORE_COMPLETION, steers=True),
    "continuation": Policy(Lane.USER, audience=Audience.NOBODY, may_be_empty=True),
    "activation": Policy(Lane.USER, audience=Audience.NOBODY, may_be_empty=True),
    "peer_message": Policy(Lane.SYSTEM, on_other_content=OnOtherContent.ORIGINAL),
    "peer_request": Policy(Lane.SYSTEM, on_other_content=OnOtherContent.ORIGINAL),
    "peer_response": Policy(
        Lane.SYSTEM, on_other_content=OnOtherContent.ORIGINAL, when_retired=True
    ),
    "peer_progress": Policy(
        Lane.SYSTEM,
        Delivery.EARLIEST,
        batch="peer_progress",
        on_same_slot=OnSameSlot.COALESCE,
    ),
    "flow_step": Policy(Lane.SYSTEM, on_retry=OnRetry.HOLD),
    "external_event": Policy(
        Lane.SYSTEM,
        Delivery.EARLIEST,
        batch="external_event",
        on_other_content=OnOtherContent.ORIGINAL,
    ),
    "operation": Policy(Lane.SYSTEM, Delivery.EARLIEST, batch="operation", audience=Audience.MODEL),
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
        audience=Audience.MODEL,
        while_waiting=WhileWaiting.BACKGROUND,
    ),
    "hand_off": Policy(Lane.SYSTEM, when_retired=True, priority=0),
}
