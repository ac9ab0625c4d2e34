"""The states of a turn, and what they have in common.  Spec: specs/turn.md."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

from attrs import field, frozen

from ..messages.types import Message, ToolCall
from ..outcome import Refused, Stepped
from ..replace import replace
from ..transcript import NewNode, Tip, UsageDelta, hash_parts
from .chat_policy import CHAT, Dialect
from .message_chain import Link, extend, messages
from .protocol import Cancelled, Effect, Environment, Fail, Finish, Halted, Limits, ToolResult
from .protocol import Outcome as Ending
from .replay import EMPTY, Past

USAGE_MAX: Final = 8  # kinds in one write


@frozen
class Brief:
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
    dialect: Dialect = field(default=CHAT, repr=False)


@frozen
class Core:
    """What every state carries along.  `kept` is the digest of the environment that the store holds."""

    brief: Brief
    past: Past = field(default=EMPTY, eq=False, repr=False)
    iteration: int = 1
    environment: Environment = field(default=Environment(""), eq=False, repr=False)
    described: str = field(default="", eq=False, repr=False)
    digest: str = ""
    kept: str | None = None
    chain: Link | None = None
    warned: bool = False
    usage: tuple[UsageDelta, ...] = ()
    records: int = 0  # in this iteration

    def key(self, kind: str, effect: int | str = 0) -> str:
        """TURN-5."""
        return f"{self.brief.run_id}:{self.brief.turn}:{self.effect_id(kind, effect)}"

    def effect_id(self, kind: str, effect: int | str = 0) -> str:
        return f"{self.iteration}:{kind}:{effect}"

    @property
    def grace(self) -> bool:
        return self.iteration > self.brief.limits.iterations_max

    @property
    def path(self) -> str:
        """TURN-10: what stands for the transcript so far."""
        if self.chain is not None:
            return self.chain.digest
        return standing(self.brief)

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.brief.opening, *messages(self.chain))

    def say(self, message: Message) -> tuple[Core, NewNode]:
        chain, node = extend(self.chain, self.brief.leaf, self.brief.inputs, message)
        return replace(self, chain=chain), node


def standing(brief: Brief) -> str:
    """What stands for the transcript before the first node of a turn."""
    return hash_parts(brief.leaf.path_digest if brief.leaf else None, brief.inputs)


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
class Resting:
    """Until it is tried again."""

    attempt: int


@frozen
class Probing:
    pass


@frozen
class Reported:
    """`kept`: the report is in the journal.  `unknown`: nobody knows how it ended."""

    result: ToolResult
    kept: bool = False
    unknown: bool = False


@frozen
class Written:
    """It has its node."""

    result: ToolResult


Stage: TypeAlias = Waiting | Marking | Running | Resting | Probing | Reported | Written
UNDER_WAY: Final = (Marking, Running, Resting, Probing)


@frozen
class Slot:
    call: ToolCall
    stage: Stage


@frozen
class Flight:
    """A record under way, and the calls that it is about."""

    key: str
    marks: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    written: tuple[int, ...] = ()


@frozen
class Batch:
    """`failed`: attempts that failed and are not recorded yet, as (call, attempt, text)."""

    slots: tuple[Slot, ...]
    flight: Flight | None = None
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
    outcome: Ending
    last: Finish | Fail


State: TypeAlias = (
    Preparing | AwaitingEnvironment | AwaitingModel | AwaitingCheckpoint | AwaitingTools | Finished
)
Outcome: TypeAlias = Stepped[State, Effect] | Refused


# -- usage


def spend(core: Core, usage: tuple[UsageDelta, ...]) -> Core:
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
