"""Policies and retentions as one word of a scenario, and back.  Spec: specs/README.md."""

from __future__ import annotations

from typing import Any, Final

import attrs

from ...failure import RetryLimits
from ...policy import (
    Audience,
    Delivery,
    KeyScope,
    Lane,
    OnOtherContent,
    OnRetry,
    OnSameSlot,
    Policy,
    WhileWaiting,
)
from ...replace import replace
from ...retention import Keep, Retention

__all__ = ["read_policy", "read_retention", "write_policy", "write_retention"]


FLAGS: Final[dict[str, dict[str, Any]]] = {
    "earliest": {"delivery": Delivery.EARLIEST},
    "before_completion": {"delivery": Delivery.BEFORE_COMPLETION},
    "hold": {"on_retry": OnRetry.HOLD},
    "original": {"on_other_content": OnOtherContent.ORIGINAL},
    "open": {"key_scope": KeyScope.OPEN},
    "when_retired": {"when_retired": True},
    "barrier": {"barrier": True},
    "coalesce": {"on_same_slot": OnSameSlot.COALESCE},
    "model": {"audience": Audience.MODEL},
    "nobody": {"audience": Audience.NOBODY},
    "may_be_empty": {"may_be_empty": True},
    "steers": {"steers": True},
    "folds": {"while_waiting": WhileWaiting.FOLD},
    "holds": {"while_waiting": WhileWaiting.HOLD},
    "supersedes": {"while_waiting": WhileWaiting.SUPERSEDE},
    "background": {"while_waiting": WhileWaiting.BACKGROUND},
}
RETRY: Final = tuple([a.name for a in attrs.fields(RetryLimits)])


def read_policy(text: str) -> Policy:
    """Read a lane and the values that are not the default: `system,batch:wake,earliest,priority:5`."""
    lane, *flags = text.split(",")
    changes: dict[str, Any] = {}
    for flag in flags:
        name, _, value = flag.partition(":")
        match name:
            case "batch":
                changes["batch"] = value
            case "priority":
                changes["priority"] = int(value)
            case _ if name in RETRY:
                limits = changes.get("retry", RetryLimits())
                changes["retry"] = replace(limits, **{name: int(value)})
            case _:
                changes |= FLAGS[name]
    return Policy(Lane(lane), **changes)


def read_retention(text: str) -> Retention:
    """Read what is kept, each for how long and for how many events: `journals:0/10,commands_for_ms:172800000`."""
    fields: dict[str, Any] = {}
    for word in text.split(",") if text != "nothing" else ():
        name, _, value = word.partition(":")
        if name.endswith("_ms"):
            fields[name] = int(value)
            continue
        for_ms, _, last = value.partition("/")
        fields[name] = Keep(int(for_ms), int(last or 0))
    return Retention(**fields)


def write_policy(policy: Policy) -> str:
    words = [policy.lane.value]
    if policy.batch is not None:
        words.append(f"batch:{policy.batch}")
    for flag, change in FLAGS.items():
        ((name, value),) = change.items()
        if getattr(policy, name) == value:
            words.append(flag)
    if policy.priority != 128:
        words.append(f"priority:{policy.priority}")
    if policy.retry is not None:
        words += [f"{name}:{getattr(policy.retry, name)}" for name in RETRY]
    return ",".join(words)


def write_retention(policy: Retention) -> str:
    words = []
    for a in attrs.fields(Retention):
        value = getattr(policy, a.name)
        if isinstance(value, Keep):
            words.append(f"{a.name}:{value.for_ms}" + f"/{value.last}" * bool(value.last))
        elif value is not None and value != a.default:
            words.append(f"{a.name}:{value}")
    return ",".join(words) or "nothing"
