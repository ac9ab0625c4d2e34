"""The transcript report of a demo with a chat agent, read from the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs
from attrs import frozen

from tenure.messages.codec import InvalidMessage, decode
from tenure.messages.types import Message
from tenure.questions.core import LoadTranscript, TranscriptLine
from tenure.questions.history import SessionHistory
from tenure.records import EntryKind
from tenure.transcript import Form, Role

from ..stores.base import Store
from .chat import right_answer

__all__ = ["TRANSCRIPT_MEANINGS", "ZERO", "TranscriptReport", "report_transcripts"]


@frozen
class TranscriptReport:
    """The figures of all transcripts.  `died`: how many processes were killed at each fault point."""

    calls: int
    results: int
    unknown: int
    illegal: int
    doubled: int
    once_twice: int
    unwritten: int
    silent: int
    wrong: int
    died: dict[str, int]

    @property
    def holds(self) -> bool:
        """Return True if all figures that must be zero are zero."""
        return not any(getattr(self, name) for name in ZERO)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as a JSON object."""
        return {**attrs.asdict(self), "holds": self.holds}


TRANSCRIPT_MEANINGS: Final[dict[str, str]] = {
    "calls": "tool calls in the transcripts",
    "results": "results in the transcripts",
    "unknown": "once tool calls reported to the model as unknown",
    "illegal": "calls without a result, results without a call",
    "doubled": "surplus results of one call",
    "once_twice": "once tool calls that ran twice under one key",
    "unwritten": "lines reported as written, not in the ledger",
    "silent": "prompts without an answer after them",
    "wrong": "wrong answers",
}
ZERO: Final = ("illegal", "doubled", "once_twice", "unwritten", "silent", "wrong")


async def report_transcripts(
    store: Store, histories: tuple[SessionHistory, ...], ledger: tuple[str, ...], *,
    died: dict[str, int], exact: bool,
) -> TranscriptReport:  # fmt: skip
    """Count the figures.  `exact`: compare each answer with the correct one."""
    counts: Counter[str] = Counter()
    keys = Counter(line.split(" ")[1] for line in ledger if line.count(" ") > 1)
    counts["once_twice"] = sum(n - 1 for n in keys.values())
    written = {line.partition(" ")[0] for line in ledger}
    for history in histories:
        lines = await store.ask(LoadTranscript(history.session.session_id))
        _calls(lines, written, counts)
        _answers(lines, counts, exact=exact)
        counts["unknown"] += sum(e.kind is EntryKind.UNKNOWN for e in history.entries)
    return TranscriptReport(**{name: counts[name] for name in TRANSCRIPT_MEANINGS}, died=died)


def _calls(lines: tuple[TranscriptLine, ...], written: set[str], counts: Counter[str]) -> None:
    """Count calls and results.  Each call must have exactly one result before the next message."""
    open_: dict[str, str] = {}
    answered: set[str] = set()
    for line in lines:
        message = _message(line)
        if line.node.role is Role.TOOL:
            for call_id in line.node.call_ids:
                counts["results"] += 1
                arguments = open_.pop(call_id, None)
                if arguments is None:
                    counts["doubled" if call_id in answered else "illegal"] += 1
                elif message.text == "written" and not any(n in arguments for n in written):
                    counts["unwritten"] += 1
                answered.add(call_id)
            continue
        counts["illegal"] += len(open_)
        open_ = {call.call_id: call.arguments for call in message.calls}
        answered = set()
        counts["calls"] += len(message.calls)
    counts["illegal"] += len(open_)


def _answers(lines: tuple[TranscriptLine, ...], counts: Counter[str], *, exact: bool) -> None:
    """Check that the last message of each run is an answer, and the correct one if `exact`."""
    for prompts, said in _runs(lines):
        if not said.text or said.role is not Role.ASSISTANT or said.calls:
            counts["silent"] += 1
        elif exact and said.text != right_answer(prompts):
            counts["wrong"] += 1


def _runs(lines: tuple[TranscriptLine, ...]) -> Iterator[tuple[str, Message]]:
    prompts, last, run_id = "", None, None
    for line in lines:
        if line.node.run_id != run_id:
            if last is not None:
                yield prompts, _message(last)
            prompts, run_id = "", line.node.run_id
        prompts = "\n".join([prompts, *[i.payload for i in line.inputs]]).strip()
        last = line
    if last is not None:
        yield prompts, _message(last)


def _message(line: TranscriptLine) -> Message:
    node = line.node
    if node.form is Form.CHAT:
        try:
            return decode(node.body)
        except InvalidMessage:
            pass
    return Message(Role.ASSISTANT if node.role is Role.ASSISTANT else Role.USER, node.body)
