"""Tools for chat agents.  `@tool` makes a function a tool; its type hints are the schema of its arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, overload

import msgspec
from attrs import evolve, frozen

from tenure.machines.ticket import ACTIONS, Action
from tenure.messages.sendable import is_tool_name
from tenure.messages.types import Attachment, Disposition, RetryPolicy, Tool, ToolCall
from tenure.turn.protocol import HandOff, ToolResult

from ..runtime.errors import describe, text_of
from ..runtime.json_values import find_not_json
from ..runtime.steps import Report, call
from ..runtime.waiting import Decision
from ..stores.errors import TenureError
from .approvals import ApprovalOptions, Approver, approval_of, default_question
from .tool_arguments import GIVEN, Arguments, arguments_of, encode_model, innermost

__all__ = ["FunctionTool", "ToolFailed", "collect", "make", "tool"]


DECISION: Final = "decision"  # the parameter that a tool with resume="tool" has
F = TypeVar("F", bound=Callable[..., Any])


class ToolFailed(TenureError):
    """Raise it in a tool to return an error to the model.  The call is not retried."""


@frozen(eq=False)
class FunctionTool:
    """A tool and the function that it runs.

    It can be called like the function.
    """

    tool: Tool
    function: Callable[..., Any]
    arguments: Arguments
    probe: Callable[[str], Any] | None = None
    approver: Approver | None = None

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kw)

    @property
    def name(self) -> str:
        """The name that the model uses."""
        return self.tool.name

    async def run(
        self,
        made: ToolCall,
        key: str,
        attempt: int,
        on_error: Callable[[Exception], None] = lambda error: None,
        decision: Decision | None = None,
    ) -> ToolResult:
        """Run one attempt.  An error becomes a result; only a cancellation by the caller is raised.

        `on_error` receives what the function raised, unless it is a ToolFailed, which is an answer.
        """
        try:
            values = self._values(made, {"key": key, "attempt": attempt, DECISION: decision})
        except (msgspec.MsgspecError, TypeError) as error:
            return ToolResult(f"invalid arguments: {error}", is_error=True)
        try:
            return result_of(await call(self.function, (), values))
        except ToolFailed as error:
            return ToolResult(text_of(error) or "the tool failed", is_error=True)
        except Exception as error:
            on_error(error)
            return ToolResult(describe(error, secrets=True), is_error=True, retryable=True)

    def _values(self, made: ToolCall, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the function is called with.  Raises MsgspecError or TypeError for invalid arguments."""
        values = self.arguments.read(made.arguments)
        values |= {name: given[name] for name in self.arguments.given}
        inspect.signature(self.function).bind(**values)  # a schema may allow other names
        return values

    async def question(
        self, made: ToolCall, on_error: Callable[[Exception], None] = lambda error: None
    ) -> str | None:
        """CHAT-50: return what a person is asked about a call; None if nobody is.

        `on_error` receives what the function `approve` raised; a person is asked then.
        """
        if self.approver is None:
            return None
        try:
            values = self._values(made, {"key": "", "attempt": 1, DECISION: None})
        except (msgspec.MsgspecError, TypeError):
            return None  # the call fails
        try:
            return await self.approver.question(made, values)
        except Exception as error:
            on_error(error)
            return default_question(made)

    async def look(self, key: str) -> ToolResult | None:
        """Return the result that the probe finds, or None if the outcome is unknown."""
        if self.probe is None:
            return None
        found = await call(self.probe, (key,), {})
        return result_of(found.value) if isinstance(found, Report) else None


