"""Agents by name: a few that need no model, and your own."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any, Final

from .base import Agent, UnknownAgent
from .echo import echo
from .flaky import flaky
from .ledger import ledger

KNOWN: Final = "echo, ledger:FILE, flaky:N, script:FILE, openai:MODEL, module:attribute"
OWN: Final = frozenset(("echo", "ledger", "flaky", "script", "openai"))


def find_agent(name: str) -> Agent:
    """The agent of this name.  `module:attribute` imports the module, with the current folder first."""
    kind, colon, rest = name.partition(":")
    match (kind, colon):
        case ("echo", ""):
            return echo
        case ("ledger", ":"):
            return _ledger(name, rest)
        case ("flaky", ":"):
            return _flaky(name, rest)
        case ("script", ":"):
            return _script(name, rest)
        case ("openai", ":"):
            return _openai(name)
        case (_, ":") if kind and rest and kind not in OWN:
            return _imported(name, kind, rest)
        case _:
            raise UnknownAgent(f"{name!r} names no agent; known are {KNOWN}")


def _ledger(name: str, file: str) -> Agent:
    if not file:
        raise UnknownAgent(f"{name!r} names no file; write ledger:FILE")
    try:
        return ledger(Path(file))
    except OSError as error:
        raise UnknownAgent(f"{name!r}: {file} cannot be written: {error.strerror}") from error


def _script(name: str, file: str) -> Agent:
    if not file:
        raise UnknownAgent(f"{name!r} names no file to append to; write script:FILE")
    from .script import script

    try:
        return script(Path(file))
    except OSError as error:
        raise UnknownAgent(f"{name!r}: {file} cannot be written: {error.strerror}") from error


def _openai(name: str) -> Agent:
    from .openai import openai_agent

    return openai_agent(name)


def _flaky(name: str, times: str) -> Agent:
    if not (times.isascii() and times.isdigit() and len(times) < 10):
        raise UnknownAgent(f"{name!r}: {times!r} is no number of failures; write flaky:2")
    return flaky(int(times))


def _imported(name: str, module: str, attribute: str) -> Agent:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            raise UnknownAgent(
                f"{name!r}: there is no module {error.name!r} in {folder}; known are {KNOWN}"
            ) from error
        raise UnknownAgent(f"{name!r}: importing {module} failed: {_described(error)}") from error
    except (Exception, SystemExit) as error:  # whatever its code raises while it is imported
        raise UnknownAgent(f"{name!r}: importing {module} failed: {_described(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownAgent(f"{name!r}: module {module} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found) or not _asynchronous(found):
        raise UnknownAgent(
            f"{name!r} is no async function of a turn; it is of type {type(found).__name__}"
        )
    return found  # type: ignore[no-any-return]


def _asynchronous(found: Any) -> bool:
    call = getattr(type(found), "__call__", None)  # noqa: B004 - an instance whose call is async
    return inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(call)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


__all__ = ["KNOWN", "Agent", "UnknownAgent", "find_agent"]
