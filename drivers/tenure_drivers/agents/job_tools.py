"""Tools with which a model starts jobs, looks at them, signals them and cancels them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tenure.questions.jobs import LoadJob

from ..runtime.current_turn import current_turn
from ..runtime.errors import CommandRefused
from ..runtime.jobs.definition import JobDefinition, definitions_by_name
from ..runtime.jobs.handle import JobHandle
from .tools import FunctionTool, ToolFailed, make

__all__ = ["job_tools"]


OUTPUT_MAX: Final = 20_000  # characters of an output
SIGNAL: Final = {
    "type": "object",
    "properties": {"job_id": {"type": "string"}, "name": {"type": "string"}, "value": {}},
    "required": ["job_id", "name"],
    "additionalProperties": False,
}


def job_tools(*definitions: JobDefinition) -> list[FunctionTool]:
    """Return the tools start_job, check_job, signal_job and cancel_job, for jobs of these definitions.

    The model continues while a job is at work, and a message wakes the session when the job has ended.  The tools see
    only jobs that the session itself has started.
    """
    known = definitions_by_name(definitions)
    if not known:
        raise ValueError("job_tools: expected the definitions of jobs that the model may start")
    return [
        make(StartTool(known).start_job, description=_described(known), schema=_schema(known)),
        make(
            check_job,
            description="Return the status of a job, and its output when it has completed.",
        ),
        make(
            signal_job,
            description="Tell a job something under a name that it waits for.",
            schema=SIGNAL,
        ),
        make(cancel_job, description="Ask a job to end."),
    ]


class StartTool:
    """The tool that starts one of some jobs."""

    def __init__(self, known: dict[str, JobDefinition]) -> None:
        self.known = known

    async def start_job(self, job: str, input: Any = None, *, key: str) -> dict[str, str]:
        definition = self.known.get(job)
        if definition is None:
            raise ToolFailed(f"there is no job {job!r}; expected one of {', '.join(self.known)}")
        turn = current_turn()
        try:
            handle = await turn.jobs.start(key, definition, input)
        except CommandRefused as error:
            raise ToolFailed(str(error)) from error
        return {"job_id": handle.id}


async def check_job(job_id: str) -> dict[str, Any]:
    handle = await _own(job_id)
    loaded = await current_turn().read(LoadJob(handle.id, limit=1))
    assert loaded is not None
    found: dict[str, Any] = {"status": loaded.item.status}
    if loaded.item.why:
        found["why"] = loaded.item.why
    if loaded.output is not None:
        cut = len(loaded.output) > OUTPUT_MAX
        shown = loaded.output[:OUTPUT_MAX]
        found["output"] = shown if cut else msgspec.json.decode(loaded.output)
    return found


async def signal_job(job_id: str, name: str, value: Any = None, *, key: str) -> str:
    handle = await _own(job_id)
    try:
        number = await handle.signal(name, value, signal_id=key)
    except CommandRefused as error:
        return f"the job was not told: {error.refused.reason.value}"
    return f"told; this is {name} {number}"


async def cancel_job(job_id: str, *, key: str) -> str:
    handle = await _own(job_id)
    try:
        asked = await handle.cancel(current_turn().session_id, command_id=key)
    except CommandRefused as error:
        return f"the job was not cancelled: {error.refused.reason.value}"
    return "cancelled" if asked.ended else "asked to end"


async def _own(job_id: str) -> JobHandle:
    try:
        return await current_turn().jobs.own(job_id)
    except LookupError as error:
        raise ToolFailed(str(error)) from error


def _described(known: dict[str, JobDefinition]) -> str:
    lines = [f"- {name}: {known[name].description}".rstrip(": ") for name in known]
    return (
        "Start work in the background and return its job_id at once. A message tells you when it has ended. The jobs:\n"
        + "\n".join(lines)
    )


def _schema(known: dict[str, JobDefinition]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"job": {"type": "string", "enum": list(known)}, "input": {}},
        "required": ["job"],
        "additionalProperties": False,
    }
