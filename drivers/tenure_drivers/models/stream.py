"""A reply put together from its pieces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container
from typing import Any, Final

import msgspec
from attrs import define, field

from tenure.commands.usage import COUNT_MAX
from tenure.messages.types import Delta, Finish, Reply, ToolCall
from tenure.transcript import UsageDelta

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
    """What came is not of this protocol."""


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class Fragment(msgspec.Struct):
    """Of a call."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Piece(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the same at other servers
    tool_calls: list[Fragment] | None = None


class Choice(msgspec.Struct):
    index: int | None = None
    delta: Piece | None = None
    message: Piece | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class Prompted(msgspec.Struct):
    cached_tokens: int | None = None


class Completed(msgspec.Struct):
    reasoning_tokens: int | None = None


class Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Prompted | None = None
    completion_tokens_details: Completed | None = None


def read_chunk(value: object) -> Chunk:
    try:
        return msgspec.convert(value, Chunk, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"a piece of the reply is malformed: {error}") from None


@define
class Slot:
    """A call on its way."""

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
    places: dict[int, Slot] = field(factory=dict)  # by the index that fragments bear
    finish: str | None = None
    counts: Counts | None = None

    @property
    def whole(self) -> bool:
        return self.finish is not None

    def take(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.count(chunk.usage)
        for choice in chunk.choices or ():
            if choice.index:  # another answer to the same question
                continue
            if choice.message is not None:
                for i, fragment in enumerate(choice.message.tool_calls or ()):
                    fragment.index = i
            if (piece := choice.delta or choice.message) is not None:
                self._take_piece(piece)
            self.finish = choice.finish_reason or self.finish

    def count(self, usage: object) -> None:
        """The last one counts; one that cannot be read does not spoil the reply."""
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
        """Its call: the one of its index, unless its id says that a new one begins; without an index, the last."""
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
        """One request, with what was reported of it so far."""
        counts = self.counts or Counts()
        prompted = counts.prompt_tokens_details or Prompted()
        completed = counts.completion_tokens_details or Completed()
        found = [
            counts.prompt_tokens,
            counts.completion_tokens,
            prompted.cached_tokens,
            completed.reasoning_tokens,
        ]
        legal = [min(max(n or 0, 0), COUNT_MAX) for n in found]
        return (UsageDelta(self.source, self.model, 1, *legal),)

    def reply(self, key: str, known: Container[str]) -> Reply:
        """`known` are the ids of calls that the conversation has already."""
        finish = FINISHES.get(self.finish or "", Finish.UNKNOWN)
        calls = self._calls(key, known)
        if calls and finish is Finish.STOP:  # as several servers have it
            finish = Finish.TOOL_CALLS
        elif not calls and finish is Finish.TOOL_CALLS:
            finish = Finish.UNKNOWN
        text, reasoning = "".join(self.texts), "".join(self.reasonings)
        return Reply(text, calls, reasoning, "".join(self.refusals), finish, self.usage())

    def _calls(self, key: str, known: Container[str]) -> tuple[ToolCall, ...]:
        """Ids that are missing, illegal or taken are made, of the effect's key: the same at every attempt."""
        calls: list[ToolCall] = []
        for i, slot in enumerate(self.slots):
            if not slot.name:
                raise Malformed(f"call {i + 1} of the reply names no tool")
            call_id = slot.call_id
            taken = call_id in known or any(call_id == call.call_id for call in calls)
            if taken or not CALL_ID.fullmatch(call_id):
                call_id = f"call_{hashlib.sha256(f'{key} {i}'.encode()).hexdigest()[:24]}"
            calls.append(ToolCall(call_id, slot.name, "".join(slot.arguments)))
        return tuple(calls)
