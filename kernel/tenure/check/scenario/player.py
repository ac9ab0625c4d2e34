"""Plays scenarios on the kernel alone, without a store.  Spec: specs/README.md.

A scenario consists of blocks with blank lines between them.  A block has comments (`# ..`), a time (`at 1000`,
`at +500`), and a command or question.  `play` writes the answer below `----`.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import attrs
from attrs import frozen

from ...commands import Admission
from ...event import Event
from ...machines.lease import Fence, Held, Owner, Vacant
from ...outcome import Decided, Drop, Hint, Insert, Refused, Write
from ...queries import Command, Question
from ...questions import SessionItem
from ...questions.core import TranscriptLine
from ...records import Contributor, Input, Node
from ...release import RELEASE, decide_at
from ...transcript import Tip
from ...world import EMPTY, World, ask, evolve, key_of
from .text import BARE, NOTHING, ScenarioSyntaxError, read_command, read_question

__all__ = ["Step", "parse", "play", "steps"]


DIVIDER: Final = "----"
SHOWN_MAX: Final = 100
LISTED: Final = ("items", "lines", "nodes", "changes")  # of a page: one in a line
UNSHOWN: Final = frozenset(
    (
        "end_digest",
        *("session_id", "changed_at_ms", "next_event", "admitted_at_ms", "at_ms", "causation_id"),
        *(
            "unfinished_run_count",
            "ready_user_count",
            "ready_system_count",
            "delayed_count",
            "targeted_count",
            "open_ticket_count",
            "frame_count",
            "next_node",
            "node_count",
        ),
        *LISTED,
        *("path_digest", "content_digest", "digest", "size", "policy", "lane", "seq"),
    )
)

Answer: TypeAlias = "Decided[Any] | Refused"


@frozen
class Block:
    """A block of a scenario.  `head` is the text above `----`.  It has a command, a question, or neither."""

    head: str
    at: str | None = None
    command: Command[Any, Any] | None = None
    question: Question[Any] | None = None

    def clock(self, now_ms: int) -> int:
        """Return the time of the block after a block at `now_ms`."""
        if self.at is None:
            return now_ms
        return now_ms + int(self.at) if self.at.startswith("+") else int(self.at)


@frozen
class Step:
    """A played block: a command with its decision, or a question with its answer."""

    block: Block
    now_ms: int
    before: World
    answer: Any
    after: World


# -- reading


def parse(text: str) -> tuple[Block, ...]:
    """Return the blocks of a scenario.  The text below the dividers is ignored."""
    return tuple([_block(raw) for raw in re.split(r"\n\s*\n", text.strip("\n"))])


def _block(raw: str) -> Block:
    head = raw.split(f"\n{DIVIDER}", 1)[0].rstrip()
    at: str | None = None
    lines: list[str] = []
    for line in head.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("at "):
            at = line[3:].strip()
            if not re.fullmatch(r"\+?\d+", at):
                raise ScenarioSyntaxError(f"{line}: expected `at 1000` or `at +500`")
        else:
            lines.append(line)
    if any(not line.startswith(" ") for line in lines[1:]):
        raise ScenarioSyntaxError(f"two commands in one block:\n{head}")
    if not lines:
        return Block(head, at)
    if lines[0].startswith("ask "):
        return Block(head, at, None, read_question(lines[0][4:]))
    return Block(head, at, read_command(lines))


# -- playing


def steps(text: str, world: World = EMPTY, now_ms: int = 0) -> Iterator[Step]:
    """Play a scenario: each block is executed on the world after the previous block."""
    for block in parse(text):
        now_ms = block.clock(now_ms)
        answer: Any = None
        after = world
        if block.command is not None:
            answer = decide_at(RELEASE, block.command, world.load(block.command.reads()), now_ms)
            if isinstance(answer, Decided):
                after = evolve(world, answer.writes)
        elif block.question is not None:
            answer = ask(block.question, world.answer)
        yield Step(block, now_ms, world, answer, after)
        world = after


def play(text: str) -> str:
    """Return the scenario with the actual answers below its dividers."""
    blocks = []
    for step in steps(text):
        if step.block.command is not None:
            shown = show_answer(step.answer, step.before)
        elif step.block.question is not None:
            shown = show_found(step.answer)
        else:
            blocks.append(step.block.head)
            continue
        blocks.append("\n".join([step.block.head, DIVIDER, *shown]))
    return "\n\n".join(blocks) + "\n"


# -- showing


def show_answer(answer: Answer, before: World) -> list[str]:
    """Return the lines for a decision: clause and outcome, rows of the machines, writes, hints."""
    if isinstance(answer, Refused):
        detail = "" if answer.detail is None else f" {show(answer.detail)}"
        return [f"{answer.clause} refused: {answer.reason.value}{detail}"]
    replayed = " (replayed)" if answer.replayed else ""
    lines = [f"{answer.clause} {show(answer.outcome)}{replayed}"]
    if answer.via:
        lines.append(f"  via {', '.join(answer.via)}")
    for write in answer.writes:
        lines.append(f"  {_show_write(write, before)}")
        before = evolve(before, [write])
    return lines + [f"  {_show_hint(hint)}" for hint in answer.hints]


def show_found(answer: Any) -> list[str]:
    """Return the lines for the answer of a question."""
    if isinstance(answer, tuple):
        return [show(each) for each in answer] or ["nothing"]
    if answer is None:
        return ["nothing"]
    listed = [each for name in LISTED for each in getattr(answer, name, ())]
    return [show(answer), *[f"  {show(each)}" for each in listed]]


def _show_hint(hint: Hint) -> str:
    words = [f"! look at {hint.session_id}"]
    if hint.due_at_ms is not None:
        words.append(f"due={hint.due_at_ms}")
    if hint.cancel_run is not None:
        words.append(f"cancel={hint.cancel_run}")
    if hint.steer_run is not None:
        words.append(f"steer={hint.steer_run}")
    if hint.outbound:
        words.append("outbound")
    return " ".join(words)


def _show_write(write: Write, world: World) -> str:
    if isinstance(write, Drop):
        return f"- {write.record.__name__} {_show_key(write.key)}".rstrip()
    record = write.record
    cls: Any = record.__class__
    key = key_of(cls)(record)
    rows = world.tables.get(cls)
    old = None if isinstance(write, Insert) or rows is None else rows.by_key.get(key)
    words = ["+" if old is None else "~", cls.__name__, *([_show_key(key)] if key[1:] else [])]
    for name, value in _fields(record, old):
        words.append(f"{name}={show(value)}" if name != "events" else _show_events(value))
    return " ".join(words)


def _fields(record: Any, old: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a written record that have changed or are not the default."""
    for a in attrs.fields(record.__class__):
        value = getattr(record, a.name)
        known = getattr(old, a.name) if old is not None else a.default
        empty = old is None and not value
        if value != known and not empty and a.name not in UNSHOWN | set(record.key):
            yield a.name, value


