"""The plan of a demo, drawn from the seed alone: one seed gives the same plan on every machine.

The plan fixes which prompts go to which sessions, after how many answers each is submitted, and after how many answers
which worker is killed or paused in which part of a turn.  Timing is not fixed: which session a worker holds at that
moment, and so how many turns are taken over and how many writes are refused.
"""

from __future__ import annotations

import enum
import random
from typing import Final

from attrs import frozen

__all__ = ["Fault", "Kind", "Plan", "Prompt", "Stage", "draw"]


FIRST_SHARE: Final = 0.3  # share of inputs submitted before the first answer
RESERVE_SHARE: Final = (
    0.125  # share of inputs held back until the last fault, so that there is always a turn to hit
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
    """The part of a turn that a fault aims at."""

    THINKING = "thinking"  # before the first record
    WRITING = "writing"  # after the once step has started


class Kind(enum.StrEnum):
    """What is done to a worker."""

    KILL = "kill"
    PAUSE = "pause"


@frozen
class Prompt:
    """One input.  It is submitted once `after` inputs were answered; None: after the last fault, or if all are idle."""

    after: int | None
    session_id: str
    input_id: str
    text: str
    priority: int


@frozen
class Fault:
    """A kill or a pause of a worker, once `after` inputs were answered."""

    after: int
    kind: Kind
    worker: str
    stage: Stage
    restart_ms: int = 0  # delay before a killed worker is started again


@frozen
class Plan:
    """All prompts and faults of a demo, in order."""

    seed: int
    prompts: tuple[Prompt, ...]
    faults: tuple[Fault, ...]
    workers: tuple[str, ...]


def draw(seed: int, inputs: int, sessions: int, workers: int) -> Plan:
    """Return the plan of a seed."""
    dice = random.Random(f"tenure demo {seed}")
    names = tuple(f"worker-{i + 1}" for i in range(workers))
    return Plan(seed, _prompts(dice, inputs, sessions), _faults(dice, inputs, names), names)


def _prompts(dice: random.Random, inputs: int, sessions: int) -> tuple[Prompt, ...]:
    width = len(str(sessions))
    # Each session gets an equal share, in random order.
    whose = [number % sessions for number in range(inputs)]
    dice.shuffle(whose)
    first, reserve = int(inputs * FIRST_SHARE), max(int(inputs * RESERVE_SHARE), 1)
    prompts = []
    for number, session in enumerate(whose):
        after: int | None = None
        if (
            number < inputs - reserve
        ):  # at most the number of earlier prompts, so that it is reached
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
    """Draw kills and pauses.  Each kind is spread over the run: one at a random place in each of equal parts."""
    faults = []
    for kind, count in ((Kind.KILL, max(inputs // 25, 2)), (Kind.PAUSE, max(inputs // 66, 1))):
        part = inputs * (FAULTS_TO - FAULTS_FROM) / count
        for i in range(count):
            after = int(inputs * FAULTS_FROM + (i + dice.random()) * part)
            stage, restart_ms = dice.choice(list(Stage)), dice.randrange(250)
            faults.append(Fault(after, kind, dice.choice(workers), stage, restart_ms))
    return tuple(sorted(faults, key=lambda fault: fault.after))
