"""tests/public_api.txt lists the public interface, so that its changes appear in the diff."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any

import pytest
from paths import DRIVERS, KERNEL, ROOT, TESTS

PUBLIC = (
    "tenure",
    "tenure.commands",
    "tenure.questions",
    "tenure.messages",
    "tenure.check",
    "tenure_drivers",
)
LIST = TESTS / "public_api.txt"


def entries() -> Iterator[str]:
    for module in PUBLIC:
        found = importlib.import_module(module)
        for name in sorted(found.__all__):
            yield from described(f"{module}.{name}", getattr(found, name))


def described(name: str, value: Any) -> Iterator[str]:
    """Yield a line for a name, and for a class a line for each public method and enum member."""
    if inspect.isclass(value) and not isinstance(value, types.GenericAlias):
        if issubclass(value, enum.Enum):
            yield f"{name}: {', '.join(value.__members__)}"
            return
        yield f"{name}{signature(value)}"
        for member, found in sorted(vars(value).items()):
            if not member.startswith("_") and isinstance(found, property):
                yield f"    .{member}"
            elif not member.startswith("_") and inspect.isfunction(inspect.unwrap(plain(found))):
                yield f"    .{member}{signature(plain(found))}"
    elif inspect.isfunction(value):
        yield f"{name}{signature(value)}"
    else:
        yield name


def plain(found: Any) -> Any:
    return found.__func__ if isinstance(found, classmethod | staticmethod) else found


SHOWN_MAX = 300  # characters of a default


class Long:
    """Stands for a default with a long text, such as a table of names."""

    def __repr__(self) -> str:
        return "<long>"


def shortened(parameter: inspect.Parameter) -> inspect.Parameter:
    return (
        parameter.replace(default=Long()) if len(repr(parameter.default)) > SHOWN_MAX else parameter
    )


def signature(value: Any) -> str:
    try:
        found = inspect.signature(value)
        short = found.replace(parameters=[shortened(each) for each in found.parameters.values()])
        text = str(short).replace("'", "")
        return re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)
    except (TypeError, ValueError):
        return ""


def test_the_public_interface_is_as_listed(request: pytest.FixtureRequest) -> None:
    text = "\n".join(entries()) + "\n"
    if request.config.getoption("--rewrite"):
        LIST.write_text(text, encoding="utf-8")

    assert text == LIST.read_text(encoding="utf-8")


def test_everything_public_has_a_docstring() -> None:
    missing: list[str] = []
    for module in PUBLIC:
        found = importlib.import_module(module)
        for name in found.__all__:
            value = getattr(found, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                missing += undocumented(f"{module}.{name}", value)

    assert missing == []


def undocumented(name: str, value: Any) -> Iterator[str]:
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if not text or text.startswith(f"{value.__name__}("):  # made by a dataclass
        yield name
    if inspect.isclass(value):
        for member, found in vars(value).items():
            function = plain(found.fget if isinstance(found, property) else found)
            if member.startswith("_") or not inspect.isfunction(function):
                continue
            if function.__module__.startswith("tenure") and not inspect.getdoc(
                getattr(value, member)
            ):
                yield f"{name}.{member}"


def test_every_module_has_an_export_list() -> None:
    missing = [
        path.relative_to(ROOT).as_posix()
        for package in (KERNEL, DRIVERS)
        for path in sorted(package.rglob("*.py"))
        if exports(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]

    assert missing == []


def exports(tree: ast.Module) -> list[str] | None:
    """Return the names in `__all__`; [] for a package with a docstring only; None if `__all__` is missing."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [] if all(isinstance(node, ast.Expr) for node in tree.body) else None
