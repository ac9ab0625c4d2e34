"""Converts commands and questions to short text and back.  Spec: specs/README.md.

A line has the snake_case name of a class and the values of its fields.  Fields without a default come first, in their
order; the others are `name=value`.  Inputs, entries, nodes, usage and failures of a command are items.  One item may be
at the end of the line; several are on indented lines below it.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from ... import commands, questions
from ...commands import (
    EventType,
    IfIdle,
    Import,
    ImportNode,
    NewAttachment,
    NewEntry,
    NewInput,
    NewOutbound,
    NewProfile,
    NewState,
    NewTicket,
    Parent,
    Rewind,
    RowName,
    Sendable,
    SubscriptionChange,
    Switch,
    Target,
    Then,
)
from ...failure import ErrorKind, Failure, RetryLimits
from ...machines.job import Disposition
from ...machines.lease import Evidence, Fence, LocalProcess, Owner
from ...machines.run import Termination, WaitReason
from ...machines.ticket import Action, Rest, TicketKind
from ...policy import (
    Boundary,
    IfOver,
    Lane,
    Policy,
    WhileWaiting,
)
from ...queries import Command, Question
from ...questions import core
from ...records import Child, EntryKind, Fork, Phase, Root, TicketName, Work
from ...retention import PruneKind, Retention
from ...transcript import Form, NewNode, Role, UsageDelta
from ...trigger_records import Missed, Schedule, StartsInput, StartsJob
from ...verdict import Observed
from .job_values import (
    read_limits,
    read_observed,
    read_process,
    write_limits,
    write_observed,
    write_process,
)
from .policies import read_policy, read_retention, write_policy, write_retention
from .relations import (
    read_pair,
    read_relation,
    read_ticket,
    read_work,
    split_last,
    write_relation,
    write_ticket,
    write_work,
)

__all__ = [
    "BARE",
    "NOTHING",
    "ScenarioSyntaxError",
    "read_command",
    "read_question",
    "write_command",
]


TOKEN: Final = re.compile(r'(?:\w+=)?"(?:[^"\\]|\\.)*"(?:\*\d+)?|[^\s"]+')
QUOTED: Final = re.compile(r'("(?:[^"\\]|\\.)*")(?:\*(\d+))?')
KEYWORD: Final = re.compile(r"(\w+)=(.*)", re.DOTALL)
BARE: Final = re.compile(r"[\w.:/@#+>-]+")
NOTHING: Final = "-"

ENUMS: Final[dict[str, type[enum.StrEnum]]] = {
    "Boundary": Boundary,
    "SubscriptionChange": SubscriptionChange,
    "ErrorKind": ErrorKind,
    "EntryKind": EntryKind,
    "Form": Form,
    "run_.WaitReason": WaitReason,
    "ticket_.Action": Action,
    "ticket_.Rest": Rest,
    "ticket_.TicketKind": TicketKind,
    "PruneKind": PruneKind,
    "WhileWaiting": WhileWaiting,
    "IfIdle": IfIdle,
    "IfOver": IfOver,
    "Lane": Lane,
    "Missed": Missed,
    "Phase": Phase,
    "Role": Role,
    "Then": Then,
    "lease_.Evidence": Evidence,
    "Disposition": Disposition,
    "run_.Termination": Termination,
}
MADE_BY_KERNEL: Final = frozenset(
    kind.value for kind in (EntryKind.NODE, EntryKind.TAKEN, EntryKind.TICKET, EntryKind.WAIT)
)
ENTRIES: Final = frozenset(kind.value for kind in EntryKind) - MADE_BY_KERNEL
ROLES: Final = frozenset(role.value for role in Role)


class ScenarioSyntaxError(ValueError):
    """A line of a scenario cannot be read."""


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _classes(module: Any, base: type) -> dict[str, type]:
    found = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, base)]
    return {snake(cls.__name__): cls for cls in found if attrs.has(cls) and cls is not base}


COMMANDS: Final = _classes(commands, Command)
QUESTIONS: Final = _classes(core, Question) | _classes(questions, Question)


# -- text to values


def read_command(lines: Sequence[str]) -> Command[Any, Any]:
    """Return the command that a line and its indented lines describe."""
    name, *words = TOKEN.findall(lines[0])
    if name not in COMMANDS:
        raise ScenarioSyntaxError(f"unknown command {name}; expected {', '.join(sorted(COMMANDS))}")
    cls = COMMANDS[name]
    parts = _parts(cls)
    plain = [a for a in attrs.fields(cls) if a.name not in parts]
    required = [a for a in plain if a.default is attrs.NOTHING]
    values, rest = _assign(words, required, {a.name for a in plain}, lines[0])
    fields: dict[str, Any] = {name: () for name, holds in parts.items() if holds is tuple}
    fields |= {a.name: _value(a.type, values[a.name], values) for a in plain if a.name in values}
    items = ([rest] if rest else []) + [TOKEN.findall(line) for line in lines[1:]]
    for item in items:
        part, value = _item(parts, item)
        if parts[part] is tuple:
            fields[part] = (*fields[part], value)
        elif fields.get(part) is not None:
            raise ScenarioSyntaxError(f"{' '.join(item)}: a second {part}")
        else:
            fields[part] = value
    try:
        command: Command[Any, Any] = cls(**fields)
    except TypeError as error:
        raise ScenarioSyntaxError(f"{lines[0]}: {error}") from error
    return command


def read_question(line: str) -> Question[Any]:
    """Return the question that a line describes."""
    name, *words = TOKEN.findall(line)
    if name not in QUESTIONS:
        raise ScenarioSyntaxError(
            f"unknown question {name}; expected {', '.join(sorted(QUESTIONS))}"
        )
    question: Question[Any] = _build(QUESTIONS[name], words)
    return question


PARTS: Final[dict[str, type]] = {
    "tuple[ImportNode, ...]": tuple,
    "tuple[NewAttachment, ...]": tuple,
    "tuple[EventType, ...]": tuple,
    "tuple[NewInput, ...]": tuple,
    "tuple[NewEntry, ...]": tuple,
    "tuple[NewNode, ...]": tuple,
    "tuple[NewOutbound, ...]": tuple,
    "tuple[NewTicket, ...]": tuple,
    "tuple[UsageDelta, ...]": tuple,
    "tuple[NewState, ...]": tuple,
    "tuple[RowName, ...]": tuple,
    "NewInput": NewInput,
    "NewInput | None": NewInput,
    "Import | None": Import,
    "NewProfile | None": NewProfile,
    "Rewind | None": Rewind,
    "Switch | None": Switch,
    "Failure": Failure,
    "Schedule | None": Schedule,
    "Starts": StartsJob,
    "Starts | None": StartsJob,
}


ITEMS: Final[dict[type, str]] = {
    EventType: "event",
    Import: "import",
    NewAttachment: "attachment",
    NewProfile: "profile",
    NewState: "state",
    NewTicket: "ticket",
    Rewind: "rewind",
    RowName: "row",
    Schedule: "schedule",
    StartsInput: "input",
    StartsJob: "job",
    Switch: "switch",
    UsageDelta: "usage",
}


STARTS: Final = {"input": StartsInput, "job": StartsJob}


def _parts(cls: type) -> dict[str, type]:
    """Return the fields of a command that are written as items, with `tuple` for those with several."""
    return {a.name: PARTS[str(a.type)] for a in attrs.fields(cls) if str(a.type) in PARTS}


def _item(parts: dict[str, type], words: list[str]) -> tuple[str, Any]:
    if parts.keys() == {"nodes"}:
        return "nodes", _build(ImportNode, words)
    if words[0] in STARTS and "starts" in parts:
        return "starts", _build(STARTS[words[0]], words[1:])
    if words[0] == "schedule" and "schedule" in parts:
        return "schedule", _build(Schedule, words[1:])
    if words[0] == "import" and "importing" in parts:
        return "importing", _build(Import, words[1:])
    if words[0] == "profile" and "profile" in parts:
        return "profile", _build(NewProfile, words[1:])
    if parts.keys() & {"inputs", "replacement", "new"}:
        return next(iter(parts)), _build(NewInput, words)
    if words[0] in ENTRIES and "entries" in parts:
        return "entries", _build(NewEntry, words)
    if words[0] in ROLES and "nodes" in parts:
        return "nodes", _build(NewNode, words)
    if words[0] == "attachment" and "attachments" in parts:
        return "attachments", _build(NewAttachment, words[1:])
    if words[0] == "event" and "event_types" in parts:
        return "event_types", _build(EventType, words[1:])
    if words[0] == "ticket" and "tickets" in parts:
        return "tickets", _build(NewTicket, words[1:])
    if words[0] == "state" and "states" in parts:
        return "states", _build(NewState, words[1:])
    if words[0] == "switch" and "switch" in parts:
        return "switch", _build(Switch, words[1:])
    if words[0] == "row" and "rows" in parts:
        return "rows", _build(RowName, words[1:])
    if words[0] == "usage" and "usage" in parts:
        return "usage", _build(UsageDelta, words[1:])
    if "failure" in parts:
        return "failure", _build(Failure, words)
    if words[0] == "send" and "outbound" in parts:
        return "outbound", _sent(words[1:])
    if words[0] == "rewind" and "rewind" in parts:
        return "rewind", _build(Rewind, words[1:])
    if "hand_off" in parts:
        return "hand_off", _build(NewInput, words)
    raise ScenarioSyntaxError(
        f"{' '.join(words)}: not an item of {', '.join(parts) or 'this command'}"
    )


def _sent(words: list[str]) -> NewOutbound:
    """Read a command that is sent, in one line: its items follow `;`.  `peer=name` before it is another store."""
    peer = ""
    if words and words[0].startswith("peer="):
        peer, words = words[0].removeprefix("peer="), words[1:]
    command = read_command(" ".join(words).split(" ; "))
    if not isinstance(command, Sendable):
        raise ScenarioSyntaxError(f"{' '.join(words)}: a command that cannot be sent")
    return NewOutbound(command, peer)


def _build(cls: type, words: list[str]) -> Any:
    fields = list(attrs.fields(cls))
    values, rest = _assign(words, fields, {a.name for a in fields}, " ".join(words))
    if rest:
        raise ScenarioSyntaxError(
            f"{' '.join(words)}: too many values for {cls.__name__}: {' '.join(rest)}"
        )
    try:
        return cls(
            **{a.name: _value(a.type, values[a.name], values) for a in fields if a.name in values}
        )
    except TypeError as error:
        raise ScenarioSyntaxError(f"{' '.join(words)}: {error}") from error


def _assign(
    words: list[str], order: list[Any], names: set[str], line: str
) -> tuple[dict[str, str], list[str]]:
    """Assign words to fields, by name and then in order.  Return the values and the words that are left."""
    values: dict[str, str] = {}
    rest: list[str] = []
    for word in words:
        keyword = KEYWORD.fullmatch(word)
        if keyword and keyword[1] in names:
            values[keyword[1]] = keyword[2]
        else:
            rest.append(word)
    for a in order:
        if a.name not in values and rest and not KEYWORD.fullmatch(rest[0]):
            values[a.name] = rest.pop(0)
    return values, rest


TUPLES: Final[dict[str, Callable[[str], Any]]] = {
    "tuple[str, ...]": str,
    "tuple[tuple[str, str], ...]": read_pair,
    "tuple[Work, ...]": read_work,
    "tuple[int, ...]": int,
    "tuple[ticket_.Action, ...]": Action,
}

READERS: Final[dict[str, Callable[[str], Any]]] = {
    "tuple[Observed, ...]": read_observed,
    "lease_.LocalProcess": read_process,
    "RetryLimits": read_limits,
    "Policy": read_policy,
    "Retention": read_retention,
    "Work": read_work,
    "TicketName": read_ticket,
    "Relation": read_relation,
    "tuple[str, str]": read_pair,
}


def _value(kind: Any, word: str, all_: dict[str, str]) -> Any:
    kind = str(kind)
    text = _unquote(word)
    if kind.endswith(" | None"):
        if word == NOTHING:
            return None
        kind = kind.removesuffix(" | None")
    if kind in ENUMS:
        return ENUMS[kind](text)
    if kind in TUPLES:
        return tuple(map(TUPLES[kind], text.split(",")))
    if kind in READERS:
        return READERS[kind](text)
    match kind:
        case "str":
            return text
        case "int":
            return int(text)
        case "bool":
            return {"true": True, "false": False}[text]
        case "lease_.Fence":
            return _fence(text, _unquote(all_["session_id"]))
        case "lease_.Owner":
            return Owner(*split_last(text))
        case "ChangeCursor":
            revision, _, event = text.partition(":")
            return questions.ChangeCursor(int(revision), int(event))
        case "Position":
            number, _, place = text.partition(":")
            return int(number), place
        case "Parent":
            return Parent(*split_last(text))
        case "str | Target":
            return Target(text[1:]) if text.startswith("@") else text
        case _:
            raise ScenarioSyntaxError(f"{word}: a {kind} has no text form")


def _unquote(word: str) -> str:
    quoted = QUOTED.fullmatch(word)
    if quoted is None:
        return word
    return str(json.loads(quoted[1])) * int(quoted[2] or 1)


def _fence(text: str, session_id: str) -> Fence:
    """Read `generation:lease_id`, with `@session` for the fence of another session."""
    text, _, other = text.partition("@")
    generation, _, lease_id = text.partition(":")
    return Fence(other or session_id, int(generation), lease_id)


# -- values to text


def write_command(command: Command[Any, Any]) -> str:
    """Return the text that `read_command` converts to this command."""
    cls: Any = command.__class__
    parts = _parts(cls)
    plain = [a for a in attrs.fields(cls) if a.name not in parts]
    words = [snake(cls.__name__), *_words(command, plain, command.session_id)]
    items = []
    for name in parts:
        value = getattr(command, name)
        for item in value if isinstance(value, tuple) else () if value is None else (value,):
            items.append(" ".join(_item_words(item, command.session_id)))
    if len(items) == 1 and parts.keys() <= {"inputs", "replacement", "new", "failure", "usage"}:
        words += items
        items = []
    return "\n  ".join([" ".join(words), *items])


def _item_words(item: Any, session_id: str) -> list[str]:
    if isinstance(item, NewOutbound):
        command: Any = item.command
        return [
            "send",
            *([f"peer={item.peer}"] if item.peer else []),
            write_command(command).replace("\n  ", " ; "),
        ]
    words = _words(item, list(attrs.fields(item.__class__)), session_id)
    for kind, name in ITEMS.items():
        if isinstance(item, kind):
            return [name, *words]
    return words


def _words(value: Any, fields: list[Any], session_id: str) -> list[str]:
    words = []
    for a in fields:
        given = getattr(value, a.name)
        if a.default is attrs.NOTHING:
            words.append(_word(given, session_id))
    for a in fields:
        given = getattr(value, a.name)
        if a.default is not attrs.NOTHING and given != a.default:
            words.append(f"{a.name}={_word(given, session_id)}")
    return words


def _word(value: Any, session_id: str) -> str:
    match value:
        case None:
            return NOTHING
        case bool():
            return "true" if value else "false"
        case Target():
            return f"@{value.value}"
        case enum.StrEnum():
            return value.value
        case str():
            return value if BARE.fullmatch(value) and value != NOTHING else json.dumps(value)
        case Fence():
            other = "" if value.session_id == session_id else f"@{value.session_id}"
            return f"{value.generation}:{value.lease_id}{other}"
        case Owner():
            return f"{value.owner_id}/{value.incarnation_id}"
        case Work():
            return write_work(value)
        case TicketName():
            return write_ticket(value)
        case Parent():
            return f"{value.session_id}/{value.run_id}"
        case Policy():
            return write_policy(value)
        case RetryLimits():
            return write_limits(value)
        case (Observed(), *_):
            return write_observed(value)
        case LocalProcess():
            return write_process(value)
        case Retention():
            return write_retention(value)
        case Root() | Child() | Fork():
            return _word(write_relation(value), session_id)
        case tuple():
            parts = ["=".join(each) if isinstance(each, tuple) else str(each) for each in value]
            paired = any(isinstance(each, tuple) for each in value)
            text = ",".join(parts)
            return json.dumps(text) if paired or " " in text else text
        case _:
            return str(value)
