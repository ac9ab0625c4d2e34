"""Checks that the fields of a command have their declared types.  Spec: specs/store.md, STORE-42, STORE-43.

Every store must hold the same values, so a class is exact: no subclass of `str` or `int`, no list for a tuple, no text
for a member of an enumeration.  An `int` has 64 bits.  The check of a class is compiled once, as straight-line source.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, TypeAlias

import attrs

from tenure.commands.validation import size_of, texts_of
from tenure.limits import COMMAND_BYTES_MAX
from tenure.outcome import Refusal, Refused
from tenure.queries import Command

from .row_codec import Source

__all__ = ["measure_command"]


Measure: TypeAlias = Callable[[Any], int]

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
SHOWN_MAX: Final = 80  # characters of a value in a message


def measure_command(command: Command[Any, Any]) -> int | Refused:
    """Return the number of characters in all texts of a command, or refuse it.

    A store calls this before it reads anything, since a value of a wrong type may fail anywhere.
    """
    cls: Any = command.__class__
    try:
        size = _measure_of(cls)(command)
    except _WrongTypeError:
        problem = next(_problems_of_class(command, ""))
        return _refused(command, "STORE-42", problem)
    if 4 * size > COMMAND_BYTES_MAX:  # a character has at most 4 bytes
        count = sum(map(size_of, texts_of(command)))
        if count > COMMAND_BYTES_MAX:
            problem = f"texts of {count} bytes; at most {COMMAND_BYTES_MAX} in one command"
            return _refused(command, "STORE-43", problem)
    return size


def _refused(command: object, clause: str, problem: str) -> Refused:
    return Refused(Refusal.ILLEGAL, clause, f"{command.__class__.__name__}: {problem}")


# -- the fast check


class _WrongTypeError(Exception):
    """A field has not its type; `_problems_of_class` finds out which one."""


@cache
def _measure_of(cls: Any) -> Measure:
    """Return the compiled check of a class: it returns the number of characters, or raises _WrongTypeError."""
    source, kinds, conditions = Source(), _kinds(cls), []
    wrong = source.refer(_WrongTypeError)
    sizes = []
    for at, (name, kind) in enumerate(kinds.items()):
        source.lines.append(f"x{at} = value.{name}")
        inner, nullable = _optional(kind)
        condition = _condition(source, inner, f"x{at}")
        conditions.append(f"(x{at} is None or {condition})" if nullable else condition)
        if (size := _size(source, inner, f"x{at}")) is not None:
            sizes.append(f"if x{at}: size += {size}")  # False for None, and for an empty text
    if conditions:
        source.lines.append(f"if not ({' and '.join(conditions)}): raise {wrong}")
    source.lines += ["size = 0", *sizes, "return size"]
    return source.compile("measure", "value", cls.__name__)


@cache
def _measure_of_items(kind: Any) -> Measure:
    """Return the check of a tuple of one kind of value."""
    source = Source()
    condition, size = _condition(source, kind, "x"), _size(source, kind, "x")
    source.lines += [
        "size = 0",
        "for x in value:",
        f"    if not ({condition}): raise {source.refer(_WrongTypeError)}",
        f"    size += {size or 0}",
        "return size",
    ]
    return source.compile("measure", "value", f"tuple of {kind}")


@cache
def _measure_of_places(kinds: tuple[Any, ...]) -> Measure:
    """Return the check of a tuple with a kind for each place."""
    source, sizes = Source(), ["0"]
    for at, kind in enumerate(kinds):
        value = f"value[{at}]"
        condition = _condition(source, kind, value)
        source.lines.append(f"if not ({condition}): raise {source.refer(_WrongTypeError)}")
        sizes.append(_size(source, kind, value) or "0")
    source.lines.append(f"return {' + '.join(sizes)}")
    return source.compile("measure", "value", f"tuple of {kinds}")


def _places(kind: Any) -> tuple[Any, ...] | None:
    """Return the kinds of the places of a tuple; None if it may have any length."""
    kinds = typing.get_args(kind)
    return None if kinds[-1:] == (Ellipsis,) else kinds


def _condition(source: Source, kind: Any, value: str) -> str:
    """Return the condition that a value has the declared class."""
    if kind is int:
        return f"type({value}) is int and {INTEGER_MIN} <= {value} <= {INTEGER_MAX}"
    if typing.get_origin(kind) is tuple:
        places = _places(kind)
        length = "" if places is None else f" and len({value}) == {len(places)}"
        return f"type({value}) is tuple{length}"
    if _is_exact(kind):
        return f"type({value}) is {source.refer(kind)}"
    return f"{source.refer(_fits)}({source.refer(kind)}, type({value}))"


def _size(source: Source, kind: Any, value: str) -> str | None:
    """Return the expression of the size of a value, which also checks what is in it; None if it has no size."""
    if kind is str:
        return f"len({value})"
    if typing.get_origin(kind) is tuple:
        if (places := _places(kind)) is not None:
            return f"{source.refer(_measure_of_places(places))}({value})"
        return f"{source.refer(_measure_of_items(typing.get_args(kind)[0]))}({value})"
    if attrs.has(kind):
        return f"{source.refer(_measure_of(kind))}({value})"
    if _is_exact(kind):
        return None
    return f"{source.refer(_measure_of)}(type({value}))({value})"


def _is_exact(kind: Any) -> bool:
    """Return True for a kind whose values have exactly one class."""
    return attrs.has(kind) or kind in (str, int, bool) or _is_enum(kind)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


@cache
def _fits(kind: Any, cls: type) -> bool:
    """Return True if a value of a class may stand where a kind is declared."""
    inner, nullable = _optional(kind)
    if inner in (Any, object):
        return True
    if cls is types.NoneType:
        return nullable
    if typing.get_origin(inner) is tuple:
        return cls is tuple
    if attrs.has(cls) and isinstance(inner, type) and not attrs.has(inner):
        return issubclass(cls, inner)  # a base class without fields, such as Record
    return cls is inner or cls in typing.get_args(inner)


def _kinds(cls: Any) -> dict[str, Any]:
    if not attrs.has(cls):
        return {}
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in attrs.fields(cls)}


def _optional(kind: Any) -> tuple[Any, bool]:
    """Split `X | None` into X and True."""
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return kind, False
    members = [a for a in typing.get_args(kind) if a is not types.NoneType]
    return typing.Union[tuple(members)], len(members) < len(typing.get_args(kind))  # noqa: UP007


# -- the message


def _problems_of_class(value: Any, path: str) -> Iterator[str]:
    """Yield what is wrong with the fields of an attrs value."""
    for name, kind in _kinds(value.__class__).items():
        yield from _problems(kind, getattr(value, name), f"{path}{name}")


def _problems(kind: Any, value: Any, path: str) -> Iterator[str]:
    inner, nullable = _optional(kind)
    cls = value.__class__
    if not _fits(kind, cls) or (cls is int and not INTEGER_MIN <= value <= INTEGER_MAX):
        yield f"{path} {_shown(value)}: expected {_named(inner)}{' or None' * nullable}"
    elif cls is tuple:
        places = _places(inner)
        if places is not None and len(value) != len(places):
            yield f"{path} {_shown(value)}: expected {_named(inner)}"
            return
        kinds = places or typing.get_args(inner)[:1] * len(value)
        for at, (each_kind, each) in enumerate(zip(kinds, value, strict=True)):
            yield from _problems(each_kind, each, f"{path}[{at}]")
    else:
        yield from _problems_of_class(value, f"{path}.")


def _shown(value: Any) -> str:
    """Return the value and its class.  The value may be anything, so its `repr` may fail."""
    try:
        text = repr(value)
    except Exception:
        text = "without a representation"
    shown = text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."
    return f"{shown} ({value.__class__.__name__})"


def _named(kind: Any) -> str:
    if kind is int:
        return "int of at most 64 bits"
    if typing.get_origin(kind) is tuple:
        return f"tuple of {_named(typing.get_args(kind)[0])}"
    if typing.get_args(kind):
        return " or ".join(map(_named, typing.get_args(kind)))
    return str(kind.__name__)
