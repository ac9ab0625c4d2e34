"""A machine is a table of typed rows, of which exactly one is enabled in every case.

`Table.step` fires the first enabled row; a test of each machine enumerates that there is never a second one.
A pair of state and command without a row cannot be reached by the callers: meeting one is a bug in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import field, frozen

S = TypeVar("S")
C = TypeVar("C")
O = TypeVar("O")


@frozen
class Row(Generic[S, C, O]):
    """In `state`, on `command`, when the guard holds, do `then` (spec: `clause`)."""

    clause: str
    state: type[S]
    command: type[C]
    when: Callable[[S, C], bool]
    then: Callable[[S, C, str], O]


def always(state: object, command: object) -> bool:
    return True


@frozen
class Table(Generic[O]):
    rows: tuple[Row[Any, Any, O], ...]
    index: dict[tuple[type, type], tuple[Row[Any, Any, O], ...]] = field(init=False, repr=False)

    @index.default
    def _pair_up(self) -> dict[tuple[type, type], tuple[Row[Any, Any, O], ...]]:
        pairs = dict.fromkeys((row.state, row.command) for row in self.rows)
        return {p: tuple(r for r in self.rows if (r.state, r.command) == p) for p in pairs}

    def enabled(self, state: object, command: object) -> tuple[Row[Any, Any, O], ...]:
        rows = self.index.get((state.__class__, command.__class__), ())
        return tuple(row for row in rows if row.when(state, command))

    def step(self, state: object, command: object) -> O:
        for row in self.index.get((state.__class__, command.__class__), ()):
            if row.when(state, command):
                return row.then(state, command, row.clause)
        raise AssertionError(f"no row for {command} in {state}")
