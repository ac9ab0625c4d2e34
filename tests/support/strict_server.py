"""What a strict model server checks, for the tests of requests: `strictly(script)` refuses what it would refuse."""

from __future__ import annotations

import json
import re
from typing import Any

from model_script import Asked, Raw, Refuse, Say, Script

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CALL_ID = re.compile(r"[!-~]{1,40}")


def strictly(script: Script) -> Script:
    """Return the script behind a check of each request."""

    def check(asked: Asked) -> Say | Refuse | Raw:
        problem = complaint(asked.body)
        if problem is None:
            return script(asked)
        return Refuse(400, problem, "invalid_value", "invalid_request_error")

    return check


def complaint(body: dict[str, Any]) -> str | None:
    """Return the first problem of a request, or None."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "the body contains half of a surrogate pair"
    for tool in body.get("tools", ()):
        if not NAME.fullmatch(tool["function"]["name"]):
            return f"tools: the name {tool['function']['name']!r} does not match the pattern"
    open_ids: list[str] = []
    seen: set[str] = set()
    for at, message in enumerate(body["messages"]):
        problem = _message(message, open_ids, seen)
        if problem is not None:
            return f"messages[{at}]: {problem}"
    return f"no result for the calls {open_ids}" if open_ids else None


def _message(message: dict[str, Any], open_ids: list[str], seen: set[str]) -> str | None:
    content, calls = message.get("content"), message.get("tool_calls")
    blank = not content.strip() if isinstance(content, str) else not content
    if message["role"] == "tool":
        if message["tool_call_id"] not in open_ids:
            return f"a result without a call: {message['tool_call_id']!r}"
        open_ids.remove(message["tool_call_id"])
        return "content must not be empty" if blank else None
    if open_ids:
        return f"no result for the calls {open_ids}"
    if blank and not (message["role"] == "assistant" and calls):
        return "content must not be empty"
    for call in calls or ():
        problem = _call(call, seen)
        if problem is not None:
            return problem
        open_ids.append(call["id"])
    return None


def _call(call: dict[str, Any], seen: set[str]) -> str | None:
    if not CALL_ID.fullmatch(call["id"]):
        return f"tool_calls: the id {call['id']!r} does not match the pattern"
    if call["id"] in seen:
        return f"tool_calls: the id {call['id']!r} was used before"
    seen.add(call["id"])
    if not NAME.fullmatch(call["function"]["name"]):
        return f"tool_calls: the name {call['function']['name']!r} does not match the pattern"
    try:
        found = json.loads(
            call["function"]["arguments"], parse_constant=_refuse, parse_float=_finite
        )
        json.dumps(found, ensure_ascii=False).encode()
    except ValueError as error:
        return f"tool_calls: cannot read the arguments: {error}"
    return None if isinstance(found, dict) else "tool_calls: the arguments are not an object"


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    if abs(float(text)) == float("inf"):
        raise ValueError(f"{text} is out of range")
    return float(text)
