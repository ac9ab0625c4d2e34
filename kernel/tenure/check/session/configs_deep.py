"""Larger systems of one session, which `tenure check --deep` adds."""

from __future__ import annotations

from typing import Final

from . import operators as o
from .configs import (
    DELAYED,
    DIRECTIVE,
    FIRST,
    ONCE,
    PLAIN,
    PROMPT,
    REPLACEMENT,
    STEER,
    TAKING,
    WAKE_1,
    WAKE_2,
    WAKE_3,
    extended,
)
from .states import ModelConfig

__all__ = ["DEEP"]


LEASE_3: Final = ModelConfig(
    "lease-3", "an input with a once step, three workers", (PROMPT,), ONCE, workers=3, lose=False
)
LEASE_3_LOST: Final = ModelConfig(
    "lease-3-lost",
    "an input with a once step, three workers, lost answers",
    (PROMPT,),
    ONCE,
    workers=3,
)
BATCH_2: Final = ModelConfig(
    "batch-2",
    "two wakes that are admitted one after the other, two workers",
    ((WAKE_1,), (WAKE_2,)),
    extended(ONCE, begun=("fail", "fail for good")),
    (o.withdraw("v"), o.withdraw("w")),
    lose=False,
    count_failures=True,
)
BATCH_3: Final = ModelConfig(
    "batch-3",
    "a group of three wakes, two workers",
    ((WAKE_1, WAKE_2), (WAKE_3,)),
    extended(PLAIN, begun=("fail for good",)),
    (o.withdraw("v"),),
    lose=False,
    count_failures=True,
)
INTERRUPT_2: Final = ModelConfig(
    "interrupt-2",
    "an interrupt of a prompt while a directive waits, two workers",
    (PROMPT, DIRECTIVE),
    extended(ONCE, begun=("fail", "renew")),
    (o.interrupt(1),),
    lose=False,
)
INTERRUPTS_3: Final = ModelConfig(
    "interrupts-3",
    "two interrupts of a prompt, a delayed prompt and a directive",
    (PROMPT, DELAYED, DIRECTIVE),
    PLAIN,
    (o.interrupt(1), o.interrupt(2, REPLACEMENT)),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
)
CANCEL_2: Final = ModelConfig(
    "cancel-2",
    "cancels and withdrawals; failures are counted",
    (PROMPT,),
    extended(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.cancel("r.p"), o.withdraw("p"), o.withdraw_from("p")),
    count_failures=True,
)
NEXT_2: Final = ModelConfig(
    "next-2",
    "commits that begin the next run; once steps",
    (PROMPT, DIRECTIVE),
    extended(ONCE, begun=("commit, next",), reported=("commit, next",)),
    lose=False,
)
NEXT_3: Final = ModelConfig(
    "next-3",
    "commits that begin the next of three inputs, two workers",
    (PROMPT, DIRECTIVE, FIRST),
    extended(PLAIN, begun=("commit, next",)),
)
PHASES: Final = ModelConfig(
    "phases",
    "a session is stopped, retired, reset, reopened and destroyed, two workers",
    (PROMPT,),
    extended(ONCE, begun=("renew",)),
    (o.stop(), o.retire(True), o.reset(), o.reopen(), o.destroy()),
    lose=False,
)
STEERING_2: Final = ModelConfig(
    "steering-2",
    "steering and a wake for the run of a prompt, an interrupt and a cancel; two workers",
    (PROMPT, STEER, (WAKE_2,)),
    TAKING,
    (o.interrupt(1), o.cancel("r.p")),
    lose=False,
)
STEERING_LOST: Final = ModelConfig(
    "steering-lost",
    "steering and a wake for the run of a prompt, an interrupt; two workers, lost answers",
    (PROMPT, STEER, (WAKE_2,)),
    TAKING,
    (o.interrupt(1),),
)
DEEP: Final = (
    *(LEASE_3, LEASE_3_LOST, BATCH_2, BATCH_3, INTERRUPT_2, INTERRUPTS_3, CANCEL_2, NEXT_2),
    *(NEXT_3, PHASES, STEERING_2, STEERING_LOST),
)
