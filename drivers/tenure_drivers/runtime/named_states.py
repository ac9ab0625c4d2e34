"""The named states of a turn, as a mapping.  Spec: specs/state.md."""

from __future__ import annotations

from collections.abc import Mapping

from tenure.frame import STATE, NewState
from tenure.questions.core import LoadedRun

from .errors import IllegalResult

__all__ = ["new_states", "states_of"]


def states_of(loaded: LoadedRun) -> Mapping[str, str]:
    """Return the states of the current frame by name."""
    named = {each.name: each.text for each in loaded.states}
    return named if loaded.state is None else {**named, STATE: loaded.state}


def new_states(states: Mapping[str, str | None] | None) -> tuple[NewState, ...]:
    """Return the states of a commit.  Raises IllegalResult for anything but a mapping."""
    if states is None:
        return ()
    if not isinstance(states, Mapping):
        raise IllegalResult(f"states is {type(states).__name__}, expected a mapping")
    return tuple([NewState(name, text) for name, text in states.items()])
