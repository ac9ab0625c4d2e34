"""Nodes of the transcript, path digests, and the canonical form of digests.  Spec: specs/transcript.md.

The canonical form has its own version (`c1:`) and does not depend on a codec.  Bodies are hashed as they are, all other
parts as one JSON array without blanks.
"""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any, Final

from attrs import frozen

__all__ = [
    "INPUTS_NODE",
    "Form",
    "NewNode",
    "Role",
    "Tip",
    "UsageDelta",
    "extend_path",
    "hash_content",
    "hash_node",
    "hash_parts",
    "hash_text",
]


class Role(enum.StrEnum):
    """Who wrote a node."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    SYSTEM = "system"
    IMPORTED = "imported"


class Form(enum.StrEnum):
    """TRANSCRIPT-8: the format of a body."""

    TEXT = "text"
    CHAT = "chat"  # canonical JSON of a message (chat.md)
    COMPACTION = "compaction"  # text that replaces everything before it
    INPUTS = "inputs"  # empty: the inputs that it names stand in its place (TRANSCRIPT-28)
    added = enum.nonmember({"INPUTS": 2})


@frozen
class NewNode:
    """A new node.  `body` is opaque text; `call_ids` name the tool calls that it makes or answers.

    Its id is made of run, turn and checkpoint, so a repeated command writes the same id.
    """

    role: Role
    body: str
    call_ids: tuple[str, ...] = ()
    hidden: bool = False
    form: Form = Form.TEXT


INPUTS_NODE: Final = NewNode(Role.USER, "", form=Form.INPUTS)  # of what a checkpoint takes


@frozen
class Tip:
    """The last node of a path, with the digest of the path."""

    node_id: str
    path_digest: str


@frozen
class UsageDelta:
    """Model usage to add up.  `input_tokens` counts the whole prompt, `cached_tokens` its cached part."""

    source: str
    model: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


_plain = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, sort_keys=True).encode
# `encode` creates this encoder for every value, which takes half of its time.  Not every interpreter has it.
_make: Any = getattr(json.encoder, "c_make_encoder", None)
_chunks = _make and _make(
    None, None, json.encoder.encode_basestring_ascii, None, ":", ",", True, False, True
)


def _canonical(value: object) -> str:
    return "".join(_chunks(value, 0)) if _chunks else _plain(value)


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_parts(*parts: object) -> str:
    """Return `c1:` and the SHA-256 of the parts as canonical JSON."""
    return "c1:" + hashlib.sha256(_canonical(parts).encode()).hexdigest()


def hash_content(kind: str, payload: str) -> str:
    """Return the digest of an input's content, which must be the same under the same idempotency key."""
    return hash_parts(kind, hash_text(payload))


def hash_node(node: NewNode) -> tuple[object, ...]:
    """Return the parts of a node that enter a digest; node ids and times do not."""
    content = (node.role.value, hash_text(node.body), node.call_ids)
    return content if node.form is Form.TEXT else (*content, node.form.value)


def extend_path(parent: Tip | None, inputs: tuple[str, ...], content: tuple[object, ...]) -> str:
    """TRANSCRIPT-4: return the digest of the path to a node, which includes the node."""
    return hash_parts(parent.path_digest if parent else None, inputs, content)
