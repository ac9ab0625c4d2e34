"""The conversation of a session as JSON: transcript, inputs that ended without a message, open turn, inbox."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import frozen

from tenure.event import EventKind
from tenure.indexes import EVENT_BATCHES
from tenure.machines.input import Ended, How
from tenure.machines.run import Done, Termination
from tenure.messages.codec import InvalidMessage, decode
from tenure.messages.types import Attachment, Message, ToolCall
from tenure.queries import First, Get, Question
from tenure.questions.core import LoadOverview, LoadTranscript, Overview, TranscriptLine
from tenure.questions.inspect import Steps, Waiting, load_waiting
from tenure.questions.open_turn import OpenTurn, load_open_turn
from tenure.records import (
    EventBatch,
    Input,
    JournalEntry,
    Node,
    QueueEntry,
    Run,
    Session,
)
from tenure.transcript import Form, Role
from tenure.turn.chat_policy import read_prompt

from ..inspect.json import last_failure

PAGE: Final = 256
UNENDED: Final = ("delayed", "ready", "bound")
PAGES_MAX: Final = 64  # pages of events searched for inputs that ended without a message
ENDS: Final = (EventKind.INPUT_ENDED, EventKind.RUN_FINISHED)
Item: TypeAlias = dict[str, Any]


@frozen
class Conversation:
    """A conversation, loaded from one snapshot.

    `ended` are the inputs that ended without a message.
    """

    overview: Overview
    more: bool  # there are nodes before the first line
    lines: tuple[TranscriptLine, ...]
    runs: dict[str, Run]
    open_turn: OpenTurn | None
    waiting: tuple[Waiting, ...]
    ended: tuple[tuple[int, QueueEntry, Input, str], ...]  # at_ms, queue entry, input, how it ended


@frozen
class LoadConversation(Question[Conversation | None]):
    """Load the last `limit` nodes with their inputs and runs.  Answers None if there is no such session."""

    session_id: str
    limit: int = 200

    def steps(self) -> Steps:
        at = self.session_id
        overview = yield from LoadOverview(at, PAGE).steps()
        if overview is None:
            return None
        lines = yield from LoadTranscript(at, self.limit).steps()
        more = bool(lines) and lines[0].node.parent is not None
        runs: dict[str, Run] = {run.run_id: run for run in overview.runs}
        for line in lines:
            name = line.node.run_id
            if name is not None and name not in runs:
                runs[name] = yield Get(Run, (at, name))
        open_turn: OpenTurn | None = yield from load_open_turn(overview.session)
        inputs = () if open_turn is None else open_turn.inputs
        listed = {i.input_id for line in lines for i in line.inputs} | {i.input_id for i in inputs}
        unlisted = [status for status in overview.waiting if status.input_id not in listed]
        inbox = yield from load_waiting(at, unlisted)
        waiting = tuple([one for one in inbox if one.status.status in UNENDED])
        superseded = [  # by a mark; Sweep has not written it yet
            (one.input.admitted_at_ms, one.queue_entry, one.input, one.status.status)
            for one in sorted(inbox, key=lambda one: one.queue_entry.seq)
            if one.status.status not in UNENDED
        ]
        listed |= {status.input_id for status in overview.waiting}
        since = lines[0].node.at_ms if more else 0
        ended = (*(yield from self._ended(listed, since)), *superseded)
        return Conversation(overview, more, lines, runs, open_turn, waiting, ended)

    def _ended(self, listed: set[str], since_ms: int) -> Steps:
        """Load inputs that ended without a message: withdrawn, abandoned, dead letters."""
        found: list[tuple[int, QueueEntry, Input, str]] = []
        before: tuple[int, ...] = ()
        for _ in range(PAGES_MAX):
            page: tuple[EventBatch, ...] = yield First(
                EVENT_BATCHES, (self.session_id,), PAGE, before, backwards=True
            )
            for batch in page:
                for event in reversed(batch.events):
                    if event.kind not in ENDS or batch.at_ms < since_ms:
                        continue
                    for name in reversed(event.input_ids):
                        if name not in listed:
                            listed.add(name)
                            queue_entry = yield Get(QueueEntry, (self.session_id, name))
                            entered = yield Get(Input, (self.session_id, name))
                            if queue_entry is not None and entered is not None:
                                found.append((batch.at_ms, queue_entry, entered, event.detail))
            if len(page) < PAGE or page[-1].at_ms < since_ms:
                break
            before = (page[-1].seq,)
        return tuple(reversed(found))


# -- as plain data


def items(seen: Conversation) -> list[Item]:
    """Return the conversation in order, each tool result with its call."""
    listed: list[tuple[int, Item]] = []
    last: str | None = None
    for line in seen.lines:
        node = line.node
        if node.run_id != last and last is not None:
            listed += [(listed[-1][0], end) for end in _end(seen.runs.get(last))]
        last = node.run_id
        listed += [(node.at_ms, input_item(i)) for i in line.inputs]
        if node.form is not Form.INPUTS:  # its inputs stand in its place
            listed += [(node.at_ms, node_item(node))]
    if last is not None:
        listed += [(listed[-1][0], end) for end in _end(seen.runs.get(last))]
    listed = _merged(listed, seen.ended)
    found = [item for _, item in listed]
    turn = seen.open_turn
    if turn is not None:
        known = {i.input_id for line in seen.lines for i in line.inputs}  # of its earlier turns
        found += [item | {"open": True} for item in _open_items(turn, known)]
    return list(_joined(found, () if turn is None else turn.entries))


def _open_items(turn: OpenTurn, known: set[str]) -> Iterator[Item]:
    """Yield the inputs and nodes of the current turn; what it has taken stands where it entered."""
    yield from [input_item(i) for i in turn.bound if i.input_id not in known]
    for node in turn.nodes:
        if node.form is not Form.INPUTS:
            yield node_item(node)
        else:
            yield from [input_item(i) for i in turn.taken if i.input_id in node.inputs]


def _merged(
    listed: list[tuple[int, Item]], silent: Iterable[tuple[int, QueueEntry, Input, str]]
) -> list[tuple[int, Item]]:
    for at_ms, queue_entry, entered, how in silent:
        state = queue_entry.state
        ended = state.how.value if isinstance(state, Ended) else how
        if isinstance(state, Ended) and state.how is How.DEAD_LETTERED:
            how = state.by  # the reason; the event says only that the run ended
        item = input_item(entered) | {"ended": ended, "detail": how}
        position = next((n for n, (at, _) in enumerate(listed) if at > at_ms), len(listed))
        listed.insert(position, (at_ms, item))
    return listed


def _end(run: Run | None) -> Iterator[Item]:
    """Yield an item for a run that ended without finishing."""
    if run is not None and isinstance(run.state, Done):
        if run.state.termination is not Termination.FINISHED:
            yield {
                "kind": "end",
                "run_id": run.run_id,
                "termination": run.state.termination.value,
                "reason": run.state.reason,
            }


def input_item(entered: Input) -> Item:
    """Return an input as a JSON object."""
    text, attachments = read_prompt(entered.payload)
    return {
        "kind": "input",
        "input_id": entered.input_id,
        "input_kind": entered.kind,
        "source": entered.source,
        "audience": entered.policy.audience.value,
        "at_ms": entered.admitted_at_ms,
        "text": text,
        "attachments": [_attachment(a) for a in attachments],
    }


def _attachment(one: Attachment) -> Item:
    return {"uri": one.uri, "media_type": one.media_type, "name": one.name}


def node_item(node: Node) -> Item:
    """Return a transcript node as a JSON object."""
    message = _message(node)
    return {
        "kind": "compaction" if node.form is Form.COMPACTION else "message",
        "node_id": node.node_id,
        "run_id": node.run_id,
        "revision": node.revision,
        "at_ms": node.at_ms,
        "role": node.role.value,
        "hidden": node.hidden,
        "text": message.text,
        "reasoning": message.reasoning,
        "refusal": message.refusal,
        "attachments": [_attachment(a) for a in message.attachments],
        "calls": [_call(call) for call in message.calls],
        "answers": list(node.call_ids) if node.role is Role.TOOL else [],
        "is_error": message.is_error,
        "stopped": message.stopped,
    }


def _message(node: Node) -> Message:
    if node.form is Form.CHAT:
        try:
            return decode(node.body)
        except InvalidMessage:
            pass
    return Message(Role.USER, node.body)


def _call(call: ToolCall) -> Item:
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = call.arguments
    return {"call_id": call.call_id, "name": call.name, "arguments": arguments, "result": None}


def _joined(found: Iterable[Item], entries: tuple[JournalEntry, ...]) -> Iterator[Item]:
    """Attach each result to the last call with its id; a result without a call stays an item of its own."""
    waiting: dict[str, Item] = {}
    kept = list(found)
    whole: list[Item] = []
    for item in kept:
        calls = [waiting[i] for i in item.get("answers", ()) if i in waiting]
        for call in calls:
            call["result"] = {
                "text": item["text"], "is_error": item["is_error"],
                "attachments": item["attachments"],
            }  # fmt: skip
            del waiting[call["call_id"]]
        if item.get("answers") and len(calls) == len(item["answers"]):
            continue
        waiting |= {call["call_id"]: call for call in item.get("calls", ())}
        whole.append(item)
    _disambiguate(whole, entries)
    yield from whole


def _disambiguate(whole: list[Item], entries: tuple[JournalEntry, ...]) -> None:
    """Mark the calls of the current turn that have no result as started or not answered yet."""
    replies = [item for item in whole if item.get("open") and item.get("calls")]
    for iteration, item in enumerate(replies, 1):
        for index, call in enumerate(item["calls"]):
            about = [e for e in entries if e.effect_id == f"{iteration}:tool:{index}"]
            if call["result"] is None:
                call["state"] = "started" if about else "not answered yet"


def as_json(seen: Conversation) -> Item:
    """Return a conversation as a JSON object: the output of `tenure show --json`."""
    session: Session = seen.overview.session
    run = None if seen.open_turn is None else seen.open_turn.run
    return {
        "session": session.session_id,
        "phase": session.phase.value,
        "revision": session.revision,
        "open_run": None if run is None else run.run_id,
        "run_state": None if run is None else _state(session, run),
        "failures": None if run is None else run.retry.failures,
        "last_failure": None if run is None else last_failure(run.retry.last),
        "more_before": seen.more,
        "conversation": items(seen),
        "inbox": [
            input_item(one.input)
            | {
                "status": one.status.status,
                "due_at_ms": one.status.due_at_ms,
                "target_run": one.status.target_run,
                "last_failure": last_failure(one.status.last_failure),
            }
            for one in seen.waiting
        ],
    }


def _state(session: Session, run: Run) -> str:
    if session.cancel is not None and session.cancel.run_id == run.run_id:
        return "cancel requested"
    return "running" if session.lease_run == run.run_id else "interrupted, will be resumed"


__all__ = ["Conversation", "LoadConversation", "as_json", "items"]
