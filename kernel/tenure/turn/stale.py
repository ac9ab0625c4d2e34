"""Reports that nobody waits for (any more).  Spec: specs/turn.md, TURN-60."""

from __future__ import annotations

from typing import Any

from .cancellation import own_record
from .protocol import (
    Begin,
    EnvironmentFailed,
    EnvironmentReady,
    ModelFailed,
    ModelReplied,
    NotRecorded,
    Probed,
    Recorded,
    RetryDue,
    ToolReported,
)
from .reports import asked, known, lands, running, unknowable, waits_for_retry
from .start import own
from .states import (
    AwaitingCheckpoint,
    AwaitingEnvironment,
    AwaitingModel,
    AwaitingTools,
    Preparing,
)

REPORTS: tuple[type, ...] = (
    Begin, EnvironmentReady, EnvironmentFailed, ModelReplied, ModelFailed,
    Recorded, NotRecorded, ToolReported, Probed, RetryDue,
)  # fmt: skip


def is_awaited(s: Any, e: Any) -> bool:
    """This report is of an effect that is under way."""
    match s, e:
        case Preparing(), Begin():
            return True
        case AwaitingEnvironment(), EnvironmentReady() | EnvironmentFailed():
            return own(s, e)
        case AwaitingModel(), ModelReplied() | ModelFailed():
            return asked(s, e)
        case AwaitingCheckpoint(), Recorded():
            return bool(s.key == e.key)
        case AwaitingTools(), Recorded():
            return lands(s, e)
        case ((AwaitingCheckpoint() | AwaitingTools()), NotRecorded()):
            return own_record(s, e)
        case AwaitingTools(), ToolReported():
            return running(s, e)
        case AwaitingTools(), Probed():
            return known(s, e) or unknowable(s, e)
        case AwaitingTools(), RetryDue():
            return waits_for_retry(s, e)
        case _:
            return False
