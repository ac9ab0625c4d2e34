"""The order of events in each flow: the table in specs/event.md has exactly the events of specs/scenarios/event/flows."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

from tenure.check.scenario.player import Step, steps
from tenure.event import EventKind
from tenure.outcome import Decided, Insert
from tenure.records import EventBatch

PAGE = ROOT / "specs" / "event.md"
FLOWS = sorted((ROOT / "specs" / "scenarios" / "event" / "flows").glob("*.txt"))
TABLE = re.compile(r"(?<=<!-- flows -->\n).*?(?=<!-- end -->)", re.DOTALL)
NO_FLOW = {
    EventKind.REPLAY_DIFFERED: "a note of a checkpoint: specs/scenarios/event/publish.txt",
    EventKind.NODES_HIDDEN: "an edit of the transcript: specs/scenarios/transcript/hide.txt",
    EventKind.LEAF_MOVED: "a frame with a path of its own: specs/scenarios/reading/frames.txt",
    EventKind.NODES_SHOWN: "an edit of the transcript: specs/scenarios/transcript/hide.txt",
}


def happened(step: Step) -> tuple[str, list[str]]:
    """Return the command of a step in snake case, and the events that it has appended."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", step.block.command.__class__.__name__).lower()
    writes = step.answer.writes if isinstance(step.answer, Decided) else ()
    batches = [w.record for w in writes if isinstance(w, Insert)]
    events = [e for b in batches if isinstance(b, EventBatch) for e in b.events]
    return name, [event.kind.value for event in events]


def table() -> str:
    """Return the table that the scenarios make."""
    lines = ["| flow | events, command by command |", "|---|---|"]
    for path in FLOWS:
        flow = [happened(step) for step in steps(path.read_text(encoding="utf-8"))]
        told = [f"**{name}** {' '.join(events) or '-'}" for name, events in flow]
        name = f"[{path.stem}](scenarios/event/flows/{path.name})"
        lines.append(f"| {name} | {' · '.join(told)} |")
    return "\n".join(lines)


def test_the_page_has_the_events_of_every_flow(request: pytest.FixtureRequest) -> None:
    written = PAGE.read_text(encoding="utf-8")

    made = TABLE.sub(lambda _: f"\n{table()}\n\n", written)

    assert TABLE.search(written)
    if request.config.getoption("--rewrite"):
        PAGE.write_text(made, encoding="utf-8")
    else:
        assert made == written


def test_every_kind_of_event_occurs_in_a_flow() -> None:
    found = {
        kind
        for path in FLOWS
        for step in steps(path.read_text(encoding="utf-8"))
        for kind in happened(step)[1]
    }

    assert found == {kind.value for kind in EventKind if kind not in NO_FLOW}
