"""The lines of a file of prompts: their shape, and the key by which each is known again.

What a line may say is here; what a store takes is the kernel's to say (rehearsal.py).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from attrs import frozen

from tenure.transcript import hash_content

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
    """One input of the file.  `key` is the line's own, or made of what it says."""

    number: int
    session: str
    text: str
    key: str
    priority: int | None = None
    available_at_ms: int | None = None


@frozen
class BadLine:
    """A line that cannot be used, and why."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


def shown(value: object) -> str:
    """A value in an error, cut where it is long, safe for any terminal."""
    if isinstance(value, dict | list):
        value = json.dumps(value)
    text = ascii(value[:SHOWN_CHARACTERS] if isinstance(value, str) else value)
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        text += "..."
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that hold anything, by number from 1; a byte order mark before the first is not content."""
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if raw.strip():
            yield number, raw


def parse(content: bytes, name: str = "") -> tuple[list[PromptLine], list[BadLine]]:
    """Read all lines, and what is wrong with those that cannot be used."""
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
        return f"field {shown(twice[0])} stands there twice"
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
        return f"unknown field {shown(unknown[0])}; known are {', '.join(FIELDS)}"
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
    """One key twice in a session is one input: it cannot have two contents."""
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for line in lines:
        digest = hash_content(KIND, line.text)
        number, content = first.setdefault((line.session, line.key), (line.number, digest))
        if content != digest:
            yield BadLine(
                line.number,
                f"key {shown(line.key)} has other content in line {number} of this file",
            )
