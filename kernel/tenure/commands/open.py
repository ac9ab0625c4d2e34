"""Open: create a session, also one whose transcript is imported.  Specs: specs/phase.md, specs/import.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..event import EventKind
from ..imports import Import
from ..limits import PAGES_MAX
from ..outcome import Decided, Insert, Refusal, Refused
from ..queries import Command, Each, Get, Reads, read
from ..records import ImportProgress, Phase, Session
from .profile import NewProfile, create_profile, validate_profile
from .session_view import SessionView
from .transaction import Transaction
from .validation import validate_id, validate_text

__all__ = ["Open", "Opened"]


@frozen
class Opened:
    """The session exists."""

    session_id: str


@frozen
class OpenView:
    """The session, if it exists, and its import, if the command begins one."""

    session: Session | None
    imports: tuple[ImportProgress | None, ...]


@frozen
class Open(Command[OpenView, Opened]):
    """Create the session, unless it exists.  Writes its row, one of events, one of an import, and those of the profile.

    `importing`: the session is in the phase IMPORTING until ImportPage has brought all that this promises.
    Refusals: ILLEGAL, and KEY_CONFLICT if the session exists without this import.
    """

    added: ClassVar = {"profile": 2, "importing": 2}
    session_id: str
    profile: NewProfile | None = None
    importing: Import | None = None

    def reads(self) -> Reads[OpenView]:
        key = (self.session_id,)
        progress = () if self.importing is None else (Get(ImportProgress, key),)
        return read(OpenView, Get(Session, key), Each(progress))

    def decide(self, view: OpenView, now_ms: int) -> Decided[Opened] | Refused:
        promised = self.importing
        if view.session is not None:
            if promised is not None and not _is_of(view.imports[0], promised):
                found = view.imports[0] or f"session {self.session_id} is no import"
                return Refused(Refusal.KEY_CONFLICT, "IMPORT-3", found)
            return Decided(Opened(self.session_id), "PHASE-1", replayed=True)
        if problem := validate_id("session_id", self.session_id):
            return Refused(Refusal.ILLEGAL, "INBOX-4", problem)
        if self.profile is not None and (
            problem := validate_profile(self.profile, self.session_id)
        ):
            return Refused(Refusal.ILLEGAL, "PROFILE-3", problem)
        if promised is not None and (problem := _validate(promised)):
            return Refused(Refusal.ILLEGAL, "IMPORT-1", problem)
        phase = Phase.OPEN if promised is None else Phase.IMPORTING
        nothing = SessionView(None, (), (), (), ())
        session = Session(self.session_id, phase)
        tx = Transaction.on(nothing, session, now_ms, self.session_id)
        tx.append_event(EventKind.SESSION_OPENED)
        if self.profile is not None:
            create_profile(tx, self.profile)
        if promised is None:
            return tx.decided(Opened(self.session_id), "PHASE-2")
        values = (promised.pages, promised.digest, promised.origin)
        tx.write(Insert(ImportProgress(self.session_id, *values)))
        return tx.decided(Opened(self.session_id), "IMPORT-1")


def _is_of(progress: ImportProgress | None, promised: Import) -> bool:
    """IMPORT-3: return whether this import was promised before."""
    return progress is not None and promised == Import(
        progress.pages, progress.digest, progress.origin
    )


def _validate(promised: Import) -> str | None:
    if not 0 < promised.pages <= PAGES_MAX:
        return f"pages {promised.pages}: expected 1 to {PAGES_MAX}"
    if promised.origin is not None and (problem := validate_text("origin", promised.origin)):
        return problem
    return validate_id("digest", promised.digest)
