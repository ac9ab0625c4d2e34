"""The systems of one session that `tenure check` explores by default.

Each system has one subject.  A system with everything would have too many states.
"""

from __future__ import annotations

from typing import Final

from ...policy import Lane
from . import operators as o
from .configs_frames import ALL as FRAMES
from .configs_import import ALL as IMPORTING
from .configs_waiting import ALL as WAITING
from .pieces import (
    ABANDON,
    AT_REST,
    DELAYED,
    DELAYED_DIRECTIVE,
    DIRECTIVE,
    EDITED,
    FAILURES,
    FIRST,
    FOLLOW_UP,
    GUARD,
    KEYED_1,
    KEYED_2,
    LATER_EDIT,
    ONCE,
    PLAIN,
    PROMPT,
    QUEUED,
    REPLACEMENT,
    REPORT_1,
    REPORT_2,
    REPORT_3,
    REPORT_4,
    SECOND,
    SHORT,
    SLOT_1,
    SLOT_2,
    STEER,
    WAKE_1,
    WAKE_2,
    clauses,
    extended,
)
from .states import ModelConfig, Moves

__all__ = [
    "BARRIER",
    "BATCH_LOST",
    "CANCEL",
    "DEAD",
    "DEFAULT",
    "DELAY",
    "DEBOUNCE",
    "EDITS",
    "FAILURE",
    "INTERRUPT",
    "INTERRUPTS",
    "KEYS",
    "LEASE",
    "NEXT_ORDER",
    "ORDER",
    "PUBLISHING",
    "RETRY",
    "ROLLBACK",
    "SLOTS",
    "STEERING",
    "STEERING_CALLS",
    "STEERING_STOP",
    "STEERING_WAKE",
    "STOP",
    "TAKING",
]


