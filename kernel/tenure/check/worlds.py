"""The worlds that are searched, each for one matter: a small one for every day, some large ones for the night.

What a world leaves out another one has; none has everything, since that would be too much to search.
"""

from __future__ import annotations

from typing import Final

from .. import commands as c
from ..policy import KeyScope, Lane, OnOtherContent, Policy
from . import session_operator as o
from .session_board import LATER
from .session_state import Moves, Setting

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


LEASE: Final = Setting(
    "lease",
    "one input with a once step: two workers, crashes, pauses, lost answers",
    (PROMPT,),
    also(ONCE, begun=("renew", "release"), reported=("renew", "release"), marked=("renew",)),
    probes=True,
)
FAILURE: Final = Setting(
    "failure",
    "one input that fails in every way until it is given up",
    (PROMPT,),
    also(ONCE, begun=FAILURES, reported=FAILURES),
    hour=True,
    trouble=True,
)
ORDER: Final = Setting(
    "order",
    "a directive that holds, a prompt that passes, one that comes first; retries between them",
    (DIRECTIVE, PROMPT, FIRST),
    also(PLAIN, begun=("fail", "fail at the provider")),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    trouble=True,
)
DELAY: Final = Setting(
    "delay",
    "inputs that fall due, a clock that is set back",
    (DELAYED, DELAYED_DIRECTIVE),
    also(PLAIN, begun=("fail",)),
    workers=1,
    lose=False,
    clock_back=True,
    trouble=True,
)
BATCH: Final = Setting(
    "batch",
    "wakes that are bound together, fail together, are split and withdrawn",
    ((WAKE_1, WAKE_2),),
    also(ONCE, begun=("fail", "fail for good")),
    (o.withdraw("v"),),
    workers=1,
    trouble=True,
)
BATCH_LOST: Final = Setting(
    "batch, lost",
    "two workers lose a group, and its answers",
    ((WAKE_1, WAKE_2),),
    also(PLAIN, begun=("fail for good",)),
    (o.withdraw("v"), o.withdraw_from("w", Lane.SYSTEM)),
    trouble=True,
)
INTERRUPT: Final = Setting(
    "interrupt",
    "an interrupt of one input in every place, under two workers",
    (PROMPT,),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "renew")),
    (o.interrupt(1),),
)
INTERRUPTS: Final = Setting(
    "interrupts",
    "two interrupts, the second with a replacement, of what is bound and delayed",
    (PROMPT, DELAYED),
    PLAIN,
    (o.interrupt(1), o.interrupt(2, REPLACEMENT)),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
)
CANCEL: Final = Setting(
    "cancel",
    "a run is asked to stop, its input is withdrawn",
    (PROMPT,),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.cancel("r.p"), o.withdraw("p")),
)
STOP: Final = Setting(
    "stop",
    "a session is stopped and opened again",
    (PROMPT, DIRECTIVE),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.stop(), o.reopen(), o.withdraw("d")),
    workers=1,
    lose=False,
)
STOP_ABANDON: Final = Setting(
    "stop and abandon",
    "a session is stopped, what waits is abandoned",
    (PROMPT, (WAKE_1,)),
    also(ONCE, begun=("renew",), reported=("fail",)),
    (o.stop(True), o.reopen()),
    workers=1,
    lose=False,
)
RESET: Final = Setting(
    "reset",
    "a session is reset; what came before is abandoned, what comes after is not",
    (PROMPT, (WAKE_1,)),
    also(ONCE, begun=("fail", "renew")),
    (o.reset(),),
    workers=1,
    lose=False,
)
RETIRE: Final = Setting(
    "retire",
    "a session is retired, with and without what is queued",
    (PROMPT, (WAKE_1,)),
    also(PLAIN, begun=("fail", "renew")),
    (o.retire(True), o.retire(), o.reopen()),
    workers=1,
    lose=False,
    probes=True,
)
DESTROY: Final = Setting(
    "destroy",
    "a session is destroyed under a live lease; a lease is reclaimed from the dead",
    (PROMPT,),
    ONCE,
    (o.destroy(), o.interrupt(1), o.reclaim()),
    lose=False,
    probes=True,
)
AMEND: Final = Setting(
    "amend",
    "a session at rest is changed beside its turns",
    (PROMPT,),
    also(PLAIN, idle=("acquire",), editing=("amend", "leave", "renew"), amended=("leave",)),
)
AMEND_STOP: Final = Setting(
    "amend and stop",
    "a session is stopped while it is changed",
    (PROMPT,),
    also(PLAIN, idle=("acquire",), editing=("amend", "leave"), amended=("leave",)),
    (o.stop(), o.reopen(), o.reclaim()),
    workers=1,
    probes=True,
)
NEXT: Final = Setting(
    "next",
    "commits that go on with what comes next under the same lease",
    (PROMPT, DIRECTIVE),
    also(PLAIN, begun=("commit, next",)),
)
KEYS: Final = Setting(
    "keys",
    "an open key is free again when its holder has ended, or was taken back",
    (KEYED_1, KEYED_2),
    also(PLAIN, begun=("fail",)),
    (o.interrupt(1), o.withdraw("k")),
    workers=1,
    lose=False,
    probes=True,
)
SLOTS: Final = Setting(
    "slots",
    "a later input takes the place of an earlier one that is ready",
    (SLOT_1, SLOT_2),
    also(PLAIN, begun=("fail",)),
    (o.reset(),),
    workers=1,
    lose=False,
)

