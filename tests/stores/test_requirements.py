"""`@requires`: a test class skips, by mark, what its store does not claim."""

from __future__ import annotations

from typing import Any

from tenure_drivers.stores.base import Capability
from tenure_drivers.testing.requirements import Requirements, requires


@requires(Capability.REOPEN)
class Kit(Requirements):
    def test_of_reopening(self) -> None:
        """Needs REOPEN."""


class Everything(Kit):
    pass


class Nothing(Kit):
    capabilities = frozenset()


class MoreThanItsBase(Nothing):
    capabilities = frozenset((Capability.REOPEN,))


def reasons(cls: Any) -> list[str]:
    marks = getattr(cls.test_of_reopening, "pytestmark", [])
    return [mark.kwargs["reason"] for mark in marks if mark.name == "skip"]


def test_a_class_declares_every_capability_by_default() -> None:
    assert reasons(Everything) == []


def test_a_capability_that_is_not_declared_skips_its_tests() -> None:
    assert reasons(Nothing) == ["requires Capability.REOPEN"]
    assert reasons(Kit) == []


def test_a_subclass_that_declares_it_again_runs_its_tests() -> None:
    assert reasons(MoreThanItsBase) == []