def result_of(value: Any) -> ToolResult:
    """Return the result for what a tool function returned."""
    match value:
        case ToolResult():
            return value
        case HandOff():
            to = value.frame
            name = to if isinstance(to, str) else (to.agent or f"frame {to.frame_id}".rstrip())
            return ToolResult(f"handed off to {name}", hand_off=value)
        case Attachment():
            return ToolResult(value.name or value.uri, attachments=(value,))
        case None:
            return ToolResult("done")
        case str():
            return ToolResult(value)
        case _:
            text = msgspec.json.encode(value, enc_hook=encode_model).decode()
            if (found := find_not_json(value, text, encode_model)) is not None:
                raise ToolFailed(f"the tool returned {found}, which is not JSON")
            return ToolResult(text)


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    once: bool = False,
    timeout_s: float = 600.0,
    attempts: int = 1,
    base_ms: int = 250,
    cap_ms: int = 30_000,
    probe: Callable[[str], Any] | None = None,
    finishes: bool = False,
    result_max: int | None = None,
    schema: Mapping[str, Any] | None = None,
    approve: bool | Callable[..., Any] = False,
    approver: Literal["user", "other"] = "user",
    offers: Sequence[Action | str] = ACTIONS,
    within_s: float | None = None,
    resume: Literal["run", "tool"] = "run",
    remember: Literal["run"] | None = None,
) -> Callable[[F], F]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function as a tool.  It can still be called as before.

    `once`: the tool is never run twice, even after a crash.  If a crash left no report, `probe(key)` is called; it
    returns `Report(value)`, or None if the outcome is unknown.  `attempts`: the maximum number of attempts of a tool
    that may be run again; `base_ms` and `cap_ms` bound the delay between them.  `finishes`: the result is the final
    value of the turn.  A parameter `key` receives an idempotency key, equal in all attempts; a parameter `attempt` the
    number of the attempt, from 1.  `result_max`: how many characters of a result a request contains; the transcript
    holds the whole.  `schema`: a JSON schema in place of the type hints; the function gets the arguments as they are.

    `approve`: True, or a function of some of the arguments that returns whether a person has to approve the call, or the
    question as text.  The turn then waits without a process.  `approver`: who is asked.  While it is the `user` of the
    conversation, what they say next ends the run and is answered; while it is an `other`, it waits.  `offers`: what may
    be decided.  After `within_s` the call is answered that nobody has decided.  `resume="tool"`: the function is called
    whatever was decided, and gets the Decision in its parameter `decision`; None if nobody was asked.
    `remember="run"`: the first approval or rejection is that of the other calls of this tool in the run too.

    A method is passed from its object: `ChatAgent(..., [shop.buy])`.  What can hold no mark, such as a bound method, is
    returned as a FunctionTool.  Raises ValueError for an illegal name and for options that contradict each other, and
    TypeError for a parameter without a schema.
    """
    if function is not None:
        return _marked(function, {})
    return lambda wrapped: _marked(wrapped, options)


def _marked(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    inner = function.__func__ if isinstance(function, (staticmethod, classmethod)) else function
    made = make(inner, **options)
    try:
        inner.__tenure_tool__ = made  # type: ignore[attr-defined]
    except AttributeError:
        return made
    return function


def make(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    description: str | None = None,
    once: bool = False,
    timeout_s: float = 600.0,
    attempts: int = 1,
    base_ms: int = 250,
    cap_ms: int = 30_000,
    probe: Callable[[str], Any] | None = None,
    finishes: bool = False,
    result_max: int | None = None,
    schema: Mapping[str, Any] | None = None,
    **approvals: Any,
) -> FunctionTool:
    """Return the tool for a function.  See `tool` for the options."""
    named = name or _name_of(function)
    if not is_tool_name(named):
        raise ValueError(
            f"invalid tool name {named!r}: expected 1 to 64 letters, digits, _ or -."
            " Give another one: @tool(name=...)"
        )
    if attempts < 1 or timeout_s <= 0:
        raise ValueError(
            f"tool {named}: attempts ({attempts}) and timeout_s ({timeout_s}) must be positive"
        )
    if result_max is not None and result_max < 1:
        raise ValueError(f"tool {named}: result_max ({result_max}) must be positive")
    if once and attempts > 1:
        raise ValueError(f"tool {named}: a once tool has one attempt, not {attempts}")
    if probe is not None and not once:
        raise ValueError(f"tool {named}: only a once tool has a probe")
    options = ApprovalOptions(**approvals)
    given = (*GIVEN, DECISION) if options.resume == "tool" else GIVEN
    arguments = arguments_of(named, function, schema, given)
    approval, approver = approval_of(named, options, arguments.names)
    if approval is not None and approval.to_tool and DECISION not in arguments.given:
        raise ValueError(
            f"tool {named}: with resume='tool' the function needs a parameter {DECISION}"
        )
    text = description if description is not None else _doc_of(function)
    disposition = Disposition.ONCE if once else Disposition.RERUNNABLE
    described = Tool(
        named, text, arguments.schema, disposition, int(timeout_s * 1000),
        RetryPolicy(attempts, base_ms, cap_ms), probe is not None, finishes, result_max, approval,
    )  # fmt: skip
    return FunctionTool(described, function, arguments, probe, approver)


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _doc_of(function: Any) -> str:
    wrapped = isinstance(function, functools.partial) or not inspect.isroutine(function)
    return inspect.getdoc(innermost(function) if wrapped else function) or ""


def collect(tools: Sequence[Any]) -> dict[str, FunctionTool]:
    """Return tools by name, made of functions, methods or tools.  Raises ValueError for a duplicate name."""
    found: dict[str, FunctionTool] = {}
    for each in tools:
        made = _tool_of(each)
        if made.name in found:
            raise ValueError(f"duplicate tool name {made.name!r}")
        found[made.name] = made
    return found


def _tool_of(each: Any) -> FunctionTool:
    made = getattr(each, "__tenure_tool__", each)
    if not isinstance(made, FunctionTool):
        made = make(made)
    if not made.arguments.unbound:
        return made
    if not inspect.ismethod(each):
        raise TypeError(
            f"tool {made.name} is a method: pass it from its object, such as [shop.{made.name}]"
        )
    return evolve(made, function=each, arguments=evolve(made.arguments, unbound=False))
