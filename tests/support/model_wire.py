"""Encode replies for the chat-completions protocol.  See model_server.py."""

from __future__ import annotations

import json
from typing import Any

from model_script import Asked, Say, digest_of


def split(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def usage_of(asked: Asked, say: Say) -> dict[str, Any]:
    prompt = len(json.dumps(asked.messages)) // 4
    thought = len(say.reasoning)
    wrote = len(say.text) + sum(len(call.arguments) for call in say.calls) + thought
    return {
        "prompt_tokens": prompt,
        "completion_tokens": wrote,
        "total_tokens": prompt + wrote,
        "prompt_tokens_details": {"cached_tokens": prompt // 2},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def calls_of(asked: Asked, say: Say) -> list[dict[str, Any]]:
    made = []
    for i, call in enumerate(say.calls):
        function = {"name": call.name, "arguments": call.arguments}
        whole: dict[str, Any] = {"type": "function", "function": function}
        if call.call_id is not None:
            whole["id"] = call.call_id or f"call_{digest_of(asked.messages, i)[:24]}"
        made.append(whole)
    return made


def finish_of(say: Say) -> str | None:
    return ("tool_calls" if say.calls else "stop") if say.finish == "" else say.finish


def deltas_of(asked: Asked, say: Say) -> list[dict[str, Any]]:
    """The pieces of an answer; those of several calls come in turns."""
    pieces: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    pieces += [{"reasoning_content": part} for part in split(say.reasoning, say.size)]
    pieces += [{"content": part} for part in split(say.text, say.size)]
    pieces += [{"refusal": part} for part in split(say.refusal, say.size)]
    rows = []
    for i, call in enumerate(calls_of(asked, say)):
        where = {"index": i} if say.indexed else {}
        arguments = split(call["function"]["arguments"], say.size)
        if not say.indexed:  # who sends no index sends whole calls
            arguments = ["".join(arguments)]
        first = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        parts = [where | first] + [where | {"function": {"arguments": part}} for part in arguments]
        rows.append(parts if say.indexed else [where | call])
    for column in range(max(map(len, rows), default=0)):
        pieces += [{"tool_calls": [row[column]]} for row in rows if column < len(row)]
    return pieces


def chunks_of(asked: Asked, say: Say) -> list[str]:
    name = digest_of(asked.messages)[:24]
    head = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": asked.body["model"],
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        return json.dumps(
            head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        )

    chunks = [chunk(delta) for delta in deltas_of(asked, say)]
    if (finish := finish_of(say)) is not None:
        chunks.append(chunk({}, finish))
    if say.usage and (asked.body.get("stream_options") or {}).get("include_usage"):
        chunks.append(json.dumps(head | {"choices": [], "usage": usage_of(asked, say)}))
    return chunks


def completion_of(asked: Asked, say: Say) -> str:
    message: dict[str, Any] = {"role": "assistant", "content": say.text or None}
    message |= {"refusal": say.refusal} if say.refusal else {}
    message |= {"reasoning_content": say.reasoning} if say.reasoning else {}
    message |= {"tool_calls": calls_of(asked, say)} if say.calls else {}
    choice = {"index": 0, "message": message, "finish_reason": finish_of(say)}
    whole = {
        "id": f"chatcmpl-{digest_of(asked.messages)[:24]}",
        "object": "chat.completion",
        "created": 0,
        "model": asked.body["model"],
        "choices": [choice],
    }
    return json.dumps(whole | ({"usage": usage_of(asked, say)} if say.usage else {}))
