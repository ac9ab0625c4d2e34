"""The record of a node of the transcript.  Spec: specs/transcript.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .queries import Record
from .transcript import Form, Role

__all__ = ["Node"]


@frozen
class Node(Record):
    """TRANSCRIPT-1: a node of the transcript.  Visible once a commit moves the leaf past it."""

    added: ClassVar = {"seq": 2, "hidden_at_ms": 2, "pruned": 2}
    ignorable: ClassVar = ("seq",)
    key: ClassVar = ("session_id", "node_id")
    payloads: ClassVar = ("body",)
    session_id: str
    node_id: str
    parent: str | None
    run_id: str | None
    revision: int  # the revision in which it becomes visible, if it does
    role: Role
    inputs: tuple[str, ...]  # their payloads precede it in the transcript
    call_ids: tuple[str, ...]
    path_digest: str
    hidden: bool  # on no path and in no projection (TRANSCRIPT-40)
    at_ms: int
    body: str
    form: Form = Form.TEXT
    open_calls: tuple[str, ...] = ()  # a node with open calls cannot be the leaf
    seq: int | None = None  # its number in the order of writing; None: release 1 has written it
    hidden_at_ms: int | None = None  # when an Amend has hidden it; None: it was written as it is
    pruned: bool | None = None  # it is hidden, and its body was removed
