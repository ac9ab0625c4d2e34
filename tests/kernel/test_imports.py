"""No module of this repository imports itself through others, at the top of a module or in a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from paths import DRIVERS, KERNEL

LAZY = {"import_module", "__import__"}


def modules() -> dict[str, Path]:
    found = {}
    for package in (KERNEL, DRIVERS):
        for path in package.rglob("*.py"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: set[str]) -> Iterator[str]:
    """Yield every module of this repository that a source file imports, also in functions and for type checkers."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name in known)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = absolute(package, module, level)
                for alias in names:
                    inner = f"{base}.{alias.name}"
                    yield inner if inner in known else base
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[first, *_]):
                if called in LAZY and isinstance(first, ast.Constant):
                    target = str(first.value)
                    level = len(target) - len(target.lstrip("."))
                    yield absolute(package, target.lstrip("."), level)


def absolute(package: str, module: str | None, level: int) -> str:
    if not level:
        return module or ""
    base = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*base, module] if module else base)


def graph(found: dict[str, Path]) -> dict[str, set[str]]:
    known = set(found)
    return {
        name: {other for other in imported(name, path, known) if other in known} - {name}
        for name, path in found.items()
    }


def cycle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_through_others() -> None:
    edges = graph(modules())

    assert sum(map(len, edges.values())) > 500  # the imports were found
    assert cycle(edges) == []


def test_imports_in_functions_and_for_type_checkers_are_found(tmp_path: Path) -> None:
    for name, text in {
        "p/__init__.py": "",
        "p/a.py": "def f():\n    from . import b",
        "p/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import C",
        "p/c.py": "import importlib\nimportlib.import_module('.a', __package__)",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = {name: tmp_path / "p" / f"{name[2:]}.py" for name in ("p.a", "p.b", "p.c")}

    assert set(cycle(graph(found))) == {"p.a", "p.b", "p.c"}
