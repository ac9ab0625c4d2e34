"""What a command may change in the row of its session.  Spec: specs/store.md."""

from __future__ import annotations

from typing import TypedDict

from ..frame import CurrentFrame
from ..machines import lease as lease_
from ..records import Cancel, Phase
from ..transcript import Tip

__all__ = ["SessionChanges"]


class SessionChanges(TypedDict, total=False):
    """The fields of a session that a command may change; all others follow from its rows."""

    phase: Phase
    lease: lease_.Lease
    lease_run: str | None
    open_run: str | None
    user_mark: int
    system_mark: int
    next_rank: int
    revision: int
    leaf: Tip | None
    state_digest: str | None
    environment_digest: str | None
    frame: str
    current_frame: CurrentFrame | None
    cancel: Cancel | None
    next_node: int | None
    next_outbound: int | None
    sweep: bool
    prune_at_ms: int | None
    erased: bool | None
    intents_at_ms: int | None
    work_at_ms: int | None
    left_since_ms: int | None
    retry_from_ms: int | None
