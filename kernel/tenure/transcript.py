"""Nodes, their path digests, and the digest that stamps a commit.  Spec: specs/transcript.md.

The canonical form has a version of its own (`c1:`) and never follows a codec: bodies are hashed as they are,
everything around them as one JSON array with no blanks.
"""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any

from attrs import frozen


class Role(enum.StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"
    IMPORTED = "imported"


class Form(enum.StrEnum):
    """TRANSCRIPT-8: how a body is to be read."""

    TEXT = "text"
    CHAT = "chat"  # canonical JSON of a message (chat.md)
    COMPACTION = "compaction"  # text that stands for everything before it


@frozen
class NewNode:
    """What a turn adds to the transcript.  `body` is opaque text; `call_ids` name the tool calls it makes or answers.

    Its id is made of the run, turn and checkpoint that write it, so it is the same when they are carried out again.
    """

    role: Role
    body: str
    call_ids: tuple[str, ...] = ()
    hidden: bool = False
    form: Form = Form.TEXT


@frozen
class Tip:
    """The end of a path, with the digest of all that leads to it."""

    node_id: str
    path_digest: str


@frozen
class UsageDelta:
    """`input_tokens` counts the whole prompt, `cached_tokens` the part of it that a cache had."""

    source: str
    model: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


_plain = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, sort_keys=True).encode
# What `encode` sets up anew for every value, half of its time; an interpreter without the C accelerator has none.
_make: Any = getattr(json.encoder, "c_make_encoder", None)
_chunks = _make and _make(
    None, None, json.encoder.encode_basestring_ascii, None, ":", ",", True, False, True
)


def _canonical(value: object) -> str:
    return "".join(_chunks(value, 0)) if _chunks else _plain(value)


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_parts(*parts: object) -> str:
    """`c1:` and the SHA-256 of the parts as canonical JSON."""
    return "c1:" + hashlib.sha256(_canonical(parts).encode()).hexdigest()


def hash_content(kind: str, payload: str) -> str:
    """What an idempotency key vouches for."""
    return hash_parts(kind, hash_text(payload))


def hash_node(node: NewNode) -> tuple[object, ...]:
    """What a node contributes to a digest: ids of nodes and times are outside."""
    content = (node.role.value, hash_text(node.body), node.call_ids)
    return content if node.form is Form.TEXT else (*content, node.form.value)


def extend_path(parent: Tip | None, inputs: tuple[str, ...], content: tuple[object, ...]) -> str:
    """TRANSCRIPT-4: the digest of all that leads to a node, itself included."""
    return hash_parts(parent.path_digest if parent else None, inputs, content)
