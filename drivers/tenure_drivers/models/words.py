"""What a server says in an answer that is no reply, as one line of text."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["words_of"]


MESSAGES: Final = ("message", "msg", "detail", "error_description", "error", "errors")
INVISIBLE: Final = re.compile(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->")
TAG: Final = re.compile(r"<[^>]{0,1000}>")
READ_MAX: Final = 10_000
DEPTH_MAX: Final = 8


def words_of(body: Any, depth: int = 0) -> str:
    """Return the message in an error body: an object of any usual shape, text, or HTML without its tags."""
    match body:
        case dict() if depth < DEPTH_MAX:
            found = next((body[name] for name in MESSAGES if body.get(name)), None)
            return _json(body) if found is None else words_of(found, depth + 1)
        case list() if depth < DEPTH_MAX and body and all(isinstance(p, (dict, str)) for p in body):
            return "; ".join([words_of(each, depth + 1) for each in body])
        case str():
            return _text(body)
    return _json(body)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)[:READ_MAX]
    except RecursionError:
        return "JSON that is nested too deeply"


def _text(text: str) -> str:
    text = text[:READ_MAX].strip()
    if re.match(r"(?i)<(!doctype|html|head|body|\?xml)", text):
        text = f"HTML: {TAG.sub(' ', INVISIBLE.sub(' ', text))}"
    return " ".join(text.split())
