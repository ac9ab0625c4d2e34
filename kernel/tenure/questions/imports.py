"""How far the import of a session is.  Spec: specs/import.md."""

from __future__ import annotations

from attrs import frozen

from ..queries import Get, Question
from ..records import ImportProgress
from .core import Steps

__all__ = ["LoadImport"]


@frozen
class LoadImport(Question[ImportProgress | None]):
    """What the import of a session has promised, and how far it is; None if the session is no import."""

    session_id: str

    def steps(self) -> Steps:
        return (yield Get(ImportProgress, (self.session_id,)))
