"""Call the functions of steps, and encode their results for the journal."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import typing
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import frozen

from tenure.limits import BODY_BYTES_MAX

from .errors import IllegalResult, StepFailed, describe
from .finite import find_nonfinite

__all__ = [
    "Report",
    "call",
    "in_thread",
    "pack",
    "pack_error",
    "result_type",
    "takes_key",
    "unpack",
]


@frozen
class Report:
    """The answer of a probe: the step was executed, and this is its result."""

    value: Any = None


async def call(f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """Call a function: await it if it is async, otherwise run it in a daemon thread."""
    if inspect.iscoroutinefunction(f) or inspect.iscoroutinefunction(type(f).__call__):
        return await f(*args, **kw)
    value = await in_thread(functools.partial(f, *args, **kw))
    return await value if inspect.isawaitable(value) else value


async def in_thread(f: Callable[[], Any]) -> Any:
    """Run a function in a daemon thread with the caller's context variables, and return its result.

    Cancelling the caller does not stop the thread; its result is then dropped.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    variables = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(value)

    def work() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = variables.run(f)
        except StopIteration as stop:
            error = RuntimeError(f"the step raised {stop!r}")
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # the event loop is closed: no caller waits for the result

    threading.Thread(target=work, name="tenure-step", daemon=True).start()
    return await done


def takes_key(f: Callable[..., Any]) -> bool:
    """Return True if a function has a parameter `key`, or accepts any keyword."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return False
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        p.kind is inspect.Parameter.VAR_KEYWORD or (p.name == "key" and p.kind in by_name)
        for p in parameters
    )


@functools.lru_cache(maxsize=1024)
def _returned(f: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(f).get("return", Any)
    except Exception:  # an annotation that cannot be evaluated at run time
        return Any


def result_type(f: Callable[..., Any]) -> Any:
    """Return the annotated return type of a function, to which stored results are converted."""
    try:
        return _returned(f)
    except TypeError:  # not hashable
        return Any


# -- bodies


def pack(effect_id: str, value: Any, type_: Any) -> tuple[str, Any]:
    """Return the text for the journal, and the value that a replay would return."""
    try:
        body = msgspec.json.encode({"value": value}).decode()
    except Exception as error:
        message = f"step {effect_id} returned {type(value).__name__}, which is not JSON: {error}"
        raise IllegalResult(message) from error
    if "null" in body and (found := find_nonfinite(value)) is not None:
        raise IllegalResult(f"step {effect_id} returned {found}, which is not JSON")
    if len(body) > BODY_BYTES_MAX or len(body.encode()) > BODY_BYTES_MAX:
        message = (
            f"step {effect_id} returned {len(body)} characters; at most {BODY_BYTES_MAX} bytes"
        )
        raise IllegalResult(message)
    return body, unpack(effect_id, body, type_)


def pack_error(error: BaseException) -> str:
    """Return the text for the journal of a step that raised."""
    message = describe(error).partition(": ")
    return msgspec.json.encode({"error": [message[0], message[2]]}).decode()


def unpack(effect_id: str, body: str, type_: Any) -> Any:
    """Return the value of a report.  Raises StepFailed if the step had raised."""
    stored = msgspec.json.decode(body)
    if "error" in stored:
        raise StepFailed(effect_id, *stored["error"])
    value = stored["value"]
    if type_ is Any or value is None:
        return value
    try:
        return msgspec.convert(value, type_, str_keys=True)
    except Exception:  # the annotation is wrong, or msgspec does not support the type
        return value
