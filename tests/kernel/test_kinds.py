"""JOB-2: a command for another kind of aggregate is refused, in one place."""

from __future__ import annotations

import typing
from typing import Any

import attrs
import pytest

import tenure.commands
from tenure.kind import Kind
from tenure.outcome import Refusal, Refused
from tenure.queries import Command
from tenure.records import Session
from tenure.release import RELEASE, decide_at

PUBLIC = [getattr(tenure.commands, name) for name in tenure.commands.__all__]
COMMANDS = [c for c in PUBLIC if isinstance(c, type) and issubclass(c, Command)]
FOR_ALL = {
    *("FenceOff", "Prune", "Publish", "Reclaim", "Renew"),
    *("LineUp", "Resend", "SendFailed", "SendRefused", "Sent"),
    *("Prune", "Reseal", "Restore"),
}


def view_of(command: type[Any]) -> type[Any]:
    """Return the class of the view that a command is decided over."""
    view: type[Any] = typing.get_type_hints(command.decide)["view"]
    return view


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.__name__)
def test_every_command_reads_the_row_that_has_the_kind(command: type[Any]) -> None:
    first = attrs.fields(view_of(command))[0]

    assert first.name == "session"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", Kind)
def test_a_command_for_another_kind_is_refused(command: type[Any], kind: Kind) -> None:
    view: Any = attrs.make_class("View", ["session"])(
        Session("s", kind=None if kind is Kind.SESSION else kind)
    )
    bare: Any = object.__new__(command)  # it is refused before any of its fields is read
    if command.__name__ in FOR_ALL:
        assert command.serves_all
    elif kind is not (command.serves or Kind.SESSION):
        assert decide_at(RELEASE, bare, view, 0) == Refused(Refusal.OTHER_KIND, "JOB-2", kind.value)
