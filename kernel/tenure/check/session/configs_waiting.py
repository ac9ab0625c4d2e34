"""The systems of one session in which a run waits."""

from __future__ import annotations

from typing import Final

from ...machines.ticket import Action
from . import operators as o
from .pieces import (
    CHILD_1,
    ONCE,
    PLAIN,
    PROMPT,
    QUEUED,
    WAKE_1,
    clauses,
    extended,
)
from .states import ModelConfig, Moves

__all__ = [
    "ALL",
    "APPROVAL",
    "CHILDREN",
    "JOIN",
    "WAITING",
    "WAITING_ANY",
    "WAITING_BACKGROUND",
    "WAITING_INPUT",
    "WAITING_PROMPT",
]


WAITING_FOR: Final[Moves] = {
    **PLAIN,
    "begun": ("ask",),
    "answered": ("commit",),
}
WAITING: Final = ModelConfig(
    "waiting",
    "a run that waits for a person and for a time; a cancel; crashes, lost answers",
    (PROMPT,),
    extended(WAITING_FOR, asked=("park for all",)),
    (o.decide("r.p"), o.cancel("r.p")),
    workers=1,
    probes=True,
    expects=clauses("RUN-60,61,62,63,65 TICKET-1,10,16 WAIT-2,6,7"),
    ends=("consumed", "abandoned"),
)
WAITING_ANY: Final = ModelConfig(
    "waiting-any",
    "a run that waits for the first of two tickets; two answers, a prompt that holds, an interrupt, a stop",
    (PROMPT, QUEUED),
    extended(WAITING_FOR, asked=("park for any",)),
    (o.decide("r.p"), o.decide("r.p", Action.REJECT), o.interrupt(1), o.stop()),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    probes=True,
    expects=clauses("TICKET-12,13,14,15 WAIT-1,3,4,5"),
    ends=("consumed", "abandoned"),
)
WAITING_PROMPT: Final = ModelConfig(
    "waiting-prompt",
    "what the user says next ends the wait; a wake holds",
    (PROMPT, QUEUED, (WAKE_1,)),
    extended(WAITING_FOR, asked=("park, the prompt ends it",)),
    (o.decide("r.p"),),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    expects=clauses("WAIT-16"),
    ends=("consumed", "abandoned"),
)
WAITING_INPUT: Final = ModelConfig(
    "waiting-input",
    "a run that waits for the user, who has spoken before or speaks later; a wake; a rollback",
    (PROMPT, QUEUED, (WAKE_1,)),
    extended(WAITING_FOR, asked=("park for input",)),
    (o.roll_back(),),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    expects=clauses("RUN-64 WAIT-15"),
    ends=("consumed", "superseded"),
)
WAITING_BACKGROUND: Final = ModelConfig(
    "waiting-background",
    "a run that waits for background work; a wake; crashes, a reset",
    (PROMPT, (WAKE_1,)),
    extended(WAITING_FOR, asked=("park for background",)),
    (o.reset(),),
    workers=1,
    lose=False,
    ends=("consumed", "abandoned"),
)
JOIN: Final = ModelConfig(
    "join",
    "a run that waits for two of a person, a time and work; an end, a cancel; crashes, lost answers",
    (PROMPT,),
    {
        **PLAIN,
        "begun": ("ask all three",),
        "asked": ("park for two of three",),
        "answered": ("park for two of three",),
        "joined": ("commit",),
    },
    (o.decide("r.p"), o.settle("r.p"), o.cancel("r.p")),
    workers=1,
    probes=True,
    expects=clauses("RUN-61,62 TICKET-12,20,21,22,23 WAIT-6,7,35,37"),
    ends=("consumed", "abandoned"),
)
APPROVAL: Final = ModelConfig(
    "approval",
    "an approval behind a once step; crashes, lost answers",
    (PROMPT,),
    {
        **ONCE,
        "reported": ("ask about the call",),
        "asked": ("park for any",),
        "answered": ("commit",),
    },
    (o.decide("r.p"),),
    workers=1,
)

CHILDREN: Final = ModelConfig(
    "children",
    "an input of another session that tells it of its end; failures, a cancel, an interrupt; crashes",
    (CHILD_1,),
    extended(ONCE, begun=("fail for good",), reported=("fail for good",)),
    (o.cancel_input("p"), o.interrupt(1)),
    workers=1,
    lose=False,
    probes=True,
    expects=clauses("CANCEL-1,61,62,63 TICKET-41"),
    ends=("consumed", "dead_lettered", "superseded", "withdrawn", "abandoned"),
)
ALL: Final = (
    CHILDREN,
    WAITING,
    WAITING_ANY,
    WAITING_PROMPT,
    WAITING_INPUT,
    WAITING_BACKGROUND,
    JOIN,
    APPROVAL,
)
