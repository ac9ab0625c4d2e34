"""The states of a turn, and what they have in common.  Spec: specs/turn.md."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from attrs import field, frozen

from ..messages.types import Message, ToolCall
from ..outcome import Refused, Stepped
from ..replace import replace
from ..transcript import NewNode, Tip, UsageDelta, hash_parts
from .chat_policy import DEFAULT_CHAT_POLICY, ChatPolicy
from .message_chain import ChainLink, extend, messages
from .protocol import Cancelled, Effect, Environment, Fail, Finish, Halted, Limits, ToolResult
from .protocol import Outcome as TurnOutcome
from .replay import EMPTY, Replay

USAGE_MAX: Final = 8  # kinds in one write


@frozen
class TurnSetup:
    """What a turn is about.  `opening` is all that is said before its own first message, its inputs included."""

    run_id: str
    turn: int
    inputs: tuple[str, ...]
    leaf: Tip | None
    opening: tuple[Message, ...] = field(eq=False, repr=False)
    frame: str = ""
    hand_offs: int = 0  # how many led here
    limits: Limits = Limits()
    strict: bool = False
    policy: ChatPolicy = field(default=DEFAULT_CHAT_POLICY, repr=False)


@frozen
class Core:
    """What every state carries along.  `stored_environment_digest` is the digest of the environment that the store holds."""

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
    records: int = 0  # in this iteration

    def key(self, kind: str, effect: int | str = 0) -> str:
        """TURN-5."""
        return f"{self.setup.run_id}:{self.setup.turn}:{self.effect_id(kind, effect)}"

    def effect_id(self, kind: str, effect: int | str = 0) -> str:
        return f"{self.iteration}:{kind}:{effect}"

    @property
    def grace(self) -> bool:
        return self.iteration > self.setup.limits.iterations_max

    @property
    def path(self) -> str:
        """TURN-10: what stands for the transcript so far."""
        if self.chain is not None:
            return self.chain.digest
        return path_before_turn(self.setup)

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.setup.opening, *messages(self.chain))

    def append_message(self, message: Message) -> tuple[Core, NewNode]:
        chain, node = extend(self.chain, self.setup.leaf, self.setup.inputs, message)
        return replace(self, chain=chain), node


def path_before_turn(setup: TurnSetup) -> str:
    """What stands for the transcript before the first node of a turn."""
    return hash_parts(setup.leaf.path_digest if setup.leaf else None, setup.inputs)


# -- the calls of a reply


@frozen
class Waiting:
    attempt: int = 1


@frozen
class Marking:
    """Its start is being recorded."""


@frozen
class Running:
    attempt: int = 1


@frozen
class WaitingForRetry:
    """Until it is tried again."""

    attempt: int


@frozen
class Probing:
    pass


@frozen
class Reported:
    """`recorded`: the report is in the journal.  `unknown`: nobody knows how it ended."""

    result: ToolResult
    recorded: bool = False
    unknown: bool = False


@frozen
class Written:
    """It has its node."""

    result: ToolResult


Stage: TypeAlias = Waiting | Marking | Running | WaitingForRetry | Probing | Reported | Written
UNDER_WAY: Final = (Marking, Running, WaitingForRetry, Probing)


@frozen
class Slot:
    call: ToolCall
    stage: Stage


@frozen
class PendingRecord:
    """A record under way, and the calls that it is about."""

    key: str
    marks: tuple[int, ...] = ()
    reports: tuple[int, ...] = ()
    written: tuple[int, ...] = ()


@frozen
class Batch:
    """`failed`: attempts that failed and are not recorded yet, as (call, attempt, text)."""

    slots: tuple[Slot, ...]
    pending: PendingRecord | None = None
    failed: tuple[tuple[int, int, str], ...] = ()

    def put(self, index: int, stage: Stage) -> Batch:
        slots = list(self.slots)
        slots[index] = Slot(slots[index].call, stage)
        return replace(self, slots=tuple(slots))

    @property
    def complete(self) -> bool:
        return all([isinstance(slot.stage, Written) for slot in self.slots])


# -- states


class Then(enum.StrEnum):
    """What follows a record."""

    FOLD = "fold"
    MODEL = "model"
    TOOLS = "tools"


Stop: TypeAlias = Cancelled | Halted


@frozen
class Preparing:
    core: Core


@frozen
class AwaitingEnvironment:
    core: Core


@frozen
class AwaitingModel:
    core: Core


@frozen
class AwaitingCheckpoint:
    core: Core
    key: str
    then: Then
    stop: Stop | None = None


@frozen
class AwaitingTools:
    core: Core
    batch: Batch
    stop: Stop | None = None


@frozen
class Finished:
    core: Core
    outcome: TurnOutcome
    last: Finish | Fail


State: TypeAlias = (
    Preparing | AwaitingEnvironment | AwaitingModel | AwaitingCheckpoint | AwaitingTools | Finished
)
Outcome: TypeAlias = Stepped[State, Effect] | Refused


# -- usage


def add_usage(core: Core, usage: tuple[UsageDelta, ...]) -> Core:
    """TURN-56: summed by source and model; of too many kinds the last ones are one."""
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
