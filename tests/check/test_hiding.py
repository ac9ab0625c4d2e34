"""The small system of hidden nodes, and wrong kernels that it finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tenure.check import check
from tenure.check.explorer import explore
from tenure.check.session.hiding_model import WHOLE_OR_NOTHING, HidingModel
from tenure.commands import hiding
from tenure.questions import path
from tenure.transcript import Form


def test_every_property_holds_in_every_state() -> None:
    report = check(["hiding"])

    assert report.good, report.text()
    assert [(e.states, e.transitions) for e in report.explored] == [(120, 16_200)]


def half_an_exchange(patch: pytest.MonkeyPatch) -> None:
    """A call is hidden without its results."""
    patch.setattr(hiding, "_torn", lambda nodes: None)


def read_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """A reader is shown hidden nodes."""
    patch.setattr(path, "on_path", lambda node: node)


def compacted_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """A hidden compaction replaces what stands before it."""
    patch.setattr(path, "_replaces", lambda node: node.form is Form.COMPACTION)


def hides_what_is_shown(patch: pytest.MonkeyPatch) -> None:
    """What is to be shown is hidden."""
    do = hiding.hide_and_show

    def wrong(tx: Any, hide: Any, show: Any, found: Any) -> None:
        do(tx, (*hide, *show), (), found)

    patch.setattr("tenure.commands.amend.hide_and_show", wrong)


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        (half_an_exchange, WHOLE_OR_NOTHING),
        (half_an_exchange, "each call that is shown has its result"),
        (read_all_the_same, "a reader is shown what is not hidden"),
        (compacted_all_the_same, "a reader is shown what is not hidden"),
        (hides_what_is_shown, "only an Amend that names a node hides or shows it"),
    ],
)
def test_the_explorer_finds_the_bug(
    patch: Callable[[pytest.MonkeyPatch], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    found = explore(HidingModel(), first_only=False)

    assert sentence in found.broken, found.broken.keys()
    assert len(found.broken[sentence].lines) <= 2
