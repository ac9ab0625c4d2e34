"""The worlds that are searched every day, each for one matter.

What a world leaves out another one has; none has everything, since that would be too much to search.
"""

from __future__ import annotations

from typing import Final

from ... import commands as c
from ...policy import KeyScope, Lane, OnOtherContent, Policy
from . import operators as o
from .snapshot import LATER
from .states import ModelConfig, Moves

__all__ = [
    "BATCH_LOST",
    "CANCEL",
    "DEFAULT",
    "DELAY",
    "DELAYED",
    "DIRECTIVE",
    "FAILURE",
    "FIRST",
    "INTERRUPT",
    "INTERRUPTS",
    "LEASE",
    "NEXT_ORDER",
    "ONCE",
    "ORDER",
    "PLAIN",
    "PROMPT",
    "REPLACEMENT",
    "SLOTS",
    "STOP",
    "WAKE_1",
    "WAKE_2",
    "WAKE_3",
    "also",
]


PROMPT: Final = (c.NewInput("p", "prompt", "p"),)
DIRECTIVE: Final = (c.NewInput("d", "directive", "d"),)
FIRST: Final = (c.NewInput("q", "prompt", "q", priority=0),)
DELAYED: Final = (c.NewInput("r", "prompt", "r", available_at_ms=LATER),)
DELAYED_DIRECTIVE: Final = (c.NewInput("e", "directive", "e", available_at_ms=LATER),)
WAKE_1: Final = c.NewInput("v", "wake", "v")
WAKE_2: Final = c.NewInput("w", "wake", "w")
WAKE_3: Final = c.NewInput("x", "wake", "x")
REPLACEMENT: Final = c.NewInput("n", "prompt", "n")
OPEN_KEY: Final = Policy(
    Lane.USER, on_other_content=OnOtherContent.ORIGINAL, key_scope=KeyScope.OPEN
)
KEYED_1: Final = (c.NewInput("k", "order", "k", key="one", policy=OPEN_KEY),)
KEYED_2: Final = (c.NewInput("l", "order", "l", key="one", policy=OPEN_KEY),)
SLOT_1: Final = (c.NewInput("s", "wake", "s", supersession_key="one"),)
SLOT_2: Final = (c.NewInput("t", "wake", "t", supersession_key="one"),)

ONCE: Final[Moves] = {
    "idle": ("begin",),
    "begun": ("mark", "commit"),
    "ran": ("report",),
    "found": ("record unknown",),
    "reported": ("commit",),
    "closing": ("close",),
}
PLAIN: Final[Moves] = {"idle": ("begin",), "begun": ("commit",), "closing": ("close",)}
FAILURES: Final = ("fail", "fail for good", "fail at the provider")


def also(moves: Moves, **more: tuple[str, ...]) -> Moves:
    steps = moves.keys() | more.keys()
    return {step: (*moves.get(step, ()), *more.get(step, ())) for step in sorted(steps)}


def clauses(text: str) -> tuple[str, ...]:
    """`LEASE-1,2 RUN-3` is LEASE-1, LEASE-2 and RUN-3."""
    families = [part.split("-") for part in text.split()]
    return tuple(f"{family}-{n}" for family, numbers in families for n in numbers.split(","))


