"""What a server says in an answer that is no reply, as one line of text."""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["words_of"]


MESSAGES: Final = ("message", "msg", "detail", "error_description", "error", "errors")
INVISIBLE: Final = re.compile(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->")
TAG: Final = re.compile(r"<[^>]{0,1000}>")
READ_MAX: Final = 20_000


def words_of(body: Any) -> str:
    """Return the message in an error body: an object of any usual shape, text, or HTML without its tags."""
    match body:
        case dict():
            found = next((body[name] for name in MESSAGES if body.get(name)), None)
            return _json(body) if found is None else words_of(found)
        case list() if body and all(isinstance(each, (dict, str)) for each in body):
            return "; ".join([words_of(each) for each in body])
        case str():
            return _text(body)
    return _json(body)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _text(text: str) -> str:
    text = text[:READ_MAX].strip()
    if re.match(r"(?i)<(!doctype|html|head|body|\?xml)", text):
        text = f"HTML: {TAG.sub(' ', INVISIBLE.sub(' ', text))}"
    return " ".join(text.split())
