"""The turn of an agent that is not async, which cannot await its methods."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from .errors import NotAwaited
from .turn import Turn

__all__ = ["TurnInThread"]


OWN = ("_turn", "_made", "_make", "check_awaited")


class TurnInThread(Turn):
    """Passes everything on to a turn, and finds out which of its coroutines nobody has awaited.

    Without this the agent would get a coroutine where it expects a result, and might answer with its text.
    """

    _turn: Turn
    _made: list[tuple[str, Coroutine[Any, Any, Any]]]

    def __init__(self, turn: Turn) -> None:
        object.__setattr__(self, "_turn", turn)
        object.__setattr__(self, "_made", [])

    def __getattribute__(self, name: str) -> Any:
        if name in OWN:
            return object.__getattribute__(self, name)
        found = getattr(self._turn, name)
        if inspect.iscoroutinefunction(found):
            return functools.partial(self._make, name, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._turn, name, value)

    def check_awaited(self, returned: object = None) -> None:
        """Raise NotAwaited if a coroutine was made and not begun.  One that the agent returns is awaited later."""
        for name, made in self._made:
            if made is not returned and inspect.getcoroutinestate(made) == inspect.CORO_CREATED:
                made.close()
                raise NotAwaited(name)

    def _make(
        self, name: str, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kw: Any
    ) -> Any:
        made = method(*args, **kw)
        self._made.append((name, made))
        return made
