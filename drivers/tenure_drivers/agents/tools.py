"""Tools for chat agents.  `@tool` makes a function a tool; its type hints are the schema of its arguments."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, overload

import msgspec
from attrs import frozen

from tenure.messages.codec import to_json
from tenure.messages.types import Attachment, Disposition, RetryPolicy, Tool, ToolCall
from tenure.turn.protocol import HandOff, ToolResult

from ..runtime.errors import describe
from ..runtime.steps import Report, call
from ..stores.errors import TenureError

__all__ = ["FunctionTool", "ToolFailed", "collect", "make", "tool"]


F = TypeVar("F", bound=Callable[..., Any])
GIVEN: Final = ("key", "attempt")  # parameters that the runtime fills, not the model


class ToolFailed(TenureError):
    """Raise it in a tool to return an error to the model.  The call is not retried."""


@frozen(eq=False)
class FunctionTool:
    """A tool and the function that it runs.

    `arguments` is a msgspec Struct type.  `given` names the parameters that the model does not fill.
    """

    tool: Tool
    function: Callable[..., Any]
    arguments: Any
    given: frozenset[str]
    probe: Callable[[str], Any] | None = None

    @property
    def name(self) -> str:
        """The name that the model uses."""
        return self.tool.name

    async def run(self, made: ToolCall, key: str, attempt: int) -> ToolResult:
        """Run one attempt.  An error becomes a result; only a cancellation by the caller is raised."""
        try:
            text = made.arguments if made.arguments.strip() else "{}"
            values = msgspec.structs.asdict(msgspec.json.decode(text, type=self.arguments))
        except msgspec.MsgspecError as error:
            return ToolResult(f"invalid arguments: {error}", is_error=True)
        extra = {"key": key, "attempt": attempt}
        values |= {name: extra[name] for name in self.given}
        try:
            return result_of(await call(self.function, (), values))
        except ToolFailed as error:
            return ToolResult(str(error) or "the tool failed", is_error=True)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling() > 0:
                raise
            return ToolResult(f"the tool was cancelled: {error}", is_error=True, retryable=True)
        except (Exception, SystemExit) as error:
            return ToolResult(describe(error, secrets=True), is_error=True, retryable=True)

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
            return ToolResult(f"handed off to {value.frame}", hand_off=value)
        case Attachment():
            return ToolResult(value.name or value.uri, attachments=(value,))
        case None:
            return ToolResult("done")
        case str():
            return ToolResult(value)
        case _:
            return ToolResult(msgspec.json.encode(value).decode())


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
) -> Callable[[F], F]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Mark a function as a tool.  It can still be called as before.

    `once`: the tool is never run twice, even after a crash.  If a crash left no report, `probe(key)` is called; it
    returns `Report(value)`, or None if the outcome is unknown.  `attempts`: the maximum number of attempts of a tool
    that may be run again; `base_ms` and `cap_ms` bound the delay between them.  `finishes`: the result is the final
    value of the turn.  A parameter `key` receives an idempotency key, equal in all attempts; a parameter `attempt` the
    number of the attempt, from 1.  `result_max`: how many characters of a result a request contains; the transcript
    holds the whole.  Raises ValueError for options that contradict each other.
    """
    if function is not None:
        return _marked(function, {})
    return lambda wrapped: _marked(wrapped, options)


def _marked(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    function.__tenure_tool__ = make(function, **options)  # type: ignore[attr-defined]
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
) -> FunctionTool:
    """Return the tool for a function.  See `tool` for the options."""
    named = name or function.__name__
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
    arguments, given = _arguments(named, function)
    text = description if description is not None else inspect.getdoc(function) or ""
    disposition = Disposition.ONCE if once else Disposition.RERUNNABLE
    described = Tool(
        named, text, _schema(arguments), disposition, int(timeout_s * 1000),
        RetryPolicy(attempts, base_ms, cap_ms), probe is not None, finishes, result_max,
    )  # fmt: skip
    return FunctionTool(described, function, arguments, given, probe)


def _arguments(name: str, function: Callable[..., Any]) -> tuple[Any, frozenset[str]]:
    """Return the parameters that the model fills as a Struct, and the names of the others."""
    hints = typing.get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    given = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in GIVEN:
            given.add(parameter.name)
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"tool {name}: *{parameter.name} has no schema. Name each parameter")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"tool {name}: {parameter.name} is positional-only. Allow a keyword")
        hint = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, parameter.default))
    struct = msgspec.defstruct(
        "".join(c for c in name.title() if c.isalnum()) or "Arguments",
        fields, kw_only=True, forbid_unknown_fields=True,
    )  # fmt: skip
    return struct, frozenset(given)


def _schema(arguments: Any) -> str:
    schema = msgspec.json.schema(arguments)
    definitions = schema.pop("$defs", {})
    inner = definitions.pop(schema["$ref"].rpartition("/")[2])
    inner.pop("title", None)
    if definitions:
        inner["$defs"] = definitions
    return to_json(inner)


def collect(tools: Sequence[Any]) -> dict[str, FunctionTool]:
    """Return tools by name, made of decorated functions, plain functions or tools.  Raises ValueError for a duplicate."""
    found: dict[str, FunctionTool] = {}
    for each in tools:
        made = getattr(each, "__tenure_tool__", each)
        if not isinstance(made, FunctionTool):
            made = make(made)
        if made.name in found:
            raise ValueError(f"duplicate tool name {made.name!r}")
        found[made.name] = made
    return found
