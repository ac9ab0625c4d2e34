"""Named states and the environment: blobs, and who points to them.  Spec: specs/state.md.

The row of a session points to blobs, and so do the rows of its frames that are not active.  Only a Switch changes what
rows of frames point to, so the session's row can say which of its own blobs are held by frames too.  Then a command that
lets go of a blob knows without another read whether it is the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..frame import STATE, CurrentFrame, NamedState, NewState
from ..limits import STATES_MAX
from ..outcome import Drop, Insert, Refusal, Refused, Write
from ..queries import Each, Get
from ..records import Blob, Session
from ..replace import replace
from ..transcript import hash_text
from .nodes import validate_body
from .validation import validate_id

__all__ = [
    "all_changes",
    "blob_queries",
    "digests_of",
    "hash_states",
    "states_of",
    "store_environment",
    "store_states",
    "validate_states",
    "with_current_frame",
    "with_states",
]


# -- what a session's row points to


def states_of(session: Session) -> dict[str, str]:
    """Return the digests of the states of the current frame, by name."""
    current, found = session.current_frame, dict[str, str]()
    if current is not None:
        found = {each.name: each.digest for each in current.states}
    if session.state_digest is not None:
        found[STATE] = session.state_digest
    return found


def digests_of(session: Session) -> set[str]:
    """Return the digests that a session's row names."""
    found = set(states_of(session).values())
    if session.environment_digest is not None:
        found.add(session.environment_digest)
    return found


def with_states(session: Session, states: Mapping[str, str]) -> Session:
    """Return the session with these states, by name."""
    named = tuple([NamedState(name, states[name]) for name in sorted(states) if name != STATE])
    session = replace(session, state_digest=states.get(STATE))
    current = session.current_frame
    if named == (() if current is None else current.states):
        return session
    return with_current_frame(session, replace(current or CurrentFrame(), states=named))


def with_current_frame(session: Session, current: CurrentFrame) -> Session:
    """Return the session with this part about its current frame, which is None if it says nothing."""
    return replace(session, current_frame=None if current == CurrentFrame() else current)


# -- what a command says about states


def all_changes(state: str | None, states: tuple[NewState, ...]) -> tuple[NewState, ...]:
    """STATE-1: return the states of a command, with `state` as the one of that name."""
    return states if state is None else (NewState(STATE, state), *states)


def blob_queries(session_id: str, changes: tuple[NewState, ...]) -> Each[Blob | None]:
    """Return the query of the blobs that exist already, in the order of the changes with a text."""
    texts = [change.text for change in changes if change.text is not None]
    return Each(tuple([Get(Blob, (session_id, hash_text(text))) for text in texts]))


def validate_states(
    session: Session, state: str | None, states: tuple[NewState, ...]
) -> Refused | None:
    """STATE-3: refuse states with illegal names or texts, or too many of them.  COMMIT-8 checks the text of `state`."""
    problem = _problem(session, state, states)
    return None if problem is None else Refused(Refusal.ILLEGAL, "STATE-3", problem)


def _problem(session: Session, state: str | None, states: tuple[NewState, ...]) -> str | None:
    own = states_of(session)
    if not states and (state is None or STATE in own or len(own) < STATES_MAX):
        return None
    changes = all_changes(state, states)
    names = [change.name for change in changes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"state {twice!r} twice"
    for new in states:
        problem = validate_id("state", new.name) or validate_body(new.text or "")
        if problem:
            return problem
    kept = own.keys() - set(names)
    count = len(kept) + sum([change.text is not None for change in changes])
    if count > STATES_MAX or len(changes) > STATES_MAX:
        return f"{max(count, len(changes))} states; at most {STATES_MAX}"
    return None


def hash_states(changes: tuple[NewState, ...]) -> tuple[str | None, list[list[str | None]]]:
    """STATE-7: return what a stamp has of states: the digest of a text for `state`, and the others by name."""
    if not changes:
        return None, []
    digests = {each.name: None if each.text is None else hash_text(each.text) for each in changes}
    state = digests.get(STATE)
    if state is not None:
        del digests[STATE]
    return state, [[name, digests[name]] for name in sorted(digests)]


# -- the writes


def store_states(
    session: Session, changes: tuple[NewState, ...], known: tuple[Blob | None, ...]
) -> tuple[Session, list[Write]]:
    """STATE-2, TRANSCRIPT-5: return the session with these states, and the writes of their blobs.

    `known`: the blobs that exist.
    """
    states, texts = states_of(session), dict[str, str]()
    was = set(states.values())
    for change in changes:
        if change.text is None:
            states.pop(change.name, None)
        else:
            states[change.name] = digest = hash_text(change.text)
            texts[digest] = change.text
    now, environment = set(states.values()), session.environment_digest
    if environment is not None:
        was.add(environment)
        now.add(environment)
    return _repoint(with_states(session, states), was, now, texts, known)


def store_environment(
    session: Session, environment: str, known: tuple[Blob | None, ...]
) -> tuple[Session, list[Write]]:
    """JOURNAL-8: return the session with this environment, and the writes of its blob."""
    digest = hash_text(environment)
    after = replace(session, environment_digest=digest)
    was, now = digests_of(session), digests_of(after)
    return _repoint(after, was, now, {digest: environment}, known)


def _repoint(
    session: Session,
    was: set[str],
    now: set[str],
    texts: Mapping[str, str],
    known: Iterable[Blob | None],
) -> tuple[Session, list[Write]]:
    """STATE-4: write the blobs that the row begins to name, and drop those that nothing names any more.

    `was` and `now` are the digests that it names.  A blob that it begins to name, and that exists, is held by a frame
    (STATE-6).
    """
    if was == now:
        return session, []
    current, writes = session.current_frame, list[Write]()
    shared = set(() if current is None else current.shared)
    stored = {blob.digest for blob in known if blob is not None}
    for digest in sorted(now - was):
        if digest not in stored:
            writes.append(Insert(Blob(session.session_id, digest, texts[digest])))
        elif current is not None and current.frame_count:
            shared.add(digest)
    for digest in sorted(was - now):
        if digest not in shared:
            writes.append(Drop(Blob, (session.session_id, digest)))
        shared.discard(digest)
    if current is not None and shared != set(current.shared):
        session = with_current_frame(session, replace(current, shared=tuple(sorted(shared))))
    return session, writes
