"""Approvals of tools: which calls a person is asked about, and with which question.  Spec: specs/chat.md, CHAT-50 to 54."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from attrs import frozen

from tenure.machines.ticket import ACTIONS, Action
from tenure.messages.types import Approval, ToolCall

from ..runtime.steps import call
from ..runtime.waiting import actions_of, milliseconds_of

__all__ = ["ApprovalOptions", "Approver", "approval_of", "default_question", "legal_text"]


QUESTION_MAX: Final = 200_000  # characters; a ticket holds 1,000,000 bytes


@frozen
class ApprovalOptions:
    """The options of `tool` that are about approvals."""

    approve: bool | Callable[..., Any] = False
    approver: str = "user"
    offers: Sequence[Action | str] = ACTIONS
    within_s: float | None = None
    resume: str = "run"
    remember: str | None = None


@frozen(eq=False)
class Approver:
    """Says which calls need an approval; `function` None: all.  `names`: the arguments that it is called with."""

    function: Callable[..., Any] | None
    names: frozenset[str]

    async def question(self, made: ToolCall, values: dict[str, Any]) -> str | None:
        """Return the question about a call; None if nobody is asked.  Raises what the function raises."""
        if self.function is None:
            return default_question(made)
        found = await call(
            self.function, (), {name: values[name] for name in values if name in self.names}
        )
        if isinstance(found, str):
            return legal_text(found)
        if found is True:
            return default_question(made)
        if found is False or found is None:
            return None
        raise TypeError(f"approve returned {type(found).__name__}, expected bool, str or None")


def default_question(made: ToolCall) -> str:
    """Return the question that names the tool and its arguments."""
    return legal_text(f"Call {made.name} with {made.arguments.strip() or '{}'}?")


def legal_text(text: str) -> str:
    """Return a text that a ticket can hold: without NUL and halves of surrogate pairs, and not too long."""
    text = text.replace("\x00", "").encode(errors="replace").decode()
    if len(text) <= QUESTION_MAX:
        return text
    return f"{text[:QUESTION_MAX]}\n[cut: {QUESTION_MAX} of {len(text)} characters]"


def approval_of(
    name: str, options: ApprovalOptions, arguments: Iterable[str] | None
) -> tuple[Approval | None, Approver | None]:
    """Return how the calls of a tool are approved.

    `arguments` are the names that its function fills; None if they are not known.  Raises ValueError or TypeError for
    options that contradict each other.
    """
    if options.approve is False:
        if options != ApprovalOptions():
            raise ValueError(
                f"tool {name}: approver, offers, within_s, resume and remember need approve"
            )
        return None, None
    _validate(name, options)
    try:
        offers, within = actions_of(options.offers), milliseconds_of(options.within_s)
    except ValueError as error:
        raise ValueError(f"tool {name}: {error}") from error
    if not offers:
        raise ValueError(f"tool {name}: offers []: expected at least one action")
    approval = Approval(
        offers, within, options.approver == "other",
        options.resume == "tool", options.remember == "run",
    )  # fmt: skip
    if options.approve is True:
        return approval, Approver(None, frozenset())
    return approval, Approver(options.approve, _names(name, options.approve, arguments))


def _validate(name: str, options: ApprovalOptions) -> None:
    words = (
        ("approver", options.approver, ("user", "other")),
        ("resume", options.resume, ("run", "tool")),
        ("remember", options.remember, (None, "run")),
    )
    for option, given, known in words:
        if given not in known:
            raise ValueError(f"tool {name}: {option} {given!r}: expected one of {known}")
    if options.approve is not True and not callable(options.approve):
        raise TypeError(f"tool {name}: approve {options.approve!r}: expected True or a function")


def _names(
    name: str, function: Callable[..., Any], arguments: Iterable[str] | None
) -> frozenset[str]:
    parameters = inspect.signature(function).parameters.values()
    named = frozenset([p.name for p in parameters if p.kind is not p.VAR_KEYWORD])
    if arguments is None:
        return named
    known = frozenset(arguments)
    if any([p.kind is p.VAR_KEYWORD for p in parameters]):
        return known
    required = {p.name for p in parameters if p.default is p.empty}
    if missing := required - known:
        raise TypeError(
            f"tool {name}: the function approve has the parameter {min(missing)}, and the tool has not"
        )
    return named & known
