"""Parse a file of prompts: check the fields of each line, and derive its idempotency key.

Limits and conflicts are checked in validation.py.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import frozen

from tenure.transcript import hash_content

__all__ = ["KIND", "BadLine", "PromptLine", "parse", "shown"]


KIND: Final = "prompt"
SHOWN_CHARACTERS: Final = 60
FIELDS: Final = {
    "session": (str, "a string"),
    "text": (str, "a string"),
    "key": (str, "a string"),
    "priority": (int, "an integer"),
    "available_at_ms": (int, "an integer"),
}
REQUIRED: Final = ("session", "text")


@frozen
class PromptLine:
    """One prompt.  `key` is that of the line, or derived from its content."""

    number: int
    session: str
    text: str
    key: str
    priority: int | None = None
    available_at_ms: int | None = None


@frozen
class BadLine:
    """An invalid line, and the reason."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


def shown(value: object) -> str:
    """Return a value for an error message: shortened, in printable ASCII."""
    if isinstance(value, dict | list):
        value = json.dumps(value)
    text = ascii(value[:SHOWN_CHARACTERS] if isinstance(value, str) else value)
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        text += "..."
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the non-empty lines with their numbers from 1, without a byte order mark."""
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if raw.strip():
            yield number, raw


def parse(content: bytes, name: str = "") -> tuple[list[PromptLine], list[BadLine]]:
    """Return the valid lines and the invalid ones."""
    lines: list[PromptLine] = []
    bad: list[BadLine] = []
    equal: Counter[str] = Counter()
    for number, raw in numbered(content):
        found = _object(raw)
        problem = found if isinstance(found, str) else _problem(found)
        if isinstance(found, str) or problem is not None:
            bad.append(BadLine(number, str(problem)))
            continue
        lines.append(_line(number, found, name, equal))
    bad += _contradictions(lines)
    wrong = {b.number for b in bad}
    return [line for line in lines if line.number not in wrong], bad


def _object(raw: bytes) -> dict[str, Any] | str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start + 1}"
    twice: list[str] = []
    try:
        found = json.loads(
            text, object_pairs_hook=lambda pairs: _once(pairs, twice), parse_constant=_no_constant
        )
    except RecursionError:
        return f"not usable JSON: nested too deeply: {shown(text)}"
    except ValueError as error:
        return f"not JSON: {error}: {shown(text)}"
    if not isinstance(found, dict):
        return f"not a JSON object: {shown(found)}"
    if twice:
        return f"duplicate field {shown(twice[0])}"
    return found


def _once(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice += [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _problem(found: dict[str, Any]) -> str | None:
    unknown = [name for name in found if name not in FIELDS]
    if unknown:
        return f"unknown field {shown(unknown[0])}; expected {', '.join(FIELDS)}"
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        return f"field '{missing[0]}' is missing"
    for name, value in found.items():
        kind, called = FIELDS[name]
        if type(value) is not kind:  # a bool is not an integer
            return f"{name} is not {called}: {shown(value)}"
    if not found["session"].strip():
        return f"session is blank: {shown(found['session'])}"
    return None


def _line(number: int, found: dict[str, Any], name: str, equal: Counter[str]) -> PromptLine:
    session, text, key = found["session"], found["text"], found.get("key")
    priority, available = found.get("priority"), found.get("available_at_ms")
    if key is None:
        same = _digest(name, session, text, priority, available)
        equal[same] += 1
        key = "run:" + _digest(name, session, text, priority, available, equal[same])
    return PromptLine(number, session, text, key, priority, available)


def _digest(*parts: object) -> str:
    canonical = json.dumps(parts, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _contradictions(lines: Iterable[PromptLine]) -> Iterator[BadLine]:
    """Find lines that use the key of an earlier line of their session with other content."""
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for line in lines:
        digest = hash_content(KIND, line.text)
        number, content = first.setdefault((line.session, line.key), (line.number, digest))
        if content != digest:
            yield BadLine(
                line.number,
                f"key {shown(line.key)} has other content in line {number} of this file",
            )