DEFAULT: Final = (
    *(LEASE, FAILURE, ORDER, DELAY, BATCH, BATCH_LOST, INTERRUPT, INTERRUPTS, CANCEL, STOP),
    *(STOP_ABANDON, RESET, RETIRE, DESTROY, AMEND, AMEND_STOP, NEXT, KEYS, SLOTS),
)

# -- for the night

LEASE_3: Final = Setting(
    "lease of three", "three workers over one input", (PROMPT,), ONCE, workers=3, lose=False
)
LEASE_3_LOST: Final = Setting(
    "lease of three, lost", "three workers over one input, lost answers", (PROMPT,), ONCE, workers=3
)
BATCH_2: Final = Setting(
    "batch of two",
    "two workers, wakes admitted one by one",
    ((WAKE_1,), (WAKE_2,)),
    also(ONCE, begun=("fail", "fail for good")),
    (o.withdraw("v"), o.withdraw("w")),
    lose=False,
    trouble=True,
)
BATCH_3: Final = Setting(
    "batch of three",
    "a group of three, two workers",
    ((WAKE_1, WAKE_2), (WAKE_3,)),
    also(PLAIN, begun=("fail for good",)),
    (o.withdraw("v"),),
    lose=False,
    trouble=True,
)
INTERRUPT_2: Final = Setting(
    "interrupt of two",
    "an interrupt of a prompt beside a directive, two workers",
    (PROMPT, DIRECTIVE),
    also(ONCE, begun=("fail", "renew")),
    (o.interrupt(1),),
    lose=False,
)
INTERRUPTS_3: Final = Setting(
    "interrupts of three",
    "two interrupts over a prompt, a delayed one and a directive",
    (PROMPT, DELAYED, DIRECTIVE),
    also(PLAIN, begun=("fail",)),
    (o.interrupt(1), o.interrupt(2, REPLACEMENT)),
    workers=1,
    lose=False,
    crash=False,
)
CANCEL_2: Final = Setting(
    "cancel of two",
    "cancels and withdrawals, everything counted",
    (PROMPT,),
    also(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.cancel("r.p"), o.withdraw("p"), o.withdraw_from("p")),
    trouble=True,
)
NEXT_2: Final = Setting(
    "next of two",
    "commits that go on, with once steps",
    (PROMPT, DIRECTIVE),
    also(ONCE, begun=("commit, next",), reported=("commit, next",)),
    lose=False,
)
PHASES: Final = Setting(
    "phases",
    "stop, retire, reset, reopen, destroy, two workers",
    (PROMPT,),
    also(ONCE, begun=("renew",)),
    (o.stop(), o.retire(True), o.reset(), o.reopen(), o.destroy()),
    lose=False,
)
DEEP: Final = (
    *(LEASE_3, LEASE_3_LOST, BATCH_2, BATCH_3, INTERRUPT_2, INTERRUPTS_3, CANCEL_2, NEXT_2),
    PHASES,
)
BY_NAME: Final = {setting.name: setting for setting in (*DEFAULT, *DEEP)}