def _show_key(key: tuple[str | int, ...]) -> str:
    return "/".join(str(part) for part in key[1:])


def _show_events(event: tuple[Event, ...]) -> str:
    return ", ".join(
        " ".join(
            part
            for part in (
                h.kind.value,
                h.run_id or "",
                " ".join(h.input_ids),
                f"({h.detail})" if h.detail else "",
            )
            if part
        )
        for h in event
    )


def show(value: Any) -> str:
    """Return a value as one short line, without digests and defaults."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "true" if value else "false"
        case enum.StrEnum():
            return value.value
        case str():
            return show_text(value)
        case tuple():
            return f"[{', '.join(show(each) for each in value)}]"
        case Fence() | Owner() | Tip() | Admission() | Contributor() | Vacant() | Held():
            return _show_short(value)
        case TranscriptLine() | Input() | Node():
            return _show_line(value)
        case SessionItem(session, profile):
            return f"{session.session_id} {session.phase.value} {show(profile)}"
        case _ if attrs.has(value.__class__):
            shown = [f"{name}={show(each)}" for name, each in _worth_showing(value)]
            return f"{value.__class__.__name__}({', '.join(shown)})"
        case _:
            return str(value)


def _worth_showing(value: Any) -> Iterator[tuple[str, Any]]:
    for a in attrs.fields(value.__class__):
        each = getattr(value, a.name)
        if each != a.default and each is not None and a.name not in UNSHOWN:
            yield a.name, each


def show_text(text: str) -> str:
    if len(text) > SHOWN_MAX:
        return f"<{len(text)} characters>"
    return text if BARE.fullmatch(text) and text != NOTHING else json.dumps(text)


def _show_short(value: Any) -> str:
    match value:
        case Fence(_, generation, lease_id):
            return f"{generation}:{lease_id}"
        case Owner(owner_id, incarnation_id):
            return f"{owner_id}/{incarnation_id}"
        case Tip(node_id, _):
            return node_id
        case Admission(input_id, how, run_id):
            return f"{how.value} {input_id}" + ("" if run_id is None else f" to {run_id}")
        case Contributor():
            return f"{value.input_id}#{value.rank}"
        case Vacant(generation):
            return f"vacant({generation})"
        case Held():
            owner, until = _show_short(value.owner), value.expires_at_ms
            return f"held({value.generation}:{value.lease_id} {owner} until {until})"
        case _:
            return str(value)


def _show_line(value: Any) -> str:
    match value:
        case TranscriptLine():
            parts = [_show_line(each) for each in (*value.inputs, value.node)]
            return " | ".join(parts)
        case Input():
            return f"{value.kind} {value.input_id} {json.dumps(value.payload)}"
        case _:
            return f"{value.role.value} {value.node_id} {json.dumps(value.body)}"
