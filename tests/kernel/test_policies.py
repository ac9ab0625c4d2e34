"""The policies of kinds: the page shows the table of the code, and policies of earlier releases are still read."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest
from paths import SPECS

from tenure.policy import POLICIES, Audience, KeyScope, Lane, OnSameSlot, Policy

PAGE = SPECS / "inbox.md"
MARKED = re.compile(r"(?<=<!-- table: kinds -->\n).*?(?=<!-- end -->)", re.DOTALL)
COLUMNS = ("kind", "lane", "delivery", "batch", "on retry", "known key", "same slot", "audience")


def also(policy: Policy) -> Iterator[str]:
    if policy.when_retired:
        yield "when retired"
    if policy.may_be_empty:
        yield "may be empty"
    if policy.barrier:
        yield "barrier"
    if policy.priority != 128:
        yield f"priority {policy.priority}"


def row(kind: str, policy: Policy) -> str:
    key = policy.on_other_content.value + ", open" * (policy.key_scope is KeyScope.OPEN)
    cells = (
        *(f"`{kind}`", policy.lane.name, policy.delivery.value, policy.batch or ""),
        *(policy.on_retry.value, key, policy.on_same_slot.value, policy.audience.value),
        ", ".join(also(policy)),
    )
    return f"| {' | '.join(cells)} |"


def table() -> str:
    head = (*COLUMNS, "also")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(row(*each) for each in POLICIES.items())])


def test_the_page_shows_the_policies_of_all_kinds(request: pytest.FixtureRequest) -> None:
    written = PAGE.read_text(encoding="utf-8")

    drawn = MARKED.sub(lambda _: f"\n{table()}\n\n", written)

    assert MARKED.search(written), "the page has no marks for the table"
    if request.config.getoption("--rewrite"):
        PAGE.write_text(drawn, encoding="utf-8")
    else:
        assert drawn == written


def test_a_policy_that_an_earlier_release_stored_is_read() -> None:
    stored = (
        b'{"lane":"user","delivery":"after_commit","batch":null,"on_retry":"pass",'
        b'"on_other_content":"conflict","key_scope":"retained","when_retired":false,"priority":128}'
    )

    read = msgspec.json.decode(stored, type=Policy)

    assert read == Policy(Lane.USER)
    assert read.audience is Audience.ALL
    assert read.on_same_slot is OnSameSlot.SUPERSEDE
    assert not read.barrier


def test_a_barrier_is_grouped_only_with_barriers() -> None:
    plain, barrier = Policy(Lane.USER, batch="b"), Policy(Lane.USER, batch="b", barrier=True)

    assert plain.group() != barrier.group()
