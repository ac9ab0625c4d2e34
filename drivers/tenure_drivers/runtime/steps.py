"""Call the functions of steps, and encode their results for the journal."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import typing
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec
from attrs import frozen

from tenure.limits import BODY_BYTES_MAX

from .errors import BaseExceptionRaised, IllegalResult, StepFailed, describe
from .json_values import find_not_json
from .user_code import as_exception, ending_forks, guard

__all__ = [
    "Passes",
    "Report",
    "call",
    "in_thread",
    "is_async",
    "pack",
    "pack_outcome",
    "pack_raised",
    "result_type",
    "takes_key",
    "unpack",
    "validate_passes",
    "version_of",
]


Passes: TypeAlias = tuple[type[BaseException], ...]
ENDS_A_TASK: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)


@frozen
class Report:
    """The answer of a probe: the step was executed, and this is its result."""

    value: Any = None


def is_async(f: Callable[..., Any]) -> bool:
    """Return True for an async function, and for an object whose call is one."""
    return inspect.iscoroutinefunction(f) or inspect.iscoroutinefunction(type(f).__call__)


async def call(f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """Call a function: await it if it is async, otherwise run it in a daemon thread.

    Raises BaseExceptionRaised if it raised what is no Exception.
    """
    if is_async(f):
        with ending_forks():
            return await guard(f(*args, **kw))
    value = await in_thread(functools.partial(f, *args, **kw))
    return await guard(value) if inspect.isawaitable(value) else value


async def in_thread(f: Callable[[], Any]) -> Any:
    """Run a function in a daemon thread with the caller's context variables, and return its result.

    Cancelling the caller does not stop the thread; its result is then dropped.  Raises BaseExceptionRaised if it raised
    what is no Exception.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    variables = contextvars.copy_context()

    def settle(value: Any, error: Exception | None) -> None:
        if not done.done():
            done.set_exception(error) if error is not None else done.set_result(value)

    def work() -> None:
        value: Any = None
        error: Exception | None = None
        try:
            with ending_forks():
                value = variables.run(f)
        except StopIteration as stop:  # no future takes it
            error = RuntimeError(f"the step raised {describe(stop)}")
        except BaseException as raised:
            error = as_exception(raised)
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


def pack(effect_id: str, value: Any, type_: Any, version: str | None = None) -> tuple[str, Any]:
    """Return the text for the journal, and the value that a replay would return."""
    try:
        body = _encode({"value": value}, version)
    except Exception as error:
        message = f"step {effect_id} returned {type(value).__name__}, which is not JSON: {error}"
        raise IllegalResult(message) from error
    if (found := find_not_json(value, body)) is not None:
        raise IllegalResult(f"step {effect_id} returned {found}, which is not JSON")
    if len(body) > BODY_BYTES_MAX or len(body.encode()) > BODY_BYTES_MAX:
        message = (
            f"step {effect_id} returned {len(body)} characters; at most {BODY_BYTES_MAX} bytes"
        )
        raise IllegalResult(message)
    return body, unpack(effect_id, body, type_)


def pack_outcome(
    effect_id: str, error: Exception, passes: Passes, version: str | None = None
) -> tuple[str, BaseException]:
    """Return the text for the journal of a once step that raised, and what `once` raises.

    What passes and cannot be raised again is a failed step: it has run.
    """
    name, _, message = describe(error).partition(": ")
    try:
        packed = pack_raised(effect_id, error, passes, version)
        if packed is not None:
            return packed
    except IllegalResult as problem:
        message = str(problem)
    failed = StepFailed(effect_id, name, message)
    failed.replayed = False
    return _encode({"error": [name, message]}, version), failed


def pack_raised(
    effect_id: str, error: Exception, passes: Passes, version: str | None = None
) -> tuple[str, BaseException] | None:
    """JOURNAL-11: return the text for the journal of an exception that passes, and the one that a replay would raise.

    None if it is of another type.  Raises IllegalResult if its data is not JSON or it cannot be made from its data.
    """
    raised = error.error if isinstance(error, BaseExceptionRaised) else error
    if not isinstance(raised, passes):
        return None
    name, _, message = describe(raised).partition(": ")
    data = {
        "type": _type_name(type(raised)), "args": list(raised.args), "data": vars(raised),
        "error": [name, message],
    }  # fmt: skip
    not_json = f"step {effect_id} raised {name}, whose data is not JSON"
    try:
        body = _encode({"raised": data}, version)
        again = _raised_again(msgspec.json.decode(body)["raised"], passes)
    except Exception as problem:
        raise IllegalResult(f"{not_json}: {describe(problem)}") from raised
    if (found := find_not_json(data, body)) is not None:
        raise IllegalResult(f"{not_json}: {found}") from raised
    if again is None or len(body.encode()) > BODY_BYTES_MAX:
        raise IllegalResult(f"step {effect_id} raised {name}, which is too large") from raised
    return body, again


def unpack(effect_id: str, body: str, type_: Any, passes: Passes = ()) -> Any:
    """Return the value of a report.  Raises what the step raised if it passes, or StepFailed."""
    stored = msgspec.json.decode(body)
    if "raised" in stored:
        again = _raised_again(stored["raised"], passes)
        raise again if again is not None else StepFailed(effect_id, *stored["raised"]["error"])
    if "error" in stored:
        raise StepFailed(effect_id, *stored["error"])
    value = stored["value"]
    if type_ is Any or value is None:
        return value
    try:
        return msgspec.convert(value, type_, str_keys=True)
    except Exception:  # the annotation is wrong, or msgspec does not support the type
        return value


def version_of(body: str) -> str | None:
    """Return the version of the function that made a report."""
    found: str | None = msgspec.json.decode(body).get("version")
    return found


def _encode(stored: dict[str, Any], version: str | None) -> str:
    if version is not None:
        stored["version"] = version
    return msgspec.json.encode(stored).decode()


# -- exceptions that pass


def validate_passes(passes: Any) -> None:
    """Raise TypeError unless this is a tuple of exception types that a task can raise."""
    if isinstance(passes, tuple):
        types = [t for t in passes if isinstance(t, type) and issubclass(t, BaseException)]
        if len(types) == len(passes) and not any(issubclass(t, ENDS_A_TASK) for t in types):
            return
    raise TypeError(
        f"passes {passes!r}: expected a tuple of exception types, such as (ModelRetry,)"
    )


def _type_name(type_: type) -> str:
    return f"{type_.__module__}:{type_.__qualname__}"


def _raised_again(stored: dict[str, Any], passes: Passes) -> BaseException | None:
    """Return the exception as it was raised; None if its type passes no more.  Its `__init__` is not called."""
    pending: list[type[BaseException]] = list(passes)
    while pending:
        type_ = pending.pop()
        if _type_name(type_) == stored["type"]:
            error = type_.__new__(type_, *stored["args"])
            error.__dict__.update(stored["data"])
            return error
        pending += type_.__subclasses__()
    return None
