"""The worlds that are searched by night: larger, and with more at once."""

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
    WAKE_1,
    WAKE_2,
    WAKE_3,
    also,
)
from .states import ModelConfig

__all__ = ["DEEP"]


LEASE_3: Final = ModelConfig(
    "lease-3", "three workers over one input", (PROMPT,), ONCE, workers=3, lose=False
)
LEASE_3_LOST: Final = ModelConfig(
    "lease-3-lost", "three workers over one input, lost answers", (PROMPT,), ONCE, workers=3
)
BATCH_2: Final = ModelConfig(
    "batch-2",
    "two workers, wakes admitted one by one",
    ((WAKE_1,), (WAKE_2,)),
    also(ONCE, begun=("fail", "fail for good")),
    (o.withdraw("v"), o.withdraw("w")),
    lose=False,
    count_failures=True,
)
BATCH_3: Final = ModelConfig(
    "batch-3",
    "a group of three, two workers",
    ((WAKE_1, WAKE_2), (WAKE_3,)),
    also(PLAIN, begun=("fail for good",)),
    (o.withdraw("v"),),
    lose=False,
    count_failures=True,
)
INTERRUPT_2: Final = ModelConfig(
    "interrupt-2",
    "an interrupt of a prompt beside a directive, two workers",
    (PROMPT, DIRECTIVE),
    also(ONCE, begun=("fail", "renew")),
    (o.interrupt(1),),
    lose=False,
)
INTERRUPTS_3: Final = ModelConfig(
    "interrupts-3",
    "two interrupts over a prompt, a delayed one and a directive",
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
    "cancels and withdrawals, everything counted",
    (PROMPT,),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.cancel("r.p"), o.withdraw("p"), o.withdraw_from("p")),
    count_failures=True,
)
NEXT_2: Final = ModelConfig(
    "next-2",
    "commits that go on, with once steps",
    (PROMPT, DIRECTIVE),
    also(ONCE, begun=("commit, next",), reported=("commit, next",)),
    lose=False,
)
NEXT_3: Final = ModelConfig(
    "next-3",
    "commits that go on over three inputs, two workers",
    (PROMPT, DIRECTIVE, FIRST),
    also(PLAIN, begun=("commit, next",)),
)
PHASES: Final = ModelConfig(
    "phases",
    "stop, retire, reset, reopen, destroy, two workers",
    (PROMPT,),
    also(ONCE, begun=("renew",)),
    (o.stop(), o.retire(True), o.reset(), o.reopen(), o.destroy()),
    lose=False,
)
DEEP: Final = (
    *(LEASE_3, LEASE_3_LOST, BATCH_2, BATCH_3, INTERRUPT_2, INTERRUPTS_3, CANCEL_2, NEXT_2),
    *(NEXT_3, PHASES),
)
