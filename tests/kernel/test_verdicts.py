"""The verdict on a job, in every case: exactly one of ten rules holds, and none reads a time."""

from __future__ import annotations

import itertools

import attrs

from tenure.machines.job import Disposition
from tenure.verdict import RULES, Facts, LeaseNow, Verdict, judge

FLAGS = (True, False)
CASES = [
    Facts(*values)
    for values in itertools.product(Disposition, FLAGS, FLAGS, LeaseNow, FLAGS, FLAGS, FLAGS, FLAGS)
]


def test_exactly_one_rule_holds_in_every_case() -> None:
    assert [facts for facts in CASES if sum(rule.holds(facts) for rule in RULES) != 1] == []


def test_every_rule_holds_in_some_case() -> None:
    assert {judge(facts).clause for facts in CASES} == {f"VERDICT-{n}" for n in range(1, 11)}


def test_owner_bound_work_that_was_started_is_never_taken() -> None:
    bound = [f for f in CASES if f.disposition is Disposition.OWNER_BOUND and f.started]

    assert Verdict.TAKE not in {judge(facts).verdict for facts in bound}


def test_nothing_is_taken_behind_a_request_or_a_cancel() -> None:
    asked = [facts for facts in CASES if facts.request or facts.cancel]

    assert Verdict.TAKE not in {judge(facts).verdict for facts in asked}


def test_external_work_is_never_taken() -> None:
    external = [facts for facts in CASES if facts.disposition is Disposition.EXTERNAL]

    assert {judge(facts).verdict for facts in external} == {
        Verdict.SKIP,
        Verdict.DEFER,
        Verdict.ABANDON,
    }


def test_work_is_abandoned_only_with_evidence_or_a_request() -> None:
    for facts in CASES:
        if judge(facts).verdict is Verdict.ABANDON:
            assert facts.request or facts.holder_dead or facts.starter_dead, facts


def test_a_lease_that_is_over_and_none_at_all_make_no_difference() -> None:
    """Time alone ends nothing: that a lease is over is no evidence."""
    for facts in CASES:
        if facts.lease is LeaseNow.OVER:
            without = attrs.evolve(facts, lease=LeaseNow.NONE)
            assert judge(facts) == judge(without), facts


def test_a_live_lease_without_evidence_protects_whatever_has_not_ended() -> None:
    for facts in CASES:
        if facts.lease is LeaseNow.LIVE and not facts.holder_dead:
            assert judge(facts).verdict in (Verdict.SKIP, Verdict.DEFER), facts


def test_owner_bound_work_beside_a_dead_owner_waits_for_nobody() -> None:
    for facts in CASES:
        bound = facts.disposition is Disposition.OWNER_BOUND and facts.started
        if bound and not facts.ended and facts.holder_dead:
            assert judge(facts).verdict is Verdict.ABANDON, facts
