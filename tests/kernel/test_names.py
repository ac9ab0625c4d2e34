"""Names that were replaced by the field's term are not used again."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import DRIVERS, KERNEL, ROOT, SPECS, TESTS

# The old name, and the term that replaced it.
REPLACED = {
    "attic": "SweepView",
    "chronicle": "history",
    "crew": "worker pool",
    "deed": "transition",
    "desk": "session view",
    "docket": "transition cache",
    "interjection": "InterruptView",
    "lifeline": "parent watch",
    "newsroom": "notifier",
    "portrait": "detail",
    "rehearsal": "dry run",
    "slip": "WithdrawView",
}
OLD_NAMES = re.compile(rf"\b(?:{'|'.join(REPLACED)})s?\b", re.IGNORECASE)
GONE = re.compile(r"\b(?:Ingress|Chronicled|Glances|NothingToDo|AgentCode|OwnLoop|Happening)\b")
PLAIN_MODULE = re.compile(
    r"^(?:desk|draft|word|rest|keep|past|talk|board|deed|crew|lifeline|chronicle|trouble|rehearsal"
    r"|stories|trial|peers|news|portal|legal|holding|executed|settle)$"
)


def sources() -> list[Path]:
    here = Path(__file__)
    found = [p for root in (KERNEL, DRIVERS, TESTS) for p in root.rglob("*.py") if p != here]
    return sorted([*found, *SPECS.rglob("*.md"), *SPECS.rglob("*.txt"), ROOT / "README.md"])


@pytest.mark.parametrize("pattern", [OLD_NAMES, GONE], ids=["metaphors", "classes"])
def test_no_old_name_is_left(pattern: re.Pattern[str]) -> None:
    left = [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in sources()
        if path.name not in ("figures.md", "changelog.md") and "guides" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := pattern.search(line))
    ]

    assert left == []


def test_no_module_has_an_old_name() -> None:
    found = [p for root in (KERNEL, DRIVERS) for p in root.rglob("*.py")]

    assert [str(p.relative_to(ROOT)) for p in found if PLAIN_MODULE.match(p.stem)] == []


def identifiers(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name):
            yield node.id


def test_no_identifier_contains_an_old_name() -> None:
    parts = re.compile(rf"(?:^|_)(?:{'|'.join(REPLACED)})s?(?:_|$)", re.IGNORECASE)
    left = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        if path.suffix == ".py"
        for name in identifiers(path)
        if parts.search(name)
    }

    assert sorted(left) == []
