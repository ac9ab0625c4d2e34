"""`tenure explain`: a clause, its page and its scenarios."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cli_process import tenure
from paths import SPECS

from tenure_drivers.cli.explain import Specs
from tenure_drivers.cli.output import log


def test_a_clause_is_printed_with_its_page_and_scenarios(tmp_path: Path) -> None:
    ran = tenure("explain", "LEASE-5", cwd=tmp_path)

    assert ran.code == 0
    assert ran.out.startswith("LEASE-5  Lease  (specs/lease.md, The machine)\n")
    assert "`held`" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 100
    assert "scenario: specs/scenarios/lease/held_or_active.txt" in ran.out


def test_a_scenario_that_names_the_clause_in_a_comment_is_printed_too(tmp_path: Path) -> None:
    ran = tenure("explain", "RUN-7", cwd=tmp_path)

    assert "scenario: specs/scenarios/lease/takeover.txt" in ran.out


def test_a_family_is_printed_whole_in_any_case(tmp_path: Path) -> None:
    ran = tenure("explain", "lease", "--json", cwd=tmp_path)

    assert [json.loads(line)["clause"] for line in ran.out.splitlines()] == re.findall(
        r"^- \*\*(LEASE-\d+)\*\*", (SPECS / "lease.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_without_a_name_the_families_are_listed(tmp_path: Path) -> None:
    ran = tenure("explain", cwd=tmp_path)

    assert ran.code == 0
    assert "LEASE" in ran.out and "specs/lease.md" in ran.out


def test_an_unknown_clause_names_close_ones(tmp_path: Path) -> None:
    ran = tenure("explain", "LEASE-500", cwd=tmp_path)

    assert ran.code == 2
    assert "no clause 'LEASE-500'; did you mean LEASE-" in ran.err


def test_something_else_names_the_families(tmp_path: Path) -> None:
    ran = tenure("explain", "xyzzy", cwd=tmp_path)

    assert ran.code == 2
    assert "no clause 'xyzzy'; families: " in ran.err


def test_every_clause_of_the_specs_has_its_whole_sentence() -> None:
    clauses = Specs(SPECS).clauses()
    defined = [
        clause
        for page in sorted(SPECS.glob("*.md"))
        for clause in re.findall(
            r"^- \*\*([A-Z]+-\d+)\*\*", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]

    assert [clause.clause for clause in clauses] == defined
    assert [c.clause for c in clauses if not re.search(r"[.:|)`]$", c.sentence)] == []


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("refused phase (INBOX-3): stopped", "refused phase (tenure explain INBOX-3): stopped"),
        ("line 1 (UTF-8) is torn", "line 1 (UTF-8) is torn"),
    ],
)
def test_a_message_with_a_clause_names_the_command_that_explains_it(
    message: str, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log(message)

    assert capfd.readouterr().err == f"{shown}\n"
