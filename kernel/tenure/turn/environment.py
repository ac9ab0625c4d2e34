"""The environment of a request: its text, its digest, and what has changed since the recorded requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from ..messages.codec import InvalidMessage, from_json, non_defaults, to_json
from ..replace import replace
from ..transcript import hash_text
from .protocol import Environment
from .states import Core, path_before_turn

__all__ = ["describe", "environment_changes", "note_id", "with_environment"]


PATHS_MAX: Final = 8
CHANGES_MAX: Final = 8


def with_environment(core: Core, environment: Environment) -> Core:
    """Return the core with this environment, described and hashed once."""
    described = describe(environment)
    return replace(
        core, environment=environment, described=described, digest=hash_text(described),
        stored_environment_digest=core.replay.stored_environment_digest,
    )  # fmt: skip


def environment_changes(core: Core) -> tuple[tuple[str, str], ...]:
    """Return how recorded requests differ from those that would be made now (TURN-7).

    Each change is a name, under which it is noted once, and a text.  Unless the turn is strict, changes that the
    journal notes already are left out.
    """
    replay, found = core.replay, dict[str, str]()
    for iteration in sorted(replay.replies):
        request = replay.replies[iteration]
        if request.environment != core.digest:
            name = f"{request.environment[:16]}-{core.digest[:16]}"
            found.setdefault(
                name, f"iteration {iteration}: {', '.join(_paths(core, request.environment))}"
            )
        if request.path != (request.path_before or path_before_turn(core.setup)):
            found.setdefault(f"path-{iteration}", f"iteration {iteration}: transcript")
    noted = frozenset() if core.setup.strict else replay.noted
    fresh = [(name, text) for name, text in found.items() if note_id(name) not in noted]
    return tuple(fresh[:CHANGES_MAX])


def _paths(core: Core, digest: str) -> tuple[str, ...]:
    """Return where an environment differs from the present one; only the stored one is known in full."""
    replay = core.replay
    if replay.environment is None or digest != replay.stored_environment_digest:
        return ("environment",)
    return differences(replay.environment, core.described)


def note_id(name: str) -> str:
    """Return the name of a change in the journal."""
    return f"0:request:{name}"


def describe(environment: Environment) -> str:
    """Return the environment as canonical JSON.

    Schemas and parameters are parsed, so that a difference inside them has a path.
    """
    found = non_defaults(environment)
    found["parameters"] = _parsed(environment.parameters)
    for tool, fields in zip(environment.tools, found.get("tools", ()), strict=True):
        fields["schema"] = _parsed(tool.schema)
    found["tools"] = {fields.pop("name"): fields for fields in found.get("tools", ())}
    return to_json(found)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def differences(old: str, new: str) -> tuple[str, ...]:
    """Return the first paths at which two descriptions differ (TURN-7)."""
    try:
        old_fields, new_fields = from_json(old), from_json(new)
    except InvalidMessage:
        return ("environment",)
    found: list[str] = []
    for path in _differing(old_fields, new_fields, ""):
        found.append(path)
        if len(found) == PATHS_MAX:
            break
    return tuple(found)


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old or key not in new:
                yield f"{path}/{key}"
            else:
                yield from _differing(old[key], new[key], f"{path}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differing(left, right, f"{path}/{index}")
    else:
        yield path or "/"
