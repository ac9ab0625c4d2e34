"""The model of attachments: it holds, and it finds wrong kernels and wrong drivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from tenure.check.attachments import ATTACH, AttachConfig, AttachModel
from tenure.check.explorer import explore
from tenure.commands import attach, scraps
from tenure.commands.transaction import Transaction
from tenure.outcome import Drop
from tenure.records import Attachment, Intent

BYTES = "what is attached has its bytes"
ALONE = "bytes that are being deleted are held by nobody"
FOUND_AGAIN = "bytes that are stored belong to an attachment or to a scrap"
SWEPT = "an intent has an unfinished run, or the session is or becomes due to drop it"

Patch = Callable[[pytest.MonkeyPatch], None]


def nothing(patch: pytest.MonkeyPatch) -> None:
    """The kernel is right: who deletes bytes is not."""


def claimed_beside_a_holder(patch: pytest.MonkeyPatch) -> None:
    decide = scraps.ClaimScraps.decide

    def blind(self: Any, view: Any, now_ms: int) -> Any:
        return decide(self, evolve(view, first=tuple([(row,) for row in view.known])), now_ms)

    patch.setattr(scraps.ClaimScraps, "decide", blind)


def intended_while_bytes_are_deleted(patch: pytest.MonkeyPatch) -> None:
    decide = attach.Intend.decide

    def blind(self: Any, view: Any, now_ms: int) -> Any:
        return decide(self, evolve(view, claimed=tuple([() for _ in view.claimed])), now_ms)

    patch.setattr(attach.Intend, "decide", blind)


def dropped_without_a_debt(patch: pytest.MonkeyPatch) -> None:
    def drop(tx: Transaction, rows: Any) -> None:
        for row in rows:
            if row is not None and row.held:
                tx.write(Drop(Attachment, (row.session_id, row.attachment_id)))
                tx.intents_added -= isinstance(row.state, Intent)

    patch.setattr(attach, "forget", drop)


def claimed_beside_a_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(scraps.ClaimScraps, "_may_claim", lambda self, scrap, now_ms: True)
    patch.setattr(
        scraps.DropScraps, "decide", drop_all(scraps.DropScraps.decide)
    )  # and drops what another one has claimed


def drop_all(decide: Any) -> Any:
    def all_(self: Any, view: Any, now_ms: int) -> Any:
        claims = [getattr(row.state, "claim_id", None) for row in view.known if row is not None]
        mine = evolve(self, claim_id=next((c for c in claims if c is not None), self.claim_id))
        return decide(mine, view, now_ms)

    return all_


def not_due_at_the_end_of_a_run(patch: pytest.MonkeyPatch) -> None:
    clear = Transaction.clear_run_flags

    def forgets(self: Any, run: Any) -> None:
        before = self.session.sweep
        clear(self, run)
        self.update(sweep=before)

    patch.setattr(Transaction, "clear_run_flags", forgets)


def test_the_model_is_small_and_holds() -> None:
    found = explore(AttachModel())

    assert found.good, found
    assert (found.states, found.transitions) == (10_605, 37_435)


@pytest.mark.parametrize(
    ("config", "patch", "sentence"),
    [
        (evolve(ATTACH, claims=False), nothing, BYTES),
        (ATTACH, claimed_beside_a_holder, ALONE),
        (ATTACH, intended_while_bytes_are_deleted, ALONE),
        (ATTACH, claimed_beside_a_claim, BYTES),
        (ATTACH, dropped_without_a_debt, FOUND_AGAIN),
        (ATTACH, not_due_at_the_end_of_a_run, SWEPT),
    ],
    ids=[
        "deleted before looking",
        "claimed beside a holder",
        "intended while bytes are deleted",
        "claimed beside a claim",
        "dropped without a debt",
        "not due at the end of a run",
    ],
)
def test_the_model_finds_the_bug(
    config: AttachConfig, patch: Patch, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch)

    found = explore(AttachModel(config), first_only=True)

    assert sentence in found.broken, found.broken
