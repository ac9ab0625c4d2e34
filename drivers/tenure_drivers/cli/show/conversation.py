"""The conversation of a session as JSON: transcript, inputs that ended without an answer, open turn, inbox."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from tenure.machines.run import Waiting as WaitingRun
from tenure.messages.codec import InvalidMessage, decode
from tenure.messages.types import Attachment, Message, ToolCall
from tenure.questions.conversation import (
    Conversation,
    ConversationItem,
    EndedInput,
    EnteredInput,
    InboxInput,
    RunEnd,
    Said,
)
from tenure.records import Input, Node, Run, Session, Ticket
from tenure.transcript import Form, Role
from tenure.turn.chat_policy import read_prompt

from ...redaction import without_secrets
from ...runtime.wait_text import waits_for, work_of
from ..inspect.json import last_failure

Item: TypeAlias = dict[str, Any]


# -- as plain data


def items(seen: Conversation) -> list[Item]:
    """Return the conversation in order, each tool result with its call."""
    return list(_joined([i for i in map(_item, seen.items) if i is not None]))


def _item(one: ConversationItem) -> Item | None:
    """Return an item of a conversation as a JSON object; None for one of the inbox."""
    match one:
        case EnteredInput(entered, _, provisional):
            return input_item(entered) | _open(provisional=provisional)
        case Said(node, provisional):
            states = {c.call_id: _state_of(started=c.started) for c in one.open_calls}
            item = node_item(node) | _open(provisional=provisional)
            for call in item["calls"]:
                if call["call_id"] in states:
                    call["state"] = states[call["call_id"]]
            return item
        case RunEnd(run_id, termination, reason):
            return {
                "kind": "end",
                "run_id": run_id,
                "termination": termination.value,
                "reason": reason,
            }
        case EndedInput(entered, _, how, reason):
            return input_item(entered) | {"ended": how, "detail": reason}
        case InboxInput():
            return None


def _open(*, provisional: bool) -> Item:
    return {"open": True} if provisional else {}


def _state_of(*, started: bool) -> str:
    return "started" if started else "not answered yet"


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


def _joined(found: Iterable[Item]) -> Iterator[Item]:
    """Attach each result to the last call with its id; a result without a call stays an item of its own."""
    waiting: dict[str, Item] = {}
    whole: list[Item] = []
    for item in found:
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
    yield from whole


def as_json(seen: Conversation) -> Item:
    """Return a conversation as a JSON object: the output of `tenure show --json`."""
    session, run = seen.session, seen.open_turn
    return {
        "session": session.session_id,
        "phase": session.phase.value,
        "revision": session.revision,
        "open_run": None if run is None else run.run_id,
        "run_state": None if run is None else _state(session, run),
        "tickets": [_ticket(each) for each in seen.tickets],
        "failures": None if run is None else run.retry.failures,
        "last_failure": None if run is None else last_failure(run.retry.last),
        "more_before": seen.before is not None,
        "before": None if seen.before is None else f"{seen.before[0]}:{seen.before[1]}",
        "erased": session.erased,
        "conversation": items(seen),
        "inbox": [
            input_item(one.waiting.input)
            | {
                "status": one.waiting.status.status,
                "due_at_ms": one.waiting.status.due_at_ms,
                "target_run": one.waiting.status.target_run,
                "last_failure": last_failure(one.waiting.status.last_failure),
            }
            for one in seen.items
            if isinstance(one, InboxInput)
        ],
    }


def _state(session: Session, run: Run) -> str:
    if session.cancel is not None and session.cancel.run_id == run.run_id:
        return "cancel requested"
    if isinstance(run.state, WaitingRun):
        return waits_for(run.state.cause, ())
    return "running" if session.lease_run == run.run_id else "interrupted, will be resumed"


def _ticket(ticket: Ticket) -> Item:
    return {
        "ticket": ticket.ticket_id,
        "kind": ticket.kind.value,
        "prompt": without_secrets(ticket.prompt),
        "offers": [each.value for each in ticket.offers],
        "deadline_ms": ticket.deadline_ms,
        "awaits": None if ticket.awaits is None else work_of(ticket.awaits),
    }


__all__ = ["as_json", "items"]
