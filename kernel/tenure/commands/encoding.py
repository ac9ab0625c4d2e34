"""Commands as text, and back: the form in which a command is stored until it was sent.  Spec: specs/outbound.md.

The text is JSON: the version of this form, the name of the class, and the fields that differ from their defaults.  So a
field that a later release adds is in the text only if it says something.
"""

from __future__ import annotations

import enum
import json
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import attrs

__all__ = ["VERSION", "UnreadableCommand", "decode", "encode"]


VERSION: Final = 1
UNIONS: Final = (typing.Union, typing.get_origin(int | str))

_plain = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_ascii = json.JSONEncoder(separators=(",", ":")).encode


class UnreadableCommand(ValueError):
    """A text that is not a command of this release.  A later one may have written it."""

    __slots__ = ()


def encode(command: object) -> str:
    """OUTBOUND-5: return the text of a command."""
    kind = command.__class__
    name = getattr(kind, "sent_as", kind.__name__)
    found = {"v": VERSION, "command": name, "fields": _encode_fields(command)}
    text = _plain(found)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which no store can hold
        return _ascii(found)
    return text


def decode(text: str, classes: Mapping[str, type]) -> Any:
    """Return the command of a text.  `classes`: those that it may have, by name.  Raises UnreadableCommand."""
    try:
        found = json.loads(text)
        version, name, fields = found["v"], found["command"], found["fields"]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableCommand(f"{text[:80]!r} is not the text of a command") from error
    if version != VERSION:
        raise UnreadableCommand(f"version {version}: this release reads {VERSION}")
    if name not in classes:
        raise UnreadableCommand(f"{name}: this release sends {', '.join(sorted(classes))}")
    try:
        return _decode_fields(classes[name], fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableCommand(f"{name}: {error}") from error


@cache
def _kinds(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {a.name: hints[a.name] for a in attrs.fields(cls)}


@cache
def _members(kind: Any) -> tuple[Any, ...]:
    """Return what a value may be, without None."""
    if typing.get_origin(kind) not in UNIONS:
        return (kind,)
    return tuple([each for each in typing.get_args(kind) if each is not type(None)])


def _encode_fields(value: Any) -> dict[str, Any]:
    kinds = _kinds(value.__class__)
    return {
        a.name: _encode(kinds[a.name], given)
        for a in attrs.fields(value.__class__)
        if (given := getattr(value, a.name)) != a.default or a.default is attrs.NOTHING
    }


def _encode(kind: Any, value: Any) -> Any:
    if value is None or value.__class__ in (str, int, bool):
        return value
    if isinstance(value, tuple):
        places = typing.get_args(kind)
        several = places[-1:] == (Ellipsis,)
        return [_encode(places[0 if several else at], each) for at, each in enumerate(value)]
    inner = value.value if isinstance(value, enum.Enum) else _encode_fields(value)
    return inner if len(_members(kind)) == 1 else {value.__class__.__name__: inner}


def _decode_fields(cls: Any, fields: dict[str, Any]) -> Any:
    kinds = _kinds(cls)
    return cls(**{name: _decode(kinds[name], given) for name, given in fields.items()})


def _decode(kind: Any, value: Any) -> Any:
    if value is None or value.__class__ is bool:
        return value
    members = _members(kind)
    if isinstance(value, dict) and len(members) > 1:
        ((name, value),) = value.items()
        members = tuple([each for each in members if getattr(each, "__name__", "") == name])
    elif len(members) > 1:
        return value  # a text or a number
    (member,) = members
    if typing.get_origin(member) is tuple:
        places = typing.get_args(member)
        several = places[-1:] == (Ellipsis,)
        return tuple([_decode(places[0 if several else at], each) for at, each in enumerate(value)])
    if attrs.has(member):
        return _decode_fields(member, value)
    return member(value) if isinstance(member, enum.EnumMeta) else value