LEASE: Final = ModelConfig(
    "lease",
    "an input with a once step, two workers, crashes, pauses, lost answers",
    (PROMPT,),
    extended(ONCE, begun=("renew", "release"), reported=("renew", "release"), marked=("renew",)),
    probes=True,
    expects=clauses("COMMIT-21 FAIL-6 JOURNAL-2,7 LEASE-26 RUN-2 STORE-18"),
)
FAILURE: Final = ModelConfig(
    "failure",
    "an input that fails in every way until its run is given up",
    (PROMPT,),
    extended(ONCE, begun=FAILURES, reported=FAILURES),
    hour=True,
    count_failures=True,
    expects=clauses("FAIL-2"),
    ends=("consumed", "dead_lettered"),
)
RETRY: Final = ModelConfig(
    "retry",
    "an input with limits of its own for retries fails in every way until its run is given up",
    (SHORT,),
    extended(ONCE, begun=FAILURES, reported=FAILURES),
    hour=True,
    count_failures=True,
    expects=clauses("FAIL-2,4,7"),
    ends=("consumed", "dead_lettered"),
)
ORDER: Final = ModelConfig(
    "order",
    "a directive, a prompt and a prompt with priority; runs that fail and are retried",
    (DIRECTIVE, PROMPT, FIRST),
    extended(PLAIN, begun=("fail", "fail at the provider")),
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
    "delayed inputs; the clock is set back",
    (DELAYED, DELAYED_DIRECTIVE),
    extended(PLAIN, begun=("fail",)),
    workers=1,
    lose=False,
    clock_back=True,
    count_failures=True,
    expects=clauses("FAIL-4,7 PLACE-1 RUN-25"),
)
BATCH: Final = ModelConfig(
    "batch",
    "a group of two wakes: it fails, is split, and one wake is withdrawn",
    ((WAKE_1, WAKE_2),),
    extended(ONCE, begun=("fail", "fail for good")),
    (o.withdraw("v"),),
    workers=1,
    count_failures=True,
    ends=("consumed", "dead_lettered", "withdrawn"),
)
BATCH_LOST: Final = ModelConfig(
    "batch-lost",
    "a group of two wakes, two workers, lost leases and lost answers",
    ((WAKE_1, WAKE_2),),
    extended(PLAIN, begun=("fail for good",)),
    (o.withdraw("v"), o.withdraw_from("w", Lane.SYSTEM)),
    count_failures=True,
    expects=clauses("FAIL-1 INBOX-26,27 PLACE-8"),
    ends=("consumed", "withdrawn"),
    probes=True,
)
INTERRUPT: Final = ModelConfig(
    "interrupt",
    "an interrupt of an input in every state, two workers",
    (PROMPT,),
    extended(ONCE, begun=("fail", "release", "renew"), reported=("fail", "renew")),
    (o.interrupt(1),),
    ends=("consumed", "superseded"),
)
INTERRUPTS: Final = ModelConfig(
    "interrupts",
    "two interrupts of a ready, bound or delayed input; the second has a replacement",
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
    "a run is cancelled, and its input is withdrawn",
    (PROMPT,),
    extended(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.cancel("r.p"), o.withdraw("p")),
    expects=clauses("CANCEL-1,5"),
    ends=("consumed", "abandoned", "withdrawn"),
    probes=True,
)
STOP: Final = ModelConfig(
    "stop",
    "a session is stopped and reopened",
    (PROMPT, DIRECTIVE),
    extended(ONCE, begun=("fail", "release", "renew"), reported=("fail", "release")),
    (o.stop(), o.reopen(), o.withdraw("d")),
    workers=1,
    lose=False,
    expects=clauses("JOURNAL-5 RUN-4"),
    ends=("consumed", "abandoned", "withdrawn"),
)
STOP_ABANDON: Final = ModelConfig(
    "stop-abandon",
    "a session is stopped, and its inputs are abandoned",
    (PROMPT, (WAKE_1,)),
    extended(ONCE, begun=("renew",), reported=("fail",)),
    (o.stop(True), o.reopen()),
    workers=1,
    lose=False,
    ends=("consumed", "abandoned"),
)
RESET: Final = ModelConfig(
    "reset",
    "a session is reset; only the inputs before the reset are abandoned",
    (PROMPT, (WAKE_1,)),
    extended(ONCE, begun=("fail", "renew")),
    (o.reset(),),
    workers=1,
    lose=False,
    ends=("consumed", "abandoned"),
)
RETIRE: Final = ModelConfig(
    "retire",
    "a session is retired, with or without abandoning its inputs",
    (PROMPT, (WAKE_1,)),
    extended(PLAIN, begun=("fail", "renew")),
    (o.retire(True), o.retire(), o.reopen()),
    workers=1,
    lose=False,
    probes=True,
    expects=clauses("LEASE-6 PHASE-8"),
    ends=("consumed", "abandoned"),
)
DESTROY: Final = ModelConfig(
    "destroy",
    "a session is destroyed under a live lease; the lease of a dead worker is reclaimed",
    (PROMPT,),
    ONCE,
    (o.destroy(), o.interrupt(1), o.reclaim()),
    lose=False,
    probes=True,
    expects=clauses("CANCEL-12 COMMIT-4 LEASE-16 PHASE-6,12 STORE-56"),
    ends=("consumed", "abandoned", "superseded"),
)
FENCE: Final = ModelConfig(
    "fence",
    "an operator fences off every holder, as after a failover",
    (PROMPT,),
    extended(ONCE, begun=("renew",)),
    (o.fence_off(), o.cancel("r.p")),
    ends=("consumed", "abandoned"),
    expects=clauses("LEASE-17,30,31"),
)
AMEND: Final = ModelConfig(
    "amend",
    "the transcript is amended between turns",
    (PROMPT,),
    extended(
        PLAIN,
        idle=("acquire",),
        editing=("amend", "release session", "renew"),
        amended=("release session",),
    ),
)
AMEND_STOP: Final = ModelConfig(
    "amend-stop",
    "a session is stopped while its transcript is amended",
    (PROMPT,),
    extended(
        PLAIN, idle=("acquire",), editing=("amend", "release session"), amended=("release session",)
    ),
    (o.stop(), o.reopen(), o.reclaim()),
    workers=1,
    probes=True,
    expects=clauses(
        "COMMIT-20,22,23 FRAME-7 STATE-3,24 INBOX-3 LEASE-13,23,24,27,28,29 PHASE-3,7,9,11 PROFILE-4"
    ),
)
NEXT: Final = ModelConfig(
    "next",
    "commits that begin the next run under the same lease",
    (PROMPT, DIRECTIVE),
    extended(PLAIN, begun=("commit, next",)),
    expects=clauses("COMMIT-11"),
)
NEXT_ORDER: Final = ModelConfig(
    "next-order",
    "commits that begin the next run, in the order of both lanes",
    (PROMPT, DIRECTIVE, FIRST),
    extended(PLAIN, begun=("commit, next", "fail")),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
)
KEYS: Final = ModelConfig(
    "keys",
    "an open key can be used again after its input has ended",
    (KEYED_1, KEYED_2),
    extended(PLAIN, begun=("fail",)),
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
    "a later input supersedes a ready one with the same key",
    (SLOT_1, SLOT_2),
    extended(PLAIN, begun=("fail",)),
    (o.reset(),),
    workers=1,
    lose=False,
    expects=clauses("PHASE-4,10"),
    ends=("consumed", "superseded", "abandoned"),
)

