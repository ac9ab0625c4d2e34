"""The turn: a total machine over the journal of a run, from a model to its tools and back.  Spec: specs/turn.md."""

from __future__ import annotations

from ..outcome import Refusal, Refused
from ..records import Input
from ..rules import Table
from .cancellation import STOPPING_ROWS
from .chat_policy import DEFAULT_CHAT_POLICY, ChatPolicy, message_of_input, project
from .loading import LoadedTurn
from .protocol import LIMITS, Event, Limits
from .replay import read_journal
from .reports import WORK_ROWS
from .stale import REPORTS, is_awaited
from .start import BEGIN_ROWS
from .states import Core, Outcome, Preparing, State, TurnSetup

RULES: Table[Outcome] = Table((*BEGIN_ROWS, *WORK_ROWS, *STOPPING_ROWS))


def step(state: State, event: Event) -> Outcome:
    """Answer an event: refuse a report that nothing awaits, otherwise apply the one rule that is enabled."""
    if isinstance(event, REPORTS) and not is_awaited(state, event):
        return Refused(Refusal.STALE, "TURN-60", getattr(event, "key", None))
    return RULES.step(state, event)


def prepare(
    loaded: LoadedTurn,
    limits: Limits = LIMITS,
    policy: ChatPolicy = DEFAULT_CHAT_POLICY,
    *,
    strict: bool = False,
) -> Preparing:
    """The turn of a run, before it begins; its past is what the journal knows."""
    opening = (*project(loaded.lines), *map(message_of_input, loaded.inputs))
    setup = TurnSetup(
        loaded.run_id, loaded.turn, tuple([i.input_id for i in loaded.inputs]), loaded.leaf,
        opening, loaded.frame, hand_offs(loaded.inputs), limits, strict, policy,
    )  # fmt: skip
    replay = read_journal(loaded.entries, loaded.nodes, loaded.environment, loaded.turn)
    return Preparing(Core(setup, replay))


def hand_offs(inputs: tuple[Input, ...]) -> int:
    """How many hand-offs in a row led to these inputs."""
    counts = [i.source.removeprefix("hand_off:") for i in inputs if i.kind == "hand_off"]
    return max([int(count) for count in counts if count.isdigit()], default=0)


__all__ = [
    "REPORTS",
    "RULES",
    "TurnSetup",
    "Core",
    "Outcome",
    "Preparing",
    "State",
    "is_awaited",
    "prepare",
    "step",
]
