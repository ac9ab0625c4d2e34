"""Lists what a release stores: tables, columns, indexes, classes and members, one in a line (SCHEMA-9).

    python tests/support/stored_forms.py --rewrite

writes the list of this release to tests/fixtures/schema/N/forms.txt.  The lists of earlier releases never change.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import attrs
from paths import TESTS

from tenure.release import RELEASE, added_in, since
from tenure_drivers.stores.layout import layout_of

FIXTURES = TESTS / "fixtures" / "schema"


def stored_forms(release: int) -> list[str]:
    """Return the lines for everything that a release stores."""
    layout = layout_of(release)
    lines: set[str] = set()
    for codec in map(layout.codec, layout.records):
        lines.add(f"table {codec.table}: version {codec.version}, key {', '.join(codec.key)}")
        for column in codec.columns:
            null = "" if column.nullable else " not null"
            lines.add(f"column {codec.table}.{column.name}: {column.sql_type}{null}")
        for name, kind in _hints(codec.record).items():
            if added_in(codec.record, name) <= release:
                lines.update(_of_type(kind, release, set()))
    for index in layout.indexes:
        columns = [n + " descending" * (n in index.descending) for n in index.columns]
        unique = " unique" * index.unique
        table = layout.codec(index.record).table
        lines.add(f"index {index.name}:{unique} {table} ({', '.join(columns)})")
    return sorted(lines)


def _of_type(kind: Any, release: int, seen: set[Any]) -> Iterator[str]:
    for part in typing.get_args(kind):
        yield from _of_type(part, release, seen)
    if kind in seen or not isinstance(kind, type) or since(kind) > release:
        return
    seen.add(kind)
    if issubclass(kind, enum.Enum):
        for member in kind:
            if added_in(kind, member.name) <= release:
                yield f"member {kind.__name__}.{member.name}: {member.value!r}"
    elif attrs.has(kind):
        yield f"class {kind.__name__}"
        defaults = {a.name: a.default for a in attrs.fields(kind)}
        for name, hint in _hints(kind).items():
            if added_in(kind, name) <= release:
                default = defaults[name]
                shown = "" if default is attrs.NOTHING else f" = {default!r}"
                yield f"field {kind.__name__}.{name}: {_name(hint)}{shown}"
                yield from _of_type(hint, release, seen)


def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in attrs.fields(cls)}


def _name(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " | ".join(_name(part) for part in typing.get_args(hint))
    if args := typing.get_args(hint):
        parts = ", ".join("..." if part is Ellipsis else _name(part) for part in args)
        return f"{typing.get_origin(hint).__name__}[{parts}]"
    return "None" if hint is types.NoneType else str(hint.__name__)


if __name__ == "__main__":
    if sys.argv[1:] != ["--rewrite"]:
        sys.exit(__doc__)
    path = FIXTURES / str(RELEASE) / "forms.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(stored_forms(RELEASE)) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(TESTS.parent)}")
