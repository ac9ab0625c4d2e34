"""The rules of style and structure that a test can check."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from paths import DRIVERS, KERNEL, ROOT, SPECS, TESTS

CHECK = KERNEL / "check"

PURE = {
    *("__future__", "attrs", "collections", "enum", "functools", "hashlib"),
    *("itertools", "json", "operator", "tenure", "typing"),
}
PURE_IN_CHECK = PURE | {
    *("contextlib", "heapq", "html", "importlib", "inspect", "re", "textwrap"),
}
CLOCKS_AND_RANDOMNESS = {
    *("monotonic", "monotonic_ns", "now", "perf_counter", "perf_counter_ns", "time", "time_ns"),
    *("today", "utcnow"),
    *("SystemRandom", "choices", "getrandbits", "randbytes", "randint", "random", "randrange"),
    *("shuffle", "token_bytes", "token_hex", "urandom", "uuid1", "uuid4", "uuid7"),
}
IO_BUILTINS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}
UNCLEAR = {"context", "handler", "helper", "manager", "util"}
ENUMS = {"Enum", "Flag", "IntEnum", "IntFlag", "StrEnum"}
MUTABLE = {
    "Transaction",
    "AggregateTransaction",
    "JobTransaction",
    "TriggerTransaction",
    "Removal",
}  # accumulate the writes of one decision and never leave it
NOT_CLAUSES = {"SHA-256", "UTF-8", "UTF-16"}

KERNEL_LINES_MAX = 500  # a table or a class may be long, if it is one subject
RULES_LINES_MAX = 60
FUNCTION_LINES_MAX = 60

CLAUSE = re.compile(r"[A-Z]+-\d+")
DEFINITION = re.compile(r"^- \*\*([A-Z]+-\d+)\*\*", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*roots: Path) -> list[Path]:
    return sorted(path for root in roots for path in root.rglob("*.py"))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def at(path: Path, node: ast.expr | ast.stmt | None = None) -> str:
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{node.lineno}" if node else name


def absolute_imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0], node


def last_name(node: ast.expr) -> str:
    """Return `frozen` for `frozen`, `attrs.frozen`, `frozen(...)` and `frozen[...]`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return last_name(inner)
        case _:
            return ""


def frozen(decorator: ast.expr) -> bool:
    if last_name(decorator) == "frozen":
        return True
    return (
        isinstance(decorator, ast.Call)
        and last_name(decorator) == "define"
        and any(
            keyword.arg == "frozen"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value is True
            for keyword in decorator.keywords
        )
    )


def without_fields(node: ast.ClassDef) -> bool:
    """Return True if a class has neither annotated fields nor `__init__`."""
    return not any(
        (isinstance(item, ast.AnnAssign) and last_name(item.annotation) != "ClassVar")
        or (isinstance(item, ast.FunctionDef) and item.name == "__init__")
        for item in node.body
    )


def without_slots(node: ast.ClassDef) -> bool:
    """Return True if a class has `__slots__ = ()`, so that its instances have no fields."""
    return any(
        isinstance(item, ast.Assign)
        and [last_name(target) for target in item.targets] == ["__slots__"]
        and isinstance(item.value, ast.Tuple)
        and not item.value.elts
        for item in node.body
    )


def immutable(node: ast.ClassDef) -> bool:
    bases = {last_name(base) for base in node.bases}
    return (
        any(frozen(decorator) for decorator in node.decorator_list)
        or bool(bases & (ENUMS | {"NamedTuple", "Protocol", "TypedDict"}))
        or ("Generic" in bases and without_fields(node))
        or without_slots(node)
        or node.name in MUTABLE
    )


