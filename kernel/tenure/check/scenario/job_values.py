"""Values of the commands of jobs as short text, and back.  Spec: specs/README.md."""

from __future__ import annotations

import attrs

from ...failure import RetryLimits
from ...machines.lease import Evidence, LocalProcess, Owner
from ...verdict import Observed

__all__ = [
    "read_limits",
    "read_observed",
    "read_process",
    "write_limits",
    "write_observed",
    "write_process",
]


def read_observed(text: str) -> tuple[Observed, ...]:
    """Read what was observed of owners: `w/w.1:dead,x/x.1:unknown`."""
    found = []
    for word in text.split(","):
        owner, _, evidence = word.rpartition(":")
        owner_id, _, incarnation_id = owner.partition("/")
        found.append(Observed(Owner(owner_id, incarnation_id), Evidence(evidence)))
    return tuple(found)


def write_observed(observed: tuple[Observed, ...]) -> str:
    """Return the text that `read_observed` reads."""
    return ",".join(
        f"{each.owner.owner_id}/{each.owner.incarnation_id}:{each.evidence.value}"
        for each in observed
    )


def read_limits(text: str) -> RetryLimits:
    """Read limits of retries: `failures:2,losses:3`."""
    words = [word.partition(":") for word in text.split(",")]
    return RetryLimits(**{name: int(value) for name, _, value in words})


def write_limits(limits: RetryLimits) -> str:
    """Return the text that `read_limits` reads."""
    names = [a.name for a in attrs.fields(RetryLimits)]
    return ",".join(f"{name}:{getattr(limits, name)}" for name in names)


def read_process(text: str) -> LocalProcess:
    """Read a process: `host/boot/ns/7/12`, the last two its pid and its start."""
    host, boot, namespace, pid, start = text.split("/")
    return LocalProcess(host, boot, namespace, int(pid), start)


def write_process(process: LocalProcess) -> str:
    """Return the text that `read_process` reads."""
    where = f"{process.host}/{process.boot}/{process.pid_namespace}"
    return f"{where}/{process.pid}/{process.start}"
