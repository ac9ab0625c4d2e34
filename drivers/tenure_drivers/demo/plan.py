"""What a demo sets out to do: drawn from the seed alone, so that one seed is one plan on every machine.

The plan is deterministic: which prompts go to which sessions, after how many answers each is handed over, and after how
many answers which worker is killed or paused in which part of a turn.  What happens then is not: how fast anything
is, which session a worker holds at that moment, and so how many turns are taken over and writes refused.
"""

from __future__ import annotations

import enum
import random
from typing import Final

from attrs import frozen

FIRST_SHARE: Final = (
    0.3  # of the inputs are there before anybody works; others come while turns run
)
RESERVE_SHARE: Final = (
    0.125  # is kept back until the last fault, so that there is always a turn to hit
)
FAULTS_FROM, FAULTS_TO = 0.04, 0.75
URGENT_SHARE: Final = 0.1
PRIORITY: Final = 128
URGENT: Final = 64
SUBJECTS: Final = (
    "rain",
    "tides",
    "a lost cat",
    "jazz",
    "bees",
    "the moon",
    "an invoice",
    "sourdough",
)


class Stage(enum.StrEnum):
    """Where in a turn a fault is meant to hit."""

    THINKING = "thinking"  # nothing of it is recorded yet
    WRITING = "writing"  # its once-step has begun, or is done


class Kind(enum.StrEnum):
    KILL = "kill"
    PAUSE = "pause"


@frozen
class Prompt:
    """`after`: handed over when so many inputs have been answered; None: after the last fault, or to end a lull."""

    after: int | None
    session_id: str
    input_id: str
    text: str
    priority: int


@frozen
class Fault:
    after: int
    kind: Kind
    worker: str
    stage: Stage
    restart_ms: int = 0  # how long a killed worker stays away


@frozen
class Plan:
    seed: int
    prompts: tuple[Prompt, ...]
    faults: tuple[Fault, ...]
    workers: tuple[str, ...]


def draw(seed: int, inputs: int, sessions: int, workers: int) -> Plan:
    dice = random.Random(f"tenure demo {seed}")
    names = tuple(f"worker-{i + 1}" for i in range(workers))
    return Plan(seed, _prompts(dice, inputs, sessions), _faults(dice, inputs, names), names)


def _prompts(dice: random.Random, inputs: int, sessions: int) -> tuple[Prompt, ...]:
    width = len(str(sessions))
    # Every session gets its share; who comes when is drawn.
    whose = [number % sessions for number in range(inputs)]
    dice.shuffle(whose)
    first, reserve = int(inputs * FIRST_SHARE), max(int(inputs * RESERVE_SHARE), 1)
    prompts = []
    for number, session in enumerate(whose):
        after: int | None = None
        if number < inputs - reserve:  # at most what can have been answered by then
            after = max(number - dice.randrange(1, first + 2), 0)
        urgent = dice.random() < URGENT_SHARE
        prompts.append(
            Prompt(
                after,
                f"chat-{session + 1:0{width}}",
                f"input-{number + 1:0{len(str(inputs))}}",
                f"Tell me about {dice.choice(SUBJECTS)}.",
                URGENT if urgent else PRIORITY,
            )
        )
    return tuple(sorted(prompts, key=lambda p: inputs if p.after is None else p.after))


def _faults(dice: random.Random, inputs: int, workers: tuple[str, ...]) -> tuple[Fault, ...]:
    """Kills and pauses, each kind spread over the work: one somewhere in each of equal parts."""
    faults = []
    for kind, count in ((Kind.KILL, max(inputs // 25, 2)), (Kind.PAUSE, max(inputs // 66, 1))):
        part = inputs * (FAULTS_TO - FAULTS_FROM) / count
        for i in range(count):
            after = int(inputs * FAULTS_FROM + (i + dice.random()) * part)
            stage, restart_ms = dice.choice(list(Stage)), dice.randrange(250)
            faults.append(Fault(after, kind, dice.choice(workers), stage, restart_ms))
    return tuple(sorted(faults, key=lambda fault: fault.after))