BARRIER: Final = ModelConfig(
    "barrier",
    "a barrier between two prompts; runs that fail and are retried",
    (PROMPT, GUARD, FIRST),
    extended(PLAIN, begun=("fail",)),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    count_failures=True,
    ends=("consumed", "dead_lettered"),
)
DEBOUNCE: Final = ModelConfig(
    "debounce",
    "reports of one slot, ready and delayed: a new one is coalesced with the one that waits",
    (REPORT_1, REPORT_2, REPORT_3, REPORT_4),
    PLAIN,
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    ends=("consumed", "coalesced"),
)
EDITS: Final = ModelConfig(
    "edits",
    "prompts that wait are replaced, delayed and reordered while a worker begins them",
    (PROMPT, SECOND),
    PLAIN,
    (
        o.replace("p", EDITED),
        o.replace("n", LATER_EDIT),
        o.reorder("q", "p"),
        o.interrupt_at_rest(AT_REST),
    ),
    workers=1,
    lose=False,
    probes=True,
    expects=clauses("CANCEL-13 INBOX-30,34,35,36,37,38,39,40,41,42,43,44"),
    ends=("consumed", "superseded"),
)
ROLLBACK: Final = ModelConfig(
    "rollback",
    "a run is rolled back, with or without a once step",
    (PROMPT,),
    extended(ONCE, begun=("report", "renew"), reported=("fail", "release")),
    (o.roll_back(), o.cancel("r.p")),
    workers=1,
    probes=True,
    expects=clauses("COMMIT-24 RUN-24"),
    ends=("consumed", "superseded"),
)
DEAD: Final = ModelConfig(
    "dead",
    "a prompt and a wake become dead letters and are readmitted, one of them twice at once",
    (PROMPT, (WAKE_2,)),
    extended(PLAIN, begun=("fail for good",)),
    (o.readmit("p", "n"), o.readmit("p", "m"), o.readmit("w", "v"), o.stop(), o.reopen()),
    workers=1,
    lose=False,
    probes=True,
    expects=clauses("INBOX-56,57,58 PLACE-31"),
    ends=("consumed", "dead_lettered"),
)
PUBLISHING: Final = ModelConfig(
    "publishing",
    "two publishers give the events of a prompt that fails and is interrupted to a sink; crashes, lost answers",
    (PROMPT,),
    extended(PLAIN, begun=("fail", "renew")),
    (o.interrupt(1),),
    workers=1,
    lose=False,
    publishers=2,
    probes=True,
    expects=clauses("EVENT-61,62,63,64"),
    ends=("consumed", "superseded"),
)
TAKING: Final[Moves] = {
    "idle": ("begin",),
    "begun": ("take", "commit, yields", "take at the end"),
    "closing": ("take", "commit as cancelled"),
}
STEERING: Final = ModelConfig(
    "steering",
    "steering for the run of a prompt, which is interrupted; two workers, lost answers",
    (PROMPT, STEER),
    TAKING,
    (o.interrupt(1),),
    expects=clauses("COMMIT-43 PLACE-30"),
    ends=("consumed", "superseded"),
)
STEERING_STOP: Final = ModelConfig(
    "steering-stop",
    "steering of a run that is cancelled at every point; the steering is abandoned with it",
    (PROMPT, ABANDON, (WAKE_2,)),
    TAKING,
    (o.cancel("r.p"), o.withdraw("s")),
    workers=1,
    probes=True,
    expects=clauses("INBOX-51,52"),
    ends=("consumed", "abandoned", "withdrawn"),
)
STEERING_CALLS: Final = ModelConfig(
    "steering-calls",
    "steering, a follow-up and a queued prompt beside a turn with a call",
    (PROMPT, QUEUED, STEER, FOLLOW_UP),
    extended(
        TAKING, begun=("call",), called=("answer",), reported=("commit, yields", "take at the end")
    ),
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
)
STEERING_WAKE: Final = ModelConfig(
    "steering-wake",
    "a wake for the run of a prompt, which is interrupted or rolled back",
    (PROMPT, (WAKE_2,)),
    {**TAKING, "begun": ("take", "commit, yields")},
    (o.interrupt(1), o.roll_back()),
    workers=1,
    lose=False,
    ends=("consumed", "superseded"),
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
        BARRIER,
        DEBOUNCE,
        EDITS,
        DEAD,
        PUBLISHING,
        STEERING,
        STEERING_STOP,
        STEERING_CALLS,
        STEERING_WAKE,
        ROLLBACK,
        RETRY,
    ),
    *WAITING,
    *FRAMES,
    *IMPORTING,
)
