"""Sessions over time as one HTML page: a pure function of the sessions' histories and the workers' lives.

The page loads nothing: SVG, style and script are inline.  Without the script it still shows the whole drawing.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from typing import Any

from tenure.questions.history import flat_events

from .drawing import Drawing
from .model import Figure, Holder, Life, Pause, Timeline, TooLate
from .template import PAGE


def page(timeline: Timeline) -> str:
    """Return the page as HTML."""
    return PAGE.safe_substitute(
        title=html.escape(timeline.title),
        sentence=html.escape(timeline.sentence),
        verdict="good" if timeline.good else "bad",
        figures="".join(_figures(timeline.figures)),
        legend="".join(_legend(timeline)),
        drawing=Drawing(timeline).svg(),
        events=_script_safe(_event_tables(timeline)),
    )


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    for group in dict.fromkeys(f.group for f in figures):
        inside = "".join(_figure(f) for f in figures if f.group == group)
        yield f"<div><h3>{html.escape(group)}</h3><div>{inside}</div></div>"


def _figure(figure: Figure) -> str:
    tone = {None: "", True: " ok", False: " wrong"}[figure.good]
    return (
        f'<div class="figure{tone}" title="{html.escape(figure.meaning)}">'
        f"<b>{figure.value:,}</b><span>{html.escape(figure.name)}</span></div>"
    )


def _legend(timeline: Timeline) -> Iterator[str]:
    for worker in timeline.workers:
        hue = timeline.hue(worker)
        yield (
            f'<button class="chip" data-only="{hue}">'
            f'<i class="w{hue}"></i>{html.escape(worker)}</button>'
        )


def _script_safe(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _event_tables(timeline: Timeline) -> dict[str, list[list[Any]]]:
    """Return the events of each session as rows of a table."""
    begin, _ = timeline.moments
    return {
        c.session.session_id: [
            [
                number, batch.at_ms - begin, event.kind.value,
                event.run_id or "", " ".join(event.input_ids), event.detail,
            ]
            for number, batch, event in flat_events(c.events)
        ]
        for c in timeline.histories
    }  # fmt: skip


__all__ = ["Figure", "Holder", "Life", "Pause", "Timeline", "TooLate", "page"]
