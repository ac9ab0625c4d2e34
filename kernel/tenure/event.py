"""What happened, in the words of the domain.  Spec: specs/event.md.

Appended in the transaction that made it true (EVENT-1), never by a refusal or a replay (EVENT-4); an ordinary item makes
three (EVENT-5).
"""

from __future__ import annotations

import enum

from attrs import frozen


class EventKind(enum.StrEnum):
    SESSION_OPENED = "session_opened"
    INPUT_ADMITTED = "input_admitted"
    INPUT_PROMOTED = "input_promoted"
    INPUT_ENDED = "input_ended"  # outside the end of a run
    RUN_STARTED = "run_started"
    RUN_RESUMED = "run_resumed"
    RUN_RESCHEDULED = "run_rescheduled"
    RUN_FINISHED = "run_finished"
    LEASE_LOST = "lease_lost"
    CANCEL_REQUESTED = "cancel_requested"
    INTERRUPTED = "interrupted"
    RESET = "reset"
    PHASE_CHANGED = "phase_changed"
    AMENDED = "amended"
    REPLAY_DIFFERED = "replay_differed"  # a resumed turn asks otherwise than it did


@frozen
class Event:
    kind: EventKind
    run_id: str | None = None
    input_ids: tuple[str, ...] = ()
    detail: str = ""  # how it ended, until when, which phase
    correlation_id: str | None = None
