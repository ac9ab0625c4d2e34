"""Jobs by name, for the command line: `process`, and your own as `module:attribute`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..runtime.jobs.definition import JobDefinition, definitions_by_name
from ..runtime.jobs.process_job import PROCESS, Processes
from ..runtime.jobs.session_job import SESSION, ChildSessions
from .base import UnknownAgent
from .registry import import_attribute

__all__ = ["UnknownJob", "find_jobs"]


class UnknownJob(Exception):
    """No definition of a job has this name."""


def find_jobs(names: Iterable[str]) -> tuple[JobDefinition, ...]:
    """Return the definitions of these names.  Raises UnknownJob.

    `process` executes programs, `session` child sessions.  `module:attribute` is a definition, or several in a list or a
    tuple; the current folder is searched first.
    """
    found = [each for name in names for each in _named(name)]
    try:
        return tuple(definitions_by_name(found).values())
    except (TypeError, ValueError) as error:
        raise UnknownJob(str(error)) from error


def _named(name: str) -> list[JobDefinition]:
    if name == PROCESS:
        return [Processes()]
    if name == SESSION:
        return [ChildSessions()]
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise UnknownJob(f"unknown job {name!r}: expected process, session or module:attribute")
    try:
        found: Any = import_attribute(name, module, attribute)
    except UnknownAgent as error:
        raise UnknownJob(str(error).replace(" agent ", " job ", 1)) from error
    return list(found) if isinstance(found, list | tuple) else [found]
