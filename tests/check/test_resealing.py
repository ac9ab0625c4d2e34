"""The small system of texts that are sealed again by a new key, and a wrong question that it finds."""

from __future__ import annotations

import pytest

from tenure.check import check
from tenure.check.explorer import explore
from tenure.check.session.resealing_model import NOTHING_OLD, ResealModel
from tenure.questions import sealable
from tenure.records import Ticket


def test_every_property_holds_in_every_state() -> None:
    report = check(["resealing"])

    assert report.good, report.text()  # how many states depends on the number of records with texts


def test_the_explorer_finds_rows_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tickets keep the former key."""
    others = tuple([order for order in sealable.ORDERS if order.record is not Ticket])
    monkeypatch.setattr(sealable, "ORDERS", others)

    found = explore(ResealModel(), first_only=False)

    assert NOTHING_OLD in found.broken