def words(name: str) -> set[str]:
    """Return the words of a snake_case or CamelCase name in lower case and singular."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {part.lower().removesuffix("s") for part in parts}


def path_names(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).with_suffix("").parts


def defined() -> list[tuple[str, Path]]:
    """Return every clause that a spec page defines, with its page."""
    return [
        (clause, page)
        for page in sorted(SPECS.rglob("*.md"))
        for clause in DEFINITION.findall(page.read_text(encoding="utf-8"))
    ]


def test_the_kernel_imports_only_what_is_pure() -> None:
    impure = [
        f"{at(path, node)} {name}"
        for path in modules(KERNEL)
        for name, node in absolute_imports(path)
        if name not in (PURE_IN_CHECK if path.is_relative_to(CHECK) else PURE)
    ]

    assert impure == []


def test_no_import_starts_at_a_source_root() -> None:
    through = [
        f"{at(path, node)} {name}"
        for path in modules(KERNEL, DRIVERS, TESTS)
        for name, node in absolute_imports(path)
        if name in {"kernel", "drivers"}
    ]

    assert through == []


def test_the_kernel_uses_no_clock_and_no_randomness() -> None:
    calls = [
        f"{at(path, node)} {last_name(node.func)}"
        for path in modules(KERNEL)
        for node in nodes(path)
        if isinstance(node, ast.Call) and last_name(node.func) in CLOCKS_AND_RANDOMNESS
    ]

    assert calls == []


def test_the_kernel_calls_no_builtin_that_does_io() -> None:
    calls = [
        f"{at(path, node)} {node.func.id}"
        for path in modules(KERNEL)
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in IO_BUILTINS
    ]

    assert calls == []


def test_a_kernel_module_is_not_too_long() -> None:
    long = [
        f"{at(path)}: {lines} lines"
        for path in modules(KERNEL)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > KERNEL_LINES_MAX
    ]

    assert long == []


def test_a_function_is_not_too_long() -> None:
    long = [
        f"{at(path, node)} {node.name}: {lines} lines"
        for path in modules(KERNEL, DRIVERS)
        for node in nodes(path)
        if isinstance(node, Function)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]

    assert long == []


def test_rules_is_short_and_imports_no_other_module_of_the_kernel() -> None:
    for path in (path for path in [KERNEL / "rules.py"] if path.exists()):
        relative = [
            at(path, node)
            for node in nodes(path)
            if isinstance(node, ast.ImportFrom) and node.level > 0
        ]

        assert len(path.read_text(encoding="utf-8").splitlines()) <= RULES_LINES_MAX
        assert "tenure" not in {name for name, _ in absolute_imports(path)}
        assert relative == []


def test_every_class_of_the_kernel_is_immutable() -> None:
    mutable = [
        f"{at(path, node)} {node.name}"
        for path in modules(KERNEL)
        if not path.is_relative_to(CHECK)
        for node in nodes(path)
        if isinstance(node, ast.ClassDef) and not immutable(node)
    ]

    assert mutable == []


def test_no_name_says_manager_handler_helper_util_or_context() -> None:
    named = [
        (at(path, node), node.name)
        for path in modules(KERNEL, DRIVERS)
        for node in nodes(path)
        if isinstance(node, Function | ast.ClassDef)
    ]
    named += [(at(path), part) for path in modules(KERNEL, DRIVERS) for part in path_names(path)]

    assert [(where, name) for where, name in named if words(name) & UNCLEAR] == []


def test_a_clause_is_defined_once() -> None:
    counts = Counter(clause for clause, _ in defined())

    assert sorted(clause for clause, count in counts.items() if count > 1) == []


def test_every_clause_that_the_kernel_names_is_defined_in_the_specs() -> None:
    known = {clause for clause, _ in defined()} | NOT_CLAUSES
    unknown = [
        f"{at(path, node)} {node.value}"
        for path in modules(KERNEL)
        for node in nodes(path)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CLAUSE.fullmatch(node.value)
        and node.value not in known
    ]

    assert unknown == []


def test_every_clause_of_the_specs_occurs_in_the_code() -> None:
    used = {
        clause
        for path in modules(KERNEL, DRIVERS)
        for clause in re.findall(rf"\b{CLAUSE.pattern}\b", path.read_text(encoding="utf-8"))
    }

    assert [f"{at(page)} {clause}" for clause, page in defined() if clause not in used] == []