LEASE: Final = ModelConfig(
    "lease",
    "one input with a once step: two workers, crashes, pauses, lost answers",
    (PROMPT,),
    also(ONCE, begun=("renew", "release"), reported=("renew", "release"), marked=("renew",)),
    probes=True,
    expects=clauses("COMMIT-21 FAIL-6 JOURNAL-2,7 LEASE-26 RUN-2 STORE-18"),
)
FAILURE: Final = ModelConfig(
    "failure",
    "one input that fails in every way until it is given up",
    (PROMPT,),
    also(ONCE, begun=FAILURES, reported=FAILURES),
    hour=True,
    count_failures=True,
    expects=clauses("FAIL-2"),
    ends=("consumed", "dead_lettered"),
)
ORDER: Final = ModelConfig(
    "order",
    "a directive that holds, a prompt that passes, one that comes first; retries between them",
    (DIRECTIVE, PROMPT, FIRST),
    also(PLAIN, begun=("fail", "fail at the provider")),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    count_failures=True,
    expects=clauses("FAIL-3"),
    ends=("consumed", "dead_lettered"),
)
DELAY: Final = ModelConfig(
    "delay",
    "inputs that fall due, a clock that is set back",
    (DELAYED, DELAYED_DIRECTIVE),
    also(PLAIN, begun=("fail",)),
    workers=1,
    lose=False,
    clock_back=True,
    count_failures=True,
    expects=clauses("FAIL-4,7 PLACE-1"),
)
BATCH: Final = ModelConfig(
    "batch",
    "wakes that are bound together, fail together, are split and withdrawn",
    ((WAKE_1, WAKE_2),),
    also(ONCE, begun=("fail", "fail for good")),
    (o.withdraw("v"),),
    workers=1,
    count_failures=True,
    ends=("consumed", "dead_lettered", "withdrawn"),
)
BATCH_LOST: Final = ModelConfig(
    "batch-lost",
    "two workers lose a group, and its answers",
    ((WAKE_1, WAKE_2),),
    also(PLAIN, begun=("fail for good",)),
    (o.withdraw("v"), o.withdraw_from("w", Lane.SYSTEM)),
    count_failures=True,
    expects=clauses("FAIL-1 INBOX-26,27 PLACE-8"),
    ends=("consumed", "withdrawn"),
    probes=True,
)
INTERRUPT: Final = ModelConfig(
    "interrupt",
    "an interrupt of one input in every place, under two workers",
    (PROMPT,),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "renew")),
    (o.interrupt(1),),
    ends=("consumed", "superseded"),
)
INTERRUPTS: Final = ModelConfig(
    "interrupts",
    "two interrupts, the second with a replacement, of what is bound and delayed",
    (PROMPT, DELAYED),
    PLAIN,
    (o.interrupt(1), o.interrupt(2, REPLACEMENT)),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    ends=("consumed", "superseded"),
)
CANCEL: Final = ModelConfig(
    "cancel",
    "a run is asked to stop, its input is withdrawn",
    (PROMPT,),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.cancel("r.p"), o.withdraw("p")),
    expects=clauses("CANCEL-1,5"),
    ends=("consumed", "abandoned", "withdrawn"),
    probes=True,
)
STOP: Final = ModelConfig(
    "stop",
    "a session is stopped and opened again",
    (PROMPT, DIRECTIVE),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.stop(), o.reopen(), o.withdraw("d")),
    workers=1,
    lose=False,
    expects=clauses("JOURNAL-5 RUN-4"),
    ends=("consumed", "abandoned", "withdrawn"),
)
STOP_ABANDON: Final = ModelConfig(
    "stop-abandon",
    "a session is stopped, what waits is abandoned",
    (PROMPT, (WAKE_1,)),
    also(ONCE, begun=("renew",), reported=("fail",)),
    (o.stop(True), o.reopen()),
    workers=1,
    lose=False,
    ends=("consumed", "abandoned"),
)
RESET: Final = ModelConfig(
    "reset",
    "a session is reset; what came before is abandoned, what comes after is not",
    (PROMPT, (WAKE_1,)),
    also(ONCE, begun=("fail", "renew")),
    (o.reset(),),
    workers=1,
    lose=False,
    ends=("consumed", "abandoned"),
)
RETIRE: Final = ModelConfig(
    "retire",
    "a session is retired, with and without what is queued",
    (PROMPT, (WAKE_1,)),
    also(PLAIN, begun=("fail", "renew")),
    (o.retire(True), o.retire(), o.reopen()),
    workers=1,
    lose=False,
    probes=True,
    expects=clauses("LEASE-6 PHASE-8"),
    ends=("consumed", "abandoned"),
)
DESTROY: Final = ModelConfig(
    "destroy",
    "a session is destroyed under a live lease; a lease is reclaimed from the dead",
    (PROMPT,),
    ONCE,
    (o.destroy(), o.interrupt(1), o.reclaim()),
    lose=False,
    probes=True,
    expects=clauses("CANCEL-12 COMMIT-4 LEASE-16 PHASE-6,12"),
    ends=("consumed", "abandoned", "superseded"),
)
FENCE: Final = ModelConfig(
    "fence",
    "every holder is fenced off, live or not, after a failover",
    (PROMPT,),
    also(ONCE, begun=("renew",)),
    (o.fence_off(), o.cancel("r.p")),
    ends=("consumed", "abandoned"),
    expects=clauses("LEASE-17,30,31"),
)
AMEND: Final = ModelConfig(
    "amend",
    "a session at rest is changed beside its turns",
    (PROMPT,),
    also(PLAIN, idle=("acquire",), editing=("amend", "leave", "renew"), amended=("leave",)),
)
AMEND_STOP: Final = ModelConfig(
    "amend-stop",
    "a session is stopped while it is changed",
    (PROMPT,),
    also(PLAIN, idle=("acquire",), editing=("amend", "leave"), amended=("leave",)),
    (o.stop(), o.reopen(), o.reclaim()),
    workers=1,
    probes=True,
    expects=clauses("COMMIT-20,22,23 INBOX-3 LEASE-13,23,24,27,28,29 PHASE-3,7,9,11"),
)
NEXT: Final = ModelConfig(
    "next",
    "commits that go on with what comes next under the same lease",
    (PROMPT, DIRECTIVE),
    also(PLAIN, begun=("commit, next",)),
    expects=clauses("COMMIT-11"),
)
NEXT_ORDER: Final = ModelConfig(
    "next-order",
    "what comes next is what stands first, in both lanes",
    (PROMPT, DIRECTIVE, FIRST),
    also(PLAIN, begun=("commit, next", "fail")),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
)
KEYS: Final = ModelConfig(
    "keys",
    "an open key is free again when its holder has ended, or was taken back",
    (KEYED_1, KEYED_2),
    also(PLAIN, begun=("fail",)),
    (o.interrupt(1), o.withdraw("k")),
    workers=1,
    lose=False,
    probes=True,
    expects=clauses(
        "CANCEL-2,4,8,9,10,11 COMMIT-1,3,5,6,7,8,10 FAIL-5,8,10,11,12,13,14 "
        "INBOX-1,2,4,5,8,12,13,14,20,21,22,23,24,29 JOURNAL-1,3,4,6 "
        "LEASE-1,3,4,5,7,8,9,10,11,14,15,20,21,22,25,32 PHASE-1,2,5 PLACE-3,5,7 RUN-1,3,5,6 "
        "STORE-19 SWEEP-1,2"
    ),
    ends=("consumed", "superseded", "withdrawn"),
)
SLOTS: Final = ModelConfig(
    "slots",
    "a later input takes the place of an earlier one that is ready",
    (SLOT_1, SLOT_2),
    also(PLAIN, begun=("fail",)),
    (o.reset(),),
    workers=1,
    lose=False,
    expects=clauses("PHASE-4,10"),
    ends=("consumed", "superseded", "abandoned"),
)

DEFAULT: Final = (
    *(LEASE, FAILURE, ORDER, DELAY, BATCH, BATCH_LOST, INTERRUPT, INTERRUPTS, CANCEL, STOP),
    *(
        STOP_ABANDON,
        RESET,
        RETIRE,
        DESTROY,
        FENCE,
        AMEND,
        AMEND_STOP,
        NEXT,
        NEXT_ORDER,
        KEYS,
        SLOTS,
    ),
)
