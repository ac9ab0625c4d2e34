"""Tests that name the clauses they show, and the check that a named clause was really applied."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from paths import SPECS

F = TypeVar("F", bound=Callable[..., None])
DEFINITION = re.compile(r"^- \*\*([A-Z]+-\d+)\*\*", re.MULTILINE)


def defined(page: str) -> set[str]:
    """Return the clauses that a spec page defines."""
    return set(DEFINITION.findall((SPECS / page).read_text(encoding="utf-8")))


class ClauseLog:
    """The clauses that a test has applied.  `answering` are those that steps return; others are only named."""

    def __init__(self, answering: Iterable[str]) -> None:
        self.answering = set(answering)
        self.applied: list[str] = []

    def shows(self, *clauses: str) -> Callable[[F], F]:
        """Name the clauses that a test shows.  The test fails if one of them that steps return was not applied."""

        def decorate(test: F) -> F:
            @functools.wraps(test)
            def run(*args: Any, **kw: Any) -> None:
                self.applied.clear()
                test(*args, **kw)
                assert [c for c in clauses if c in self.answering and c not in self.applied] == []

            run.clauses = clauses  # type: ignore[attr-defined]
            return run  # type: ignore[return-value]

        return decorate


def named(module: Mapping[str, Any]) -> set[str]:
    """Return the clauses that the tests of a module name."""
    return {clause for test in module.values() for clause in getattr(test, "clauses", ())}
