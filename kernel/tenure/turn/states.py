"""The states of a turn, and the data that they share.  Spec: specs/turn.md."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from attrs import field, frozen

from ..limits import USAGE_MAX
from ..machines.ticket import Settled
from ..messages.types import Message, ToolCall
from ..outcome import Refused, Stepped
from ..records import Input
from ..replace import replace
from ..transcript import NewNode, Tip, UsageDelta, hash_parts
from ..turn_end import TurnEnd
from .chat_policy import DEFAULT_CHAT_POLICY, ChatPolicy, messages_of_inputs
from .message_chain import ChainLink, extend, extend_by_inputs, messages
from .protocol import Cancelled, Effect, Ending, Environment, Fail, Limits, Stopped, ToolResult
from .replay import EMPTY, Replay

__all__ = [
    "IN_PROGRESS",
    "Asked",
    "Asking",
    "AwaitingCheckpoint",
    "AwaitingEnvironment",
    "AwaitingModel",
    "AwaitingTools",
    "Batch",
    "Checking",
    "Core",
    "Finished",
    "Marking",
    "NextStep",
    "Outcome",
    "PendingRecord",
    "Preparing",
    "Probing",
    "Reported",
    "Running",
    "Settling",
    "Slot",
    "Stage",
    "State",
    "StopReason",
    "TurnSetup",
    "Waiting",
    "WaitingForRetry",
    "Written",
    "add_usage",
    "path_before_turn",
]


@frozen
class TurnSetup:
    """What does not change during a turn.

    `opening` holds all messages before the turn's own first message, its inputs included.  `hand_offs` counts the
    hand-offs in a row that led to this turn.  `strict` fails the turn if its environment has changed.  `taken`: the
    inputs that checkpoints have taken before a crash.
    """

    run_id: str
    turn: int
    inputs: tuple[str, ...]
    leaf: Tip | None
    opening: tuple[Message, ...] = field(eq=False, repr=False)
    frame: str = ""
    hand_offs: int = 0
    limits: Limits = Limits()
    strict: bool = False
    policy: ChatPolicy = field(default=DEFAULT_CHAT_POLICY, repr=False)
    taken: tuple[Input, ...] = field(default=(), eq=False, repr=False)


@frozen
class Core:
    """What every state carries.

    `described` is the environment as text, `digest` its digest.  `stored_environment_digest` is that of the environment
    that the store holds.  `records` counts the records of this iteration.  `usage` is not written yet.  `overflowed` is
    the last iteration whose request did not fit the context; since then, requests have about `budget` characters.
    `remembered`: the decisions that are those of all later calls of a tool, by its name.
    """

    setup: TurnSetup
    replay: Replay = field(default=EMPTY, eq=False, repr=False)
    iteration: int = 1
    environment: Environment = field(default=Environment(""), eq=False, repr=False)
    described: str = field(default="", eq=False, repr=False)
    digest: str = ""
    stored_environment_digest: str | None = None
    chain: ChainLink | None = None
    warned: bool = False
    usage: tuple[UsageDelta, ...] = ()
    records: int = 0
    overflowed: int = 0
    budget: int | None = None
    remembered: tuple[tuple[str, Settled], ...] = ()

    def key(self, kind: str, effect: int | str = 0) -> str:
        """Return the key of an effect: `run:turn:iteration:kind:effect` (TURN-5)."""
        return f"{self.setup.run_id}:{self.setup.turn}:{self.effect_id(kind, effect)}"

    def effect_id(self, kind: str, effect: int | str = 0) -> str:
        """Return the name of an effect in the journal (TURN-5)."""
        return f"{self.iteration}:{kind}:{effect}"

    @property
    def model_key(self) -> str:
        """The key of the model call.  A shortened request has another key than the one that did not fit."""
        return self.key("model", int(self.overflowed == self.iteration))

    @property
    def grace(self) -> bool:
        """True in the grace iteration, after the last one with tools."""
        return self.iteration > self.setup.limits.iterations_max

    @property
    def path(self) -> str:
        """The path digest of the transcript so far (TURN-10)."""
        if self.chain is not None:
            return self.chain.digest
        return path_before_turn(self.setup)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages for the next request."""
        return (*self.setup.opening, *messages(self.chain))

    def append_message(self, message: Message) -> tuple[Core, NewNode]:
        """Return the core with one more message, and the node of the message."""
        chain, node = extend(self.chain, self.setup.leaf, self.setup.inputs, message)
        return replace(self, chain=chain), node

    def append_inputs(self, inputs: tuple[Input, ...]) -> Core:
        """Return the core with inputs that a checkpoint has taken, if there are any."""
        if not inputs:
            return self
        setup, ids = self.setup, tuple([i.input_id for i in inputs])
        shown = tuple(messages_of_inputs(inputs))
        chain = extend_by_inputs(self.chain, setup.leaf, setup.inputs, ids, shown)
        return replace(self, chain=chain)


def path_before_turn(setup: TurnSetup) -> str:
    """Return the digest that stands for the transcript before the first node of the turn."""
    return hash_parts(setup.leaf.path_digest if setup.leaf else None, setup.inputs)


# -- the calls of a reply


@frozen
class Waiting:
    """The call may begin when the concurrency limit allows it.  `cleared`: it needs no approval any more."""

    attempt: int = 1
    cleared: bool = False


@frozen
class Checking:
    """Whether the call needs an approval is being found out."""

    attempt: int = 1


@frozen
class Asking:
    """The call needs an approval, and the turn has not parked yet."""

    ticket_id: str
    prompt: str


