"""Copy a frozen value with some fields changed."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    replace = attrs.evolve  # so that mypy's plugin checks the names and types of the fields
else:
    _FIELDS: dict[type, tuple[Any, dict[str, int]]] = {}
    _new = object.__new__

    def replace(record, **changes):
        """Return a copy of an attrs value with some fields changed.

        As `attrs.evolve`, but three times as fast: the fields of a class are looked up once.
        """
        cls = record.__class__
        if cls.__dictoffset__:
            return _copied(record, changes)
        known = _FIELDS.get(cls)
        if known is None:
            names = [a.name for a in attrs.fields(cls)]
            pick = attrgetter(
                *names, *names[: len(names) == 1]
            )  # for one name attrgetter returns no tuple
            known = _FIELDS[cls] = (pick, {n: i for i, n in enumerate(names)})
        at = known[1]
        values = list(known[0](record)[: len(at)])
        for name, value in changes.items():
            values[at[name]] = value
        return cls(*values)

    def _copied(record, changes):
        """Copy a value without slots, as wide records are: copying its dict is faster than building it."""
        made = _new(record.__class__)
        fields = made.__dict__
        fields.update(record.__dict__)
        count = len(fields)
        fields.update(changes)
        if len(fields) != count:
            raise TypeError(f"{record.__class__.__name__} has no such fields: {sorted(changes)}")
        return made


__all__ = ["replace"]
