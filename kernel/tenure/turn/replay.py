"""The journal of a turn, read once into an index: requests and reports from before a crash.  Spec: specs/turn.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import field, frozen

from ..frame import Switch
from ..machines.ticket import Settled
from ..messages.codec import InvalidMessage, decode, from_json, non_defaults, to_json
from ..messages.types import Attachment, Message
from ..records import EntryKind, JournalEntry, Node
from ..replace import replace
from ..transcript import Form, Role, hash_text
from .protocol import HandOff, ToolResult

__all__ = ["EMPTY", "OpenedTicket", "RecordedReport", "Replay", "read_journal", "report_body"]


@frozen
class RecordedRequest:
    """A recorded request and its reply.

    `environment` and `path` are the digests that identify the request (TURN-10).  `path_before` is the path digest of
    the node before the reply; None if the reply is the turn's first node.
    """

    environment: str
    path: str
    message: Message
    path_before: str | None = None


@frozen
class RecordedReport:
    """The recorded report of a call: its result if the node was still missing, and what a node cannot hold."""

    result: ToolResult | None
    hand_off: HandOff | None
    unknown: bool = False


@frozen
class OpenedTicket:
    """A ticket that was opened for a call; `settled` is None while it is open."""

    ticket_id: str
    settled: Settled | None


@frozen
class Replay:
    """The journal of a turn, by iteration and call.

    `replies`, `results` (by call id) and `warnings` come from nodes.  `taken` holds the ids of inputs by iteration.  `reports`, `starts` and `attempts` (the last failed
    one) come from entries, by iteration and call.  `noted` holds the names of noted changes.  `environment` is the
    stored environment as text.  `tickets` are those of calls, by iteration and call.  `highest` is the last call of an iteration that the journal names, and `last` the last
    iteration.  `invalid` says why this is not the journal of such a turn.
    """

    replies: dict[int, RecordedRequest] = field(factory=dict)
    results: dict[int, dict[str, Message]] = field(factory=dict)
    reports: dict[tuple[int, int], RecordedReport] = field(factory=dict)
    starts: frozenset[tuple[int, int]] = frozenset()
    attempts: dict[tuple[int, int], int] = field(factory=dict)
    warnings: dict[int, Message] = field(factory=dict)
    taken: dict[int, tuple[str, ...]] = field(factory=dict)
    noted: frozenset[str] = frozenset()
    tickets: dict[tuple[int, int], OpenedTicket] = field(factory=dict)
    environment: str | None = None
    highest: dict[int, int] = field(factory=dict)
    last: int = 0
    invalid: str | None = None

    @property
    def stored_environment_digest(self) -> str | None:
        """The digest of the stored environment."""
        return None if self.environment is None else hash_text(self.environment)


EMPTY: Final = Replay()


def read_journal(
    entries: Iterable[JournalEntry],
    nodes: Iterable[Node],
    environment: str | None,
    turn: int,
    settled: Mapping[str, Settled],
) -> Replay:
    """Return the index of one turn's journal.

    `entries` are in the order in which they were written.  `settled` are the settlements of its tickets.
    """
    by_id = {node.node_id: node for node in nodes}
    replay = Replay(environment=environment)
    starts: set[tuple[int, int]] = set()
    noted: set[str] = set()
    report: tuple[int, dict[str, Any]] = (0, {})  # the last model report, and its iteration
    path_before: str | None = None
    try:
        for entry in entries:
            if entry.turn != turn:
                continue
            if entry.kind is EntryKind.NODE:
                node = by_id[entry.effect_id]
                _read_node(replay, node, report, path_before)
                path_before = node.path_digest
                continue
            if entry.kind is EntryKind.NOTE:
                noted.add(entry.effect_id)
                continue
            iteration, kind, effect = _parts(entry.effect_id)
            match kind, entry.kind:
                case "model", EntryKind.REPORT:
                    report = iteration, from_json(entry.body)
                case "inputs", EntryKind.TAKEN:
                    replay.taken[iteration] = tuple(entry.body.split())
                case "tool", EntryKind.START:
                    starts.add((iteration, int(effect)))
                case "tool", _:
                    replay.reports[iteration, int(effect)] = _recorded_report(entry)
                case "attempt", _:
                    index, _, attempt = effect.partition(".")
                    replay.attempts[iteration, int(index)] = int(attempt)
                case "approval", EntryKind.TICKET:
                    ticket = OpenedTicket(entry.body, settled.get(entry.body))
                    replay.tickets[iteration, int(effect)] = ticket
                case "wait", EntryKind.WAIT:
                    pass  # its tickets say what came of it
                case _:
                    raise InvalidMessage(f"unexpected entry {entry.kind.value} {entry.effect_id}")
    except (InvalidMessage, KeyError, TypeError, ValueError) as error:
        return Replay(invalid=f"{error.__class__.__name__}: {error}"[:500])
    if report[0] not in (0, *replay.replies):
        return Replay(invalid=f"the report of iteration {report[0]} has no node")
    for iteration, at in (*replay.reports, *starts, *replay.attempts, *replay.tickets):
        replay.highest[iteration] = max(at, replay.highest.get(iteration, 0))
    last = max(
        [*replay.highest, *replay.results, *replay.replies, *replay.warnings, *replay.taken, 0]
    )
    return replace(replay, starts=frozenset(starts), noted=frozenset(noted), last=last)


def _parts(effect_id: str) -> tuple[int, str, str]:
    iteration, kind, effect = effect_id.split(":")
    return int(iteration), kind, effect


def _read_node(
    replay: Replay, node: Node, report: tuple[int, dict[str, Any]], path_before: str | None
) -> None:
    if node.form is Form.INPUTS:
        return  # an entry names them
    if node.form is not Form.CHAT:
        raise InvalidMessage(f"node {node.node_id} is not a message")
    message = decode(node.body)
    iteration, request = report
    if message.role is Role.ASSISTANT:
        if iteration in replay.replies:
            raise InvalidMessage(f"node {node.node_id}: a second reply in iteration {iteration}")
        replay.replies[iteration] = RecordedRequest(
            request["environment"], request["path"], message, path_before
        )
    elif message.role is Role.TOOL:
        if iteration not in replay.replies:
            raise InvalidMessage(f"node {node.node_id}: a result without a reply")
        replay.results.setdefault(iteration, {})[message.call_id or ""] = message
    else:
        replay.warnings[iteration] = message


# -- the body of a report entry


def report_body(result: ToolResult, *, whole: bool) -> str:
    """Return the body of a report entry: the whole result, or only what its node does not hold."""
    found: dict[str, Any] = {}
    if whole:
        found["result"] = {"text": result.text, "is_error": result.is_error} | (
            {"attachments": [non_defaults(each) for each in result.attachments]}
            if result.attachments
            else {}
        )
    if result.hand_off is not None:
        found["hand_off"] = non_defaults(result.hand_off)
    return to_json(found)


def _hand_off(frame: str | dict[str, Any], text: str) -> HandOff:
    return HandOff(Switch(**frame) if isinstance(frame, dict) else frame, text)


def _recorded_report(entry: JournalEntry) -> RecordedReport:
    found = from_json(entry.body)
    hand_off = _hand_off(**found["hand_off"]) if "hand_off" in found else None
    result = None
    if "result" in found:
        fields = found["result"]
        attachments = tuple([Attachment(**each) for each in fields.pop("attachments", ())])
        result = ToolResult(**fields, attachments=attachments, hand_off=hand_off)
    return RecordedReport(result, hand_off, entry.kind is EntryKind.UNKNOWN)
