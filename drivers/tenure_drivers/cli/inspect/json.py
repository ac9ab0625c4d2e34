"""Sessions and events as JSON objects; the tables of `tenure inspect` are made from them."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from tenure.event import Event, EventKind
from tenure.failure import LastFailure
from tenure.kind import Kind
from tenure.machines.lease import Held
from tenure.machines.run import Done, Rescheduled, Running
from tenure.machines.run import Waiting as WaitingRun
from tenure.questions.core import InputStatus, TranscriptLine
from tenure.questions.inspect import SessionDetail, SessionSummary, Waiting
from tenure.records import EventBatch, Frame, JournalEntry, Run, Session

__all__ = ["detail", "events", "last_failure", "summary"]


def lease(session: Session, now_ms: int) -> dict[str, Any] | None:
    """Return the session's lease, or None if it is vacant."""
    held = session.lease
    if not isinstance(held, Held):
        return None
    process = held.owner.process
    return {
        "owner_id": held.owner.owner_id,
        "incarnation_id": held.owner.incarnation_id,
        "host": process.host if process else None,
        "pid": process.pid if process else None,
        "generation": held.generation,
        "run_id": session.lease_run,
        "expires_at_ms": held.expires_at_ms,
        "remaining_ms": held.expires_at_ms - now_ms,
    }


def session(row: Session, now_ms: int) -> dict[str, Any]:
    """Return the fields of a session row."""
    return {
        "session": row.session_id,
        "kind": (row.kind or Kind.SESSION).value,
        "phase": row.phase.value,
        "lease": lease(row, now_ms),
        "generation": row.lease.generation,
        "open_run": row.open_run,
        "frame": row.frame_id,
        "agent": row.agent,
        "due_at_ms": row.due_at_ms,
        "revision": row.revision,
        "events": row.next_event - 1,
        "changed_at_ms": row.changed_at_ms,
    }


def frame(one: Frame) -> dict[str, Any]:
    """Return a frame, with the names of its states."""
    return {
        "frame": one.frame_id,
        "agent": one.agent,
        "status": one.status.value,
        "previous": one.previous,
        "reason": one.reason,
        "opened_at_ms": one.opened_at_ms,
        "leaf": None if one.leaf is None else one.leaf.node_id,
        "states": [each.name for each in one.states],
    }


def summary(seen: SessionSummary, now_ms: int) -> dict[str, Any]:
    """Return a session with its counts.  `more`: there are more inputs than `unended` counts."""
    return session(seen.session, now_ms) | {
        "unfinished_runs": [run.run_id for run in seen.runs],
        "unended": seen.unended,
        "more": seen.more,
    }


def waiting(one: Waiting) -> dict[str, Any]:
    """Return an input that has not ended.  `rank` is None while it is delayed."""
    return status(one.status) | {
        "kind": one.input.kind,
        "key": one.input.key_value,
        "lane": one.queue_entry.lane.value,
        "priority": one.queue_entry.priority,
        "rank": None if one.order[0] else one.order[2],
        "admitted_at_ms": one.input.admitted_at_ms,
        "text": one.input.payload,
    }


def status(one: InputStatus) -> dict[str, Any]:
    """Return the status of an input."""
    return {
        "input_id": one.input_id,
        "status": one.status,
        "run_id": one.run_id,
        "target_run": one.target_run,
        "checkpoint": one.checkpoint,
        "due_at_ms": one.due_at_ms,
        "failures": one.failures,
        "last_failure": last_failure(one.last_failure),
        "termination": one.termination,
        "reason": one.reason,
        "by": one.by,
        "readmitted_as": one.readmitted_as,
    }


def run(one: Run, journal: tuple[JournalEntry, ...]) -> dict[str, Any]:
    """Return a run with its retry state and its journal."""
    return {
        "run_id": one.run_id,
        "state": run_state(one),
        "due_at_ms": one.state.due_at_ms if isinstance(one.state, Rescheduled) else None,
        "turn": one.turn,
        "checkpoints": one.next_checkpoint,
        "progress": one.progress,
        "failures": one.retry.failures,
        "outages": one.retry.outages,
        "losses": one.retry.losses,
        "last_failure": last_failure(one.retry.last),
        "inputs": [c.input_id for c in one.contributors],
        "journal": [entry(e) for e in journal],
    }


def last_failure(one: LastFailure | None) -> dict[str, Any] | None:
    """Return the last reported failure of a run, or None."""
    if one is None:
        return None
    return {"kind": one.kind.value, "message": one.message, "attempt": one.attempt}


def run_state(one: Run) -> str:
    """Return the state of a run as text."""
    match one.state:
        case Running():
            return "running"
        case Rescheduled():
            return "rescheduled"
        case WaitingRun(cause):
            return f"waiting: {cause.value}"
        case Done(termination):
            return f"done: {termination.value}"


def entry(one: JournalEntry) -> dict[str, Any]:
    """Return a journal entry."""
    return {
        "turn": one.turn,
        "n": one.n,
        "i": one.i,
        "kind": one.kind.value,
        "effect_id": one.effect_id,
        "lease_id": one.lease_id,
        "body": one.body,
    }


def line(one: TranscriptLine) -> dict[str, Any]:
    """Return a transcript node with the inputs before it."""
    return {
        "node_id": one.node.node_id,
        "run_id": one.node.run_id,
        "revision": one.node.revision,
        "role": one.node.role.value,
        "at_ms": one.node.at_ms,
        "inputs": [{"input_id": i.input_id, "text": i.payload} for i in one.inputs],
        "text": one.node.body,
    }


def detail(seen: SessionDetail, now_ms: int) -> dict[str, Any]:
    """Return a session in full."""
    return session(seen.overview.session, now_ms) | {
        "inbox": [waiting(one) for one in seen.inbox],
        "runs": [run(one, journal) for one, journal in seen.journals],
        "dead_letters": [status(s) | {"text": i.payload} for s, i in seen.dead],
        "transcript": [line(one) for one in seen.transcript],
        "usage": [asdict(u) for u in seen.overview.usage],
        "frames": [frame(one) for one in seen.frames],
    }


def origin_of(row: EventBatch, one: Event) -> dict[str, Any]:
    """Return the origin and the parent of an admitted input, those that it has."""
    said: dict[str, Any] = {}
    for each in row.origins or ():
        if one.kind is EventKind.INPUT_ADMITTED and each.input_id in one.input_ids:
            said |= {} if each.origin is None else {"origin": each.origin}
            if each.parent is not None:
                said["parent"] = {"session": each.parent.session_id, "run_id": each.parent.run_id}
    return said


def events(row: EventBatch, after: int) -> list[dict[str, Any]]:
    """Return the events of one command with numbers greater than `after`."""
    return [
        {
            "session": row.session_id,
            "seq": seq,
            "at_ms": row.at_ms,
            "kind": one.kind.value,
            "run_id": one.run_id,
            "input_ids": list(one.input_ids),
            "detail": one.detail,
            "correlation_id": one.correlation_id,
            "causation_id": row.causation_id,
            **origin_of(row, one),
        }
        for seq, one in enumerate(row.events, row.seq)
        if seq > after
    ]
