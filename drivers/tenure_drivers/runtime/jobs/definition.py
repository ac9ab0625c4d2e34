"""Definitions of jobs: what a worker executes for a job of this name, and what registers one.  Spec: specs/job-runner.md."""

from __future__ import annotations

import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import frozen

from tenure.commands import EventType
from tenure.commands.validation import validate_id
from tenure.failure import RetryLimits
from tenure.machines.job import Disposition

from ..steps import call, in_thread, is_async
from .work import BlockingWork, Work, json_of

__all__ = [
    "JobDefinition",
    "JobFunction",
    "JobRequest",
    "NewJob",
    "definitions_by_name",
    "event_type",
    "job",
]


@frozen
class NewJob:
    """A job to register: the name of its runner, its input as JSON, and who may execute it how often."""

    runner: str
    input: str
    disposition: Disposition
    event_types: tuple[EventType, ...] = ()
    retry: RetryLimits | None = None


def event_type(name: str, schema: Any) -> EventType:
    """Return a type of events with a JSON schema; None: any JSON."""
    return EventType(name, None if schema is None else json_of(f"the schema of {name}", schema))


class JobRequest(ABC):
    """What can be registered as a job."""

    @abstractmethod
    def new(self, input: Any = None) -> NewJob:
        """Return the job to register for this input."""


class JobDefinition(JobRequest):
    """What a worker executes for the jobs of one runner.  `description`: what it does, for a model."""

    name: str
    description: str = ""

    @abstractmethod
    async def execute(self, work: Work) -> str:
        """Execute a job, and return its output as JSON.  The first request of it is `work.begin()`."""


class JobFunction(JobDefinition):
    """A job that is a function of its work and, if it has a second parameter, of its input."""

    def __init__(
        self,
        f: Callable[..., Any],
        disposition: Disposition,
        name: str,
        events: Mapping[str, Any],
        retry: RetryLimits | None,
    ) -> None:
        self.f, self.disposition, self.name = f, disposition, name
        self.events, self.retry = dict(events), retry
        self.description = inspect.getdoc(f) or ""
        parameters = list(inspect.signature(f).parameters.values())
        if not 1 <= len(parameters) <= 2:
            raise TypeError(f"job {name}: expected a function of the work and of an input")
        self._takes_input = len(parameters) == 2
        self._type: Any = Any
        if self._takes_input:
            try:
                self._type = typing.get_type_hints(f).get(parameters[1].name, Any)
            except Exception:  # an annotation that cannot be evaluated at run time
                self._type = Any

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Call the function itself."""
        return self.f(*args, **kw)

    def new(self, input: Any = None) -> NewJob:
        """Return the job to register for this input."""
        types = tuple([event_type(name, schema) for name, schema in self.events.items()])
        text = json_of(f"the input of job {self.name}", input)
        return NewJob(self.name, text, self.disposition, types, self.retry)

    async def execute(self, work: Work) -> str:
        """Call the function, in a thread if it is not async."""
        given = (work.input_as(self._type),) if self._takes_input else ()
        await work.begin()
        if is_async(self.f):
            value = await call(self.f, (work, *given), {})
        else:
            blocking = BlockingWork(work)
            value = await in_thread(lambda: self.f(blocking, *given))
        return json_of(f"the output of job {self.name}", value)


def job(
    *,
    disposition: Disposition | str,
    name: str | None = None,
    events: Mapping[str, Any] | None = None,
    retry: RetryLimits | None = None,
) -> Callable[[Callable[..., Any]], JobFunction]:
    """Make a job of a function `f(work)` or `f(work, input)`, async or not.

    `disposition`: `rerunnable`, any worker may run it again after a crash; or `owner_bound`, it is started at most once.
    `name` is stored with each job, so that a worker finds its function; the default is the name of the function.
    `events`: the types that it emits, each with a JSON schema.
    """
    how = Disposition(disposition)
    if how is Disposition.EXTERNAL:
        raise ValueError("disposition 'external': no worker executes such a job")

    def decorate(f: Callable[..., Any]) -> JobFunction:
        named = name or f.__name__
        if problem := validate_id("name", named):
            raise ValueError(f"job {named[:40]!r}: {problem}")
        return JobFunction(f, how, named, events or {}, retry)

    return decorate


def definitions_by_name(definitions: Iterable[JobDefinition]) -> dict[str, JobDefinition]:
    """Return definitions by their names.  Raises ValueError if two have one name, TypeError for anything else."""
    found: dict[str, JobDefinition] = {}
    for each in definitions:
        if not isinstance(each, JobDefinition):
            raise TypeError(f"jobs: {each!r} is no job; decorate the function with @job")
        if each.name in found:
            raise ValueError(f"jobs: two are named {each.name!r}")
        found[each.name] = each
    return found
