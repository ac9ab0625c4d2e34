"""State machines as tables of typed rows, of which exactly one is enabled in every case.

`Table.step` uses the first enabled row.  A test of each machine enumerates all cases and finds no second one.  Callers
never reach a pair of state and command without a row: such a pair is a bug of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import field, frozen

__all__ = ["Row", "Table", "always"]


S = TypeVar("S")
C = TypeVar("C")
O = TypeVar("O")


@frozen
class Row(Generic[S, C, O]):
    """One rule: in `state`, on `command`, if the guard `when` holds, the action `then` applies (`clause`)."""

    clause: str
    state: type[S]
    command: type[C]
    when: Callable[[S, C], bool]
    then: Callable[[S, C, str], O]


def always(state: object, command: object) -> bool:
    """A guard that always holds."""
    return True


@frozen
class Table(Generic[O]):
    """The rules of one machine."""

    rows: tuple[Row[Any, Any, O], ...]
    index: dict[tuple[type, type], tuple[Row[Any, Any, O], ...]] = field(init=False, repr=False)

    @index.default
    def _pair_up(self) -> dict[tuple[type, type], tuple[Row[Any, Any, O], ...]]:
        pairs = dict.fromkeys((row.state, row.command) for row in self.rows)
        return {p: tuple(r for r in self.rows if (r.state, r.command) == p) for p in pairs}

    def enabled(self, state: object, command: object) -> tuple[Row[Any, Any, O], ...]:
        """Return the rows whose guard holds."""
        rows = self.index.get((state.__class__, command.__class__), ())
        return tuple(row for row in rows if row.when(state, command))

    def step(self, state: object, command: object) -> O:
        """Apply the first enabled row.  AssertionError: there is none."""
        for row in self.index.get((state.__class__, command.__class__), ()):
            if row.when(state, command):
                return row.then(state, command, row.clause)
        raise AssertionError(f"no row for {command} in {state}")
