"""Agents by name: those of this package, and your own as `module:attribute`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..runtime.errors import describe
from .base import Agent, UnknownAgent
from .echo import echo
from .flaky import flaky
from .ledger import ledger

KNOWN: Final = "echo, ledger:FILE, flaky:N, script:FILE, openai:MODEL, module:attribute"
OWN: Final = frozenset(("echo", "ledger", "flaky", "script", "openai"))


def find_agent(name: str) -> Agent:
    """Return the agent of this name.  Raises UnknownAgent.

    `module:attribute` imports the module; the current folder is searched first.
    """
    kind, colon, rest = name.partition(":")
    match (kind, colon):
        case ("echo", ""):
            return echo
        case ("ledger", ":"):
            return _with_file(name, rest, ledger)
        case ("flaky", ":"):
            return _flaky(name, rest)
        case ("script", ":"):
            return _with_file(name, rest, _script)
        case ("openai", ":"):
            return _openai(name)
        case (_, ":") if kind and rest and kind not in OWN:
            return _imported(name, kind, rest)
        case _:
            raise UnknownAgent(f"unknown agent {name!r}: expected {KNOWN}")


def _with_file(name: str, file: str, make: Callable[[Path], Agent]) -> Agent:
    if not file:
        raise UnknownAgent(f"invalid agent {name!r}: the file is missing. Write {name}FILE")
    try:
        return make(Path(file))
    except OSError as error:
        raise UnknownAgent(
            f"invalid agent {name!r}: cannot write {file}: {error.strerror}"
        ) from error


def _script(path: Path) -> Agent:
    from .script import script

    return script(path)


def _openai(name: str) -> Agent:
    from .openai import openai_agent

    return openai_agent(name)


def _flaky(name: str, times: str) -> Agent:
    if not (times.isascii() and times.isdigit() and len(times) < 10):
        raise UnknownAgent(f"invalid agent {name!r}: {times!r} is not a number. Write flaky:2")
    return flaky(int(times))


def import_attribute(name: str, module: str, attribute: str) -> Any:
    """Return an attribute of a module; the current folder is searched first.  Raises UnknownAgent."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            raise UnknownAgent(
                f"unknown agent {name!r}: no module {error.name!r} in {folder}; expected {KNOWN}"
            ) from error
        raise _import_failed(name, module, error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # raised by the code of the module
        raise _import_failed(name, module, error) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise UnknownAgent(
                f"invalid agent {name!r}: module {module} has no attribute {attribute!r}"
            ) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # raised by the module's own `__getattr__`
            raise _import_failed(name, module, error) from error
    return found


def _imported(name: str, module: str, attribute: str) -> Agent:
    found = import_attribute(name, module, attribute)
    if not callable(found) or not (_asynchronous(found) or _takes_turn(found)):
        raise UnknownAgent(
            f"invalid agent {name!r}: expected an async function, not {type(found).__name__}."
            " A function that is not async needs a parameter `turn`"
        )
    return found  # type: ignore[no-any-return]


def _asynchronous(found: Any) -> bool:
    call = getattr(type(found), "__call__", None)  # noqa: B004 - an instance whose call is async
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(call)


def _takes_turn(found: Any) -> bool:
    """True for a function of `turn`.  The name tells an agent from a function that makes one."""
    try:
        return not isinstance(found, type) and "turn" in inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False


def _import_failed(name: str, module: str, error: BaseException) -> UnknownAgent:
    return UnknownAgent(f"invalid agent {name!r}: cannot import {module}: {describe(error)}")


__all__ = ["KNOWN", "Agent", "UnknownAgent", "find_agent", "import_attribute"]
