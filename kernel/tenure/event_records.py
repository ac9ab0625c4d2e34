"""The record of the events of one command.  Spec: specs/event.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .event import Event, Origin
from .queries import Record

__all__ = ["EventBatch"]


@frozen
class EventBatch(Record):
    """EVENT-2, EVENT-3: the events of one command, numbered from `seq`.

    `origins`: of the inputs that it has admitted, those that have one; None: none has.
    """

    added: ClassVar = {"origins": 2}
    key: ClassVar = ("session_id", "seq")
    session_id: str
    seq: int
    at_ms: int
    causation_id: str
    events: tuple[Event, ...]
    origins: tuple[Origin, ...] | None = None
