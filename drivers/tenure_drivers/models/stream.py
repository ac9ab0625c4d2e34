"""Assemble a reply from the chunks of a stream."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Container
from typing import Final

import msgspec
from attrs import define, evolve, field

from tenure.failure import ErrorKind, Failure
from tenure.limits import USAGE_COUNT_MAX
from tenure.messages.types import Delta, Finish, Reply, ToolCall
from tenure.transcript import UsageDelta

from .chunks import (
    Chunk,
    CompletionDetails,
    Counts,
    Fragment,
    Function,
    Malformed,
    Piece,
    PromptDetails,
)

__all__ = ["CONNECTION_LOST", "Assembly"]


CALL_ID: Final = re.compile(r"[!-~]{1,200}")
FINISHES: Final = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP,
    "complete": Finish.STOP,
    "completed": Finish.STOP,
    "length": Finish.OUTPUT_LIMIT,
    "max_tokens": Finish.OUTPUT_LIMIT,
    "max_output_tokens": Finish.OUTPUT_LIMIT,
    "tool_calls": Finish.TOOL_CALLS,
    "tool_use": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "safety": Finish.CONTENT_FILTER,
    "recitation": Finish.CONTENT_FILTER,
    "prohibited_content": Finish.CONTENT_FILTER,
    "model_length": Finish.CONTEXT_OVERFLOW,
    "model_context_window_exceeded": Finish.CONTEXT_OVERFLOW,
}
REFUSAL: Final = "refusal"  # as some servers call it when the model will not answer
CONNECTION_LOST: Final = (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)
BROKEN: Final = {  # the server failed in the middle of the reply
    "error": ErrorKind.UNAVAILABLE,
    "network_error": ErrorKind.UNAVAILABLE,
    "abort": ErrorKind.UNAVAILABLE,
    "aborted": ErrorKind.UNAVAILABLE,
    "cancelled": ErrorKind.UNAVAILABLE,
    "insufficient_system_resource": ErrorKind.OVERLOADED,
    "malformed_function_call": ErrorKind.TRANSIENT,
}


@define
class Slot:
    """A call that is being received."""

    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(factory=list)


@define
class Assembly:
    """The state of a reply that is being received."""

    source: str
    model: str
    emit: Callable[[Delta], None]
    texts: list[str] = field(factory=list)
    reasonings: list[str] = field(factory=list)
    refusals: list[str] = field(factory=list)
    slots: list[Slot] = field(factory=list)
    places: dict[int, Slot] = field(factory=dict)  # by the index of the fragments
    finish: str | None = None
    counts: Counts | None = None

    @property
    def whole(self) -> bool:
        """True if the server has sent the finish reason."""
        return self.finish is not None

    @property
    def begun(self) -> bool:
        """True if some content has arrived."""
        return bool(self.texts or self.reasonings or self.refusals or self.slots)

    def take(self, chunk: Chunk) -> None:
        """Add a chunk, and emit its pieces."""
        if chunk.usage is not None:
            self.count(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index:  # another reply to the same request
                continue
            if choice.message is not None:
                for i, fragment in enumerate(choice.message.tool_calls or ()):
                    fragment.index = i
            if (piece := choice.delta or choice.message) is not None:
                self._take_piece(piece)
            self.finish = choice.finish_reason or self.finish

    def count(self, usage: object) -> None:
        """Store the usage; the last one counts.  Usage that cannot be read is ignored."""
        try:
            self.counts = msgspec.convert(usage, Counts, strict=False)
        except msgspec.ValidationError:
            pass

    def _take_piece(self, piece: Piece) -> None:
        lists = {"reasoning": self.reasonings, "text": self.texts, "refusal": self.refusals}
        for kind, text in piece.texts():
            lists[kind].append(text)
            self.emit(Delta("reasoning" if kind == "reasoning" else "text", text))
        for fragment in piece.tool_calls or ():
            self._take_fragment(fragment)

    def _take_fragment(self, fragment: Fragment) -> None:
        slot, function = self._slot(fragment), fragment.function or Function()
        if fragment.call_id and not slot.call_id:
            slot.call_id = fragment.call_id
        if function.name and not slot.name:
            slot.name = function.name
            self.emit(Delta("call", f"{function.name} "))
        if function.text:
            slot.arguments.append(function.text)
            self.emit(Delta("call", function.text))

    def _slot(self, fragment: Fragment) -> Slot:
        """Return the call of a fragment: that of its index, or the last one if it has no index."""
        slot = self.places.get(fragment.index or 0)
        if fragment.index is None and self.slots:
            slot = self.slots[-1]
        if slot is None or _begins_call(fragment, slot):
            slot = Slot()
            self.slots.append(slot)
            self.places[fragment.index or 0] = slot
        return slot

    def failure(self) -> Failure | None:
        """CHAT-23: return the failure of a reply that the server did not complete, or None."""
        if not self.whole:
            failure = Failure(ErrorKind.UNAVAILABLE, "the reply ended too early")
            return self.interrupted(failure)
        word = (self.finish or "").lower()
        if word in BROKEN:
            text = f"the server ended the reply in the middle, with {self.finish!r}"
            return self.interrupted(Failure(BROKEN[word], text))
        empty = not (self.texts or self.refusals or self.slots)
        if empty and word == REFUSAL:
            return Failure(ErrorKind.REFUSED_BY_PROVIDER, "the model will not answer")
        if empty and FINISHES.get(word, Finish.TOOL_CALLS) is Finish.TOOL_CALLS:
            text = f"the reply ended with {self.finish!r} and has no content"
            return Failure(ErrorKind.TRANSIENT, text)
        return None

    def interrupted(self, failure: Failure) -> Failure:
        """CHAT-26: return a lost connection as an interrupted stream if some content had arrived."""
        if self.begun and failure.kind in CONNECTION_LOST:
            return evolve(failure, kind=ErrorKind.STREAM_INTERRUPTED)
        return failure

    def usage(self) -> tuple[UsageDelta, ...]:
        """Return the usage of one request, as far as it was reported."""
        counts = self.counts or Counts()
        prompted = counts.prompt_tokens_details or PromptDetails()
        completed = counts.completion_tokens_details or CompletionDetails()
        found = [
            counts.prompt_tokens,
            counts.completion_tokens,
            prompted.cached_tokens,
            completed.reasoning_tokens,
        ]
        legal = [min(max(n or 0, 0), USAGE_COUNT_MAX) for n in found]
        return (UsageDelta(self.source, self.model, 1, *legal),)

    def reply(self, key: str, known: Container[str]) -> Reply:
        """Return the reply.  `known` are the call ids of the conversation.  Raises Malformed."""
        finish = FINISHES.get((self.finish or "").lower(), Finish.UNKNOWN)
        calls = self._calls(key, known)
        if calls and finish is Finish.STOP:  # some servers report `stop` with calls
            finish = Finish.TOOL_CALLS
        elif not calls and finish is Finish.TOOL_CALLS:
            finish = Finish.UNKNOWN
        text, reasoning = "".join(self.texts), "".join(self.reasonings)
        refusal = "".join(self.refusals)
        if (self.finish or "").lower() == REFUSAL and not refusal:  # CHAT-27
            text, refusal = "", text
        return Reply(text, calls, reasoning, refusal, finish, self.usage())

    def _calls(self, key: str, known: Container[str]) -> tuple[ToolCall, ...]:
        """Return the calls.

        A missing, invalid or duplicate id is replaced by one that is derived from the idempotency key, so that it is
        the same in all attempts.
        """
        calls: list[ToolCall] = []
        for i, slot in enumerate(self.slots):
            if not slot.name:
                raise Malformed(f"call {i + 1} of the reply has no tool name")
            call_id = slot.call_id
            taken = call_id in known or any(call_id == call.call_id for call in calls)
            if taken or not CALL_ID.fullmatch(call_id):
                call_id = f"call_{hashlib.sha256(f'{key} {i}'.encode()).hexdigest()[:24]}"
            calls.append(ToolCall(call_id, slot.name, "".join(slot.arguments)))
        return tuple(calls)


def _begins_call(fragment: Fragment, slot: Slot) -> bool:
    """True if a fragment begins another call than that of its index.

    Some servers send an id with each piece of one call.  Others send every call with the same index.
    """
    function = fragment.function or Function()
    if not function.name or not slot.name:
        return False
    if bool(fragment.call_id) and fragment.call_id != slot.call_id:
        alone = fragment.index is None or function.name != slot.name
        return alone or _is_complete(slot.arguments)
    return not fragment.call_id and bool(function.text) and _is_complete(slot.arguments)


def _is_complete(arguments: list[str]) -> bool:
    try:
        return isinstance(json.loads("".join(arguments)), dict)
    except (ValueError, RecursionError):
        return False
