"""The benchmark itself, with tiny numbers: that it measures what it says, and keeps what it has.  No peers, no timing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner

from bench import __main__ as command
from bench import filling, growth, history, machine, page, shares, stores, wake
from bench.measure import Budget, Case, Failed, Figure, Sample, figures, interleave
from bench.report import Part, Report
from bench.servers import databases
from tenure.check.invariants import violations
from tenure.check.session.configs import SLOTS

SECONDS = 0.1


@pytest.fixture
def bench(tmp_path: Path) -> stores.Bench:
    return stores.Bench(
        tmp_path, 1, SECONDS, lambda text: None, sessions=(2,), among=20, warm_s=0.05, processes=2
    )


def sample(items: int) -> Sample:
    return Sample(items, 1.0, (1.0,) * items)


def test_ratios_are_those_to_what_was_measured_next_and_a_case_that_fails_is_named() -> None:
    rates = {"floor": iter((10, 100)), "ours": iter((30, 200))}

    def broken(seconds: float) -> Sample:
        raise RuntimeError("no such engine")

    def run(name: str) -> Callable[[float], Sample]:
        return lambda seconds: sample(next(rates[name]))

    cases = [
        Case("floor", run("floor")),
        Case("ours", run("ours"), ("floor",)),
        Case("theirs", broken, ("floor",)),
    ]
    rounds, failed = interleave(cases, 2, 1.0, lambda text: None)
    found = {f.name: f for f in figures(cases, rounds, [Budget("ours", "floor", 2.6)])}

    assert found["ours"].ratios == {"floor": 2.5}  # of 3 and 2, not of the sums
    assert found["ours"].budgets == {">= 2.6 x floor": False}
    assert failed == [Failed("theirs", "no such engine")]
    assert "theirs" not in found


@pytest.mark.parametrize(
    "rows",
    [
        filling.inbox(100),
        growth.steered(100),
        filling.transcript(50),
        filling.started(),
        filling.framed(20),
        filling.with_blobs(30),
    ],
)
def test_rows_made_by_hand_obey_the_laws_of_those_the_kernel_writes(rows: Any) -> None:
    assert list(violations(list(rows))) == []


def test_items_are_measured_on_every_local_store_beside_both_floors(bench: stores.Bench) -> None:
    for section in (stores.memory, stores.files, stores.sqlite):
        found, failed = section(bench)

        assert failed == []
        ours = [f for f in found if f.facts.get("who") == "tenure"]
        assert [f.facts["sessions"] for f in ours] == [2]


@pytest.mark.postgres
def test_items_are_measured_on_a_server_of_our_own(bench: stores.Bench) -> None:
    from pg_server import needed, shared

    needed()
    with databases(shared()) as found_databases:
        served = evolve(bench, databases=found_databases)
        found, failed = stores.postgres(served)
        histories, also_failed = history.section(served, (10,))

    assert [*failed, *also_failed] == []
    assert {f.facts.get("who") for f in found} >= {"tenure", stores.MINIMAL, stores.SAME}
    assert {f.facts["curve"] for f in histories} >= {"postgres: tenure", "postgres: by hand"}


def test_growth_is_measured_and_something_falls_due_in_the_burst(
    bench: stores.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "ITEMS", 5)
    monkeypatch.setattr(growth, "FRAMES", (2, 20))
    curves, failed = command.each(growth.curves(bench, 10))
    burst, _ = growth.burst(bench, 3_000)  # asserts that inputs were promoted
    reopened, _ = growth.reopening(bench, 20, 2)
    waiting, _ = growth.waiting_sessions(bench, 20)  # asserts that only who was answered is due

    assert failed == []
    titles = {f.facts["curve"] for f in curves if "curve" in f.facts}
    assert {f.facts["of"] for f in curves} == {"inputs", "nodes", "frames", "blobs"}
    assert titles == {
        f"{step}, {store}"
        for step in ("begin", "take", "read", "commit", "switch")
        for store in ("sqlite", "memory", "files")
    }
    assert len(burst) == 2
    assert len(reopened) == 1
    assert len(waiting) == 2


def test_another_process_is_woken(bench: stores.Bench) -> None:
    found, failed = wake.section(bench, 3)

    assert failed == []
    assert [f.name for f in found] == ["tenure, sqlite"]


def test_the_kernel_is_measured_alone(bench: stores.Bench) -> None:
    for found, failed in (
        machine.rows(),
        machine.steps(bench),
        machine.decisions(bench, 3),
        machine.explored(bench, SLOTS),
    ):
        assert failed == []
        assert all(f.value > 0 for f in found)


def test_the_shares_of_an_item_add_up(bench: stores.Bench) -> None:
    found, failed = shares.section(bench)

    assert failed == [] and all(f.value > 0 for f in found)
    for first in (0, 6):
        assert sum(f.ratios["the item"] for f in found[first : first + 5]) == pytest.approx(1)


def test_what_was_measured_is_kept_when_a_later_part_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def well(bench: stores.Bench, size: Any) -> stores.Section:
        return [Figure("item", 1.0, "items/s", 1.0, 1.0, {"floor": 2.0})], []

    def badly(bench: stores.Bench, size: Any) -> stores.Section:
        raise AttributeError("of a command that was replayed")

    monkeypatch.setitem(command.PARTS, "memory", well)
    monkeypatch.setitem(command.PARTS, "files", badly)
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(
        command.main,
        ["--part", "files", "--part", "memory", "--no-peers", "--json", str(file)],
    )

    assert result.exit_code == 1
    assert "files: AttributeError: of a command that was replayed" in result.output
    parts = json.loads(file.read_text())["parts"]
    assert [(p["name"], len(p["figures"]), len(p["failed"])) for p in parts] == [
        ("files", 0, 1),
        ("memory", 1, 0),
    ]


def test_the_page_is_made_of_the_figures_alone(tmp_path: Path) -> None:
    facts = {"who": "tenure", "sessions": 64}
    figure = Figure(
        "tenure, 64 sessions", 5_000.0, "items/s", 1.0, 9.0, {"minimal": 2.5},
        {">= 2 x minimal": True}, 1.5, 3.0, 20_000.0, 0.05, facts,
    )  # fmt: skip
    floor = Figure("minimal", 2_000.0, "items/s", 1.0, 9.0, facts={"who": "minimal"})
    report = Report(parts=[Part("sqlite", [floor, figure], [Failed("huey", "not to be had")])])
    report.write(tmp_path / "figures.json")

    text = page.text(Report.read(tmp_path / "figures.json"), drawn=False)

    assert "| tenure |  | 5,000 (2.50 x) |" in text
    assert "| sqlite: tenure, 64 sessions | >= 2 x minimal | 2.50 x | reached |" in text
    assert "- sqlite: huey: not to be had" in text
    assert "figures.svg" not in text
