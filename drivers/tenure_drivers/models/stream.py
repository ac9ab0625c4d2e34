"""Assemble a reply from the chunks of a stream."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container
from typing import Any, Final

import msgspec
from attrs import define, field

from tenure.limits import USAGE_COUNT_MAX
from tenure.messages.types import Delta, Finish, Reply, ToolCall
from tenure.transcript import UsageDelta

__all__ = ["Assembly", "Chunk", "Malformed", "read_chunk"]


CALL_ID: Final = re.compile(r"[!-~]{1,200}")
FINISHES: Final = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "end_turn": Finish.STOP,
    "length": Finish.OUTPUT_LIMIT,
    "max_tokens": Finish.OUTPUT_LIMIT,
    "tool_calls": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "model_length": Finish.CONTEXT_OVERFLOW,
    "model_context_window_exceeded": Finish.CONTEXT_OVERFLOW,
}


class Malformed(Exception):
    """The server sent data that is not of this protocol."""


class Function(msgspec.Struct):
    """The function of a call."""

    name: str | None = None
    arguments: str | None = None


class Fragment(msgspec.Struct):
    """A piece of a call."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Piece(msgspec.Struct):
    """A piece of a reply, or a whole one."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the name that other servers use
    tool_calls: list[Fragment] | None = None


class Choice(msgspec.Struct):
    """One of the replies to a request; only the first is used."""

    index: int | None = None
    delta: Piece | None = None
    message: Piece | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """An event of the stream."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class PromptDetails(msgspec.Struct):
    """Details of the input tokens."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    """Details of the output tokens."""

    reasoning_tokens: int | None = None


class Counts(msgspec.Struct):
    """The usage of a request."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


def read_chunk(value: object) -> Chunk:
    """Return a chunk from decoded JSON.  Raises Malformed."""
    try:
        return msgspec.convert(value, Chunk, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"malformed data in the reply: {error}") from None


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
        reasoning = piece.reasoning_content or piece.reasoning
        if reasoning:
            self.reasonings.append(reasoning)
            self.emit(Delta("reasoning", reasoning))
        if piece.content:
            self.texts.append(piece.content)
            self.emit(Delta("text", piece.content))
        if piece.refusal:
            self.refusals.append(piece.refusal)
            self.emit(Delta("text", piece.refusal))
        for fragment in piece.tool_calls or ():
            self._take_fragment(fragment)

    def _take_fragment(self, fragment: Fragment) -> None:
        slot, function = self._slot(fragment), fragment.function or Function()
        if fragment.id and not slot.call_id:
            slot.call_id = fragment.id
        if function.name and not slot.name:
            slot.name = function.name
            self.emit(Delta("call", f"{function.name} "))
        if function.arguments:
            slot.arguments.append(function.arguments)
            self.emit(Delta("call", function.arguments))

    def _slot(self, fragment: Fragment) -> Slot:
        """Return the call of a fragment: that of its index, or the last one if it has no index.

        A different id begins a new call.
        """
        slot = self.places.get(fragment.index or 0)
        if fragment.index is None and self.slots:
            slot = self.slots[-1]
        fresh = slot is None or (
            bool(fragment.id) and fragment.id != slot.call_id and bool(slot.call_id or slot.name)
        )
        if slot is None or fresh:
            slot = Slot()
            self.slots.append(slot)
            self.places[fragment.index or 0] = slot
        return slot

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
        finish = FINISHES.get(self.finish or "", Finish.UNKNOWN)
        calls = self._calls(key, known)
        if calls and finish is Finish.STOP:  # some servers report `stop` with calls
            finish = Finish.TOOL_CALLS
        elif not calls and finish is Finish.TOOL_CALLS:
            finish = Finish.UNKNOWN
        text, reasoning = "".join(self.texts), "".join(self.reasonings)
        return Reply(text, calls, reasoning, "".join(self.refusals), finish, self.usage())

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