@frozen
class Asked:
    """The ticket of the call is open."""

    ticket_id: str


@frozen
class Settling:
    """The ticket of the call is being settled like an earlier one."""

    ticket_id: str


@frozen
class Marking:
    """The start of a once call is being recorded."""


@frozen
class Running:
    """An attempt is in progress."""

    attempt: int = 1


@frozen
class WaitingForRetry:
    """The backoff before this attempt is in progress."""

    attempt: int


@frozen
class Probing:
    """The outcome of a call from before a crash is being found out."""


@frozen
class Reported:
    """The call has its result, but no node.

    `recorded`: the report is in the journal.  `unknown`: the outcome of a once call is unknown.
    """

    result: ToolResult
    recorded: bool = False
    unknown: bool = False


@frozen
class Written:
    """The call has its node."""

    result: ToolResult


Stage: TypeAlias = (
    Waiting
    | Checking
    | Asking
    | Asked
    | Settling
    | Marking
    | Running
    | WaitingForRetry
    | Probing
    | Reported
    | Written
)
IN_PROGRESS: Final = (Checking, Settling, Marking, Running, WaitingForRetry, Probing)


@frozen
class Slot:
    """A call, its stage, and the decision on it."""

    call: ToolCall
    stage: Stage
    decision: Settled | None = None


@frozen
class PendingRecord:
    """The record in progress, and the calls in it: start marks, reports without a node, results with their node.

    `parks`: it is a Park.
    """

    key: str
    marks: tuple[int, ...] = ()
    reports: tuple[int, ...] = ()
    written: tuple[int, ...] = ()
    parks: bool = False


@frozen
class Batch:
    """The calls of one reply.

    `failed` holds failed attempts that are not recorded yet: (call, attempt, text).
    """

    slots: tuple[Slot, ...]
    pending: PendingRecord | None = None
    failed: tuple[tuple[int, int, str], ...] = ()

    def put(self, index: int, stage: Stage) -> Batch:
        """Return the batch with another stage of one call."""
        slots = list(self.slots)
        slots[index] = replace(slots[index], stage=stage)
        return replace(self, slots=tuple(slots))

    def put_slot(self, index: int, slot: Slot) -> Batch:
        """Return the batch with another slot."""
        slots = list(self.slots)
        slots[index] = slot
        return replace(self, slots=tuple(slots))

    @property
    def complete(self) -> bool:
        """True if every call has its node."""
        return all([isinstance(slot.stage, Written) for slot in self.slots])


# -- states


class NextStep(enum.StrEnum):
    """What the turn does after a record."""

    REPLAY = "replay"
    ASK_MODEL = "ask_model"
    RUN_TOOLS = "run_tools"
    TAKE_INPUTS = "take_inputs"


StopReason: TypeAlias = Cancelled | Stopped


@frozen
class Preparing:
    """The journal was read; nothing was requested yet."""

    core: Core


@frozen
class AwaitingEnvironment:
    """The environment is being prepared."""

    core: Core


@frozen
class AwaitingModel:
    """The model is being called."""

    core: Core


@frozen
class AwaitingCheckpoint:
    """A record is in progress, and nothing else.  With `stop` the turn ends after it."""

    core: Core
    key: str
    next_step: NextStep
    stop: StopReason | None = None


@frozen
class AwaitingTools:
    """The calls of a reply are in progress.  With `stop` the turn ends after the record in progress."""

    core: Core
    batch: Batch
    stop: StopReason | None = None

    def index_of(self, key: str) -> int | None:
        """Return the index of the call that an effect key names, or None."""
        head, _, index = key.rpartition(":")
        if head != self.core.key("tool", "")[:-1] or not index.isdecimal():
            return None
        at = int(index)
        return at if at < len(self.batch.slots) and str(at) == index else None

    def stage_of(self, key: str) -> Stage | None:
        """Return the stage of the call that an effect key names, or None."""
        at = self.index_of(key)
        return None if at is None else self.batch.slots[at].stage


@frozen
class Finished:
    """The turn has ended.  `last` is its last effect: a commit, or a failure.

    `answer` is the reply that a commit which yields contains; None if the reply is in the journal already.
    """

    core: Core
    outcome: Ending
    last: TurnEnd | Fail
    answer: Message | None = None


State: TypeAlias = (
    Preparing | AwaitingEnvironment | AwaitingModel | AwaitingCheckpoint | AwaitingTools | Finished
)
Outcome: TypeAlias = Stepped[State, Effect] | Refused


# -- usage


def add_usage(core: Core, usage: tuple[UsageDelta, ...]) -> Core:
    """Return the core with more usage, summed by source and model (TURN-56).

    One write holds `USAGE_MAX` sums; further ones are added up as `other`.
    """
    if not usage:
        return core
    sums: dict[tuple[str, str], UsageDelta] = {}
    for delta in (*core.usage, *usage):
        at = (delta.source, delta.model)
        if at not in sums and len(sums) >= USAGE_MAX - 1:
            at = ("other", "other")
        sums[at] = _sum(sums.get(at) or UsageDelta(*at), delta)
    return replace(core, usage=tuple(sums.values()))


def _sum(a: UsageDelta, b: UsageDelta) -> UsageDelta:
    return UsageDelta(
        a.source, a.model, a.requests + b.requests, a.input_tokens + b.input_tokens,
        a.output_tokens + b.output_tokens, a.cached_tokens + b.cached_tokens,
        a.reasoning_tokens + b.reasoning_tokens,
    )  # fmt: skip
