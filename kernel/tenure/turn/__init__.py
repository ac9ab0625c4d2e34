"""The turn: a total machine over the journal of a run, from a model to its tools and back.  Spec: specs/turn.md."""

from __future__ import annotations

from ..chat import CHAT, Dialect, message_of_input, project
from ..dialogue import Spoken
from ..records import Input
from ..rules import Table
from .begin import BEGIN
from .past import recall
from .rest import REST
from .state import Brief, Core, Outcome, Preparing, State
from .stopping import STOPPING
from .word import LIMITS, Limits
from .work import WORK

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
