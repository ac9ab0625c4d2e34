"""Events: the history of a session.  Spec: specs/event.md.

A command appends its events in its own transaction (EVENT-1), a refusal or a replay appends none (EVENT-4).  An input
that is admitted, begun and finished makes three (EVENT-5).  One event names the end of an input (EVENT-6).  The order of
events in each flow is a table in the page (EVENT-70, EVENT-71, EVENT-72).
"""

from __future__ import annotations

import enum
from typing import ClassVar

from attrs import field, frozen

__all__ = ["Event", "EventKind", "Origin", "Parent"]


class EventKind(enum.StrEnum):
    """What happened."""

    SESSION_OPENED = "session_opened"
    INPUT_ADMITTED = "input_admitted"
    INPUT_PROMOTED = "input_promoted"
    INPUT_ENDED = "input_ended"  # not with its run
    INPUT_READMITTED = "input_readmitted"  # a dead letter: the id of the new input
    INPUT_APPLIED = "input_applied"  # a checkpoint has taken it into a running turn: its number
    RUN_STARTED = "run_started"
    RUN_RESUMED = "run_resumed"
    RUN_FAILED = "run_failed"  # reported by its holder; the next event says what becomes of it
    RUN_RESCHEDULED = "run_rescheduled"
    RUN_FINISHED = "run_finished"
    LEASE_LOST = "lease_lost"
    CANCEL_REQUESTED = "cancel_requested"
    INTERRUPTED = "interrupted"
    RESET = "reset"
    PHASE_CHANGED = "phase_changed"
    AMENDED = "amended"
    REPLAY_DIFFERED = "replay_differed"  # a resumed turn differs from its journal
    RUN_WAITING = "run_waiting"  # its run has parked: the reason, and the ids of its tickets
    TICKET_OPENED = "ticket_opened"
    ERASED = "erased"  # the texts of a destroyed session
    TICKET_SETTLED = "ticket_settled"  # how, by which decision, and by whom
    FRAME_SWITCHED = "frame_switched"  # opened or back, and the id of the frame
    NODES_HIDDEN = "nodes_hidden"  # by an Amend: their ids, with blanks between them
    NODES_SHOWN = "nodes_shown"
    LEAF_MOVED = "leaf_moved"  # by a switch of the frame: the node, or nothing
    UNDELIVERABLE = "undeliverable"  # a command to be sent: its number, target and refusal
    RESENT = "resent"  # one that was undeliverable: its number, and the new one
    JOB_REGISTERED = "job_registered"
    JOB_TAKEN = "job_taken"  # the generation of the lease
    JOB_STARTED = "job_started"  # likewise
    JOB_RESCHEDULED = "job_rescheduled"  # it may be taken again: why, and from when on
    JOB_LEFT = "job_left"  # nobody knows whether its owner is at work: why
    JOB_SIGNALLED = "job_signalled"  # the name and the number of the signal
    JOB_ENDED = "job_ended"  # how, and why
    ABANDON_REQUESTED = "abandon_requested"
    TRIGGER_CHANGED = "trigger_changed"  # made, or its schedule: the revision
    SUBSCRIPTION_CHANGED = "subscription_changed"  # its id, what it is now, and its revision
    OCCURRED = "occurred"  # the source and the key, and for how many subscriptions
    TIMES_PASSED_OVER = "times_passed_over"  # how many times of a schedule do not occur
    added = enum.nonmember(
        {
            "ABANDON_REQUESTED": 2,
            "OCCURRED": 2,
            "SUBSCRIPTION_CHANGED": 2,
            "TIMES_PASSED_OVER": 2,
            "TRIGGER_CHANGED": 2,
            "JOB_ENDED": 2,
            "JOB_LEFT": 2,
            "JOB_REGISTERED": 2,
            "JOB_SIGNALLED": 2,
            "JOB_RESCHEDULED": 2,
            "JOB_STARTED": 2,
            "JOB_TAKEN": 2,
            "ERASED": 2,
            "FRAME_SWITCHED": 2,
            "INPUT_APPLIED": 2,
            "INPUT_READMITTED": 2,
            "RUN_WAITING": 2,
            "TICKET_OPENED": 2,
            "TICKET_SETTLED": 2,
            "LEAF_MOVED": 2,
            "NODES_HIDDEN": 2,
            "NODES_SHOWN": 2,
            "RESENT": 2,
            "UNDELIVERABLE": 2,
        }
    )


@frozen
class Parent:
    """The run for which an input was submitted, in this session or in another one."""

    since: ClassVar = 2
    session_id: str
    run_id: str


@frozen
class Event:
    """One event.  Its number is its position in the session's events."""

    kind: EventKind
    run_id: str | None = None
    input_ids: tuple[str, ...] = ()
    detail: str = ""  # for instance how it ended, until when, which phase
    correlation_id: str | None = None


@frozen
class Origin:
    """Where an admitted input comes from (INBOX-60): an opaque text, and the run on whose behalf it was submitted."""

    since: ClassVar = 2
    input_id: str
    origin: str | None = field(
        repr=lambda o: repr(o) if o is None or len(o) < 80 else f"<{len(o)} characters>"
    )
    parent: Parent | None
