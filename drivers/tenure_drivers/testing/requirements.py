"""`@requires`: tests of the conformance kit that only stores with a certain capability must pass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pytest

from ..stores.base import Capability

C = TypeVar("C", bound=type)


def requires(*capabilities: Capability) -> Callable[[C], C]:
    """Mark every test of a class as one that needs these capabilities of a store."""

    def mark(cls: C) -> C:
        for name, test in vars(cls).items():
            if name.startswith("test_"):
                test.requires = frozenset(capabilities)
        return cls

    return mark


class Requirements:
    """Skips tests by mark, when a test class is defined: `pytest -rs` lists them with their reason.

    A test class declares the capabilities of its store.  By default it declares all of them, so that a store cannot
    skip a test by accident.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, test in inspect.getmembers(cls, inspect.isfunction):
            original = getattr(test, "skipped", test)  # a base class may have skipped it
            missing: frozenset[Capability] = (
                getattr(original, "requires", frozenset()) - cls.capabilities
            )
            if missing:
                setattr(cls, name, _skip(original, missing))
            elif original is not test:
                setattr(cls, name, original)


def _skip(test: Callable[..., None], missing: frozenset[Capability]) -> Callable[..., None]:
    @functools.wraps(test)
    def skipped(*args: Any, **kwargs: Any) -> None:
        test(*args, **kwargs)

    skipped.skipped = test  # type: ignore[attr-defined]
    names = ", ".join(sorted(f"Capability.{capability.name}" for capability in missing))
    marked: Callable[..., None] = pytest.mark.skip(reason=f"requires {names}")(skipped)
    return marked


__all__ = ["Requirements", "requires"]
