"""The turn: a total machine over the journal of a run, from a model to its tools and back.  Spec: specs/turn.md."""

from __future__ import annotations

from ..records import Input
from ..rules import Table
from .cancellation import STOPPING
from .chat_policy import CHAT, Dialect, message_of_input, project
from .loading import Spoken
from .protocol import LIMITS, Limits
from .replay import recall
from .reports import WORK
from .stale import REST
from .start import BEGIN
from .states import Brief, Core, Outcome, Preparing, State

RULES: Table[Outcome] = Table((*BEGIN, *WORK, *STOPPING, *REST))
step = RULES.step


def prepare(
    spoken: Spoken,
    limits: Limits = LIMITS,
    dialect: Dialect = CHAT,
    *,
    strict: bool = False,
) -> Preparing:
    """The turn of a run, before it begins; its past is what the journal knows."""
    opening = (*project(spoken.lines), *map(message_of_input, spoken.inputs))
    brief = Brief(
        spoken.run_id, spoken.turn, tuple([i.input_id for i in spoken.inputs]), spoken.leaf,
        opening, spoken.frame, hand_offs(spoken.inputs), limits, strict, dialect,
    )  # fmt: skip
    past = recall(spoken.entries, spoken.nodes, spoken.environment, spoken.turn)
    return Preparing(Core(brief, past))


def hand_offs(inputs: tuple[Input, ...]) -> int:
    """How many hand-offs in a row led to these inputs."""
    counts = [i.source.removeprefix("hand_off:") for i in inputs if i.kind == "hand_off"]
    return max([int(count) for count in counts if count.isdigit()], default=0)


__all__ = ["RULES", "Brief", "Core", "Outcome", "Preparing", "State", "prepare", "step"]
