"""The fields of a session that a decision may change.  Spec: specs/store.md."""

from __future__ import annotations

from typing import TypedDict

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
    cancel: Cancel | None
    sweep: bool
    intents_at_ms: int | None
