"""The drawing of a timeline: sessions and workers on one time axis, as SVG."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tenure.event import EventKind
from tenure.questions.history import LeaseSpan, RunSpan, SessionHistory, flat_events, lease_spans

from .model import Holder, Timeline, TooLate

__all__ = ["Drawing"]


ROW: Final = 30
LANE: Final = 26
PLOT: Final = 1000  # initial width; the script lays the drawing out again
GUTTER: Final = 132
UNKNOWN: Final = Holder("", 0)


class Drawing:
    """Lays a timeline out on one axis.  Elements carry their times in `data-a` and `data-b`, which the zoom script reads."""

    def __init__(self, timeline: Timeline) -> None:
        self.of = timeline
        self.begin, self.end = timeline.moments
        self.names: list[str] = []

    def svg(self) -> str:
        """Return the drawing."""
        curve, lanes = 74, len(self.of.workers) * LANE if self.of.lives else 0
        top = curve + (lanes + 18 if lanes else 0)
        height = top + ROW * len(self.of.histories) + 8
        parts = [*self._curve(curve - 14)]
        if lanes:
            for i, worker in enumerate(self.of.workers):
                parts += self._worker(curve + i * LANE, worker)
        for i, history in enumerate(self.of.histories):
            parts += self._session(top + i * ROW, history)
        span = max(self.end - self.begin, 1)
        return (
            f'<svg id="drawing" width="{GUTTER + PLOT}" height="{height}" data-span="{span}" '
            f'data-gutter="{GUTTER}"><g id="names">{"".join(self.names)}</g>'
            f'<svg id="plot" x="{GUTTER}" y="0" width="{PLOT}" height="{height}">'
            f'<g id="grid" data-height="{height}"></g>{"".join(parts)}</svg></svg>'
        )

    # -- positions on the axis

    def at(self, ms: int) -> float:
        """Return the x position of a time."""
        return round((ms - self.begin) * PLOT / max(self.end - self.begin, 1), 2)

    def when(self, ms: int) -> str:
        """Return a time as text, in seconds since the start."""
        return f"{(ms - self.begin) / 1000:.3f} s"

    def bar(self, a: int, b: int, y: int, height: int, style: str, text: str) -> str:
        """Return a bar from time `a` to time `b` with a tooltip."""
        width = max(round(self.at(b) - self.at(a), 2), 1.5)
        return (
            f'<rect class="{style}" data-a="{a - self.begin}" data-b="{b - self.begin}" '
            f'x="{self.at(a)}" y="{y}" width="{width}" height="{height}" rx="2" {_title(text)}/>'
        )

    def mark(self, ms: int, y: float, style: str, text: str) -> str:
        """Return a mark at a time with a tooltip."""
        shape = SHAPES[style.split()[0]]
        return (
            f'<g class="{style}" data-a="{ms - self.begin}" data-y="{y}" '
            f'transform="translate({self.at(ms)} {y})" {_title(text)}>{shape}</g>'
        )

    def name(self, y: int, text: str, more: str = "") -> None:
        """Add a label in the column of names."""
        self.names.append(f'<text x="0" y="{y}" {more}>{html.escape(text)}</text>')

    # -- rows

    def _curve(self, height: int) -> Iterator[str]:
        """Draw the numbers of inputs admitted and answered over time."""
        admitted = sorted(self._times(EventKind.INPUT_ADMITTED))
        answered = sorted(self._times(EventKind.RUN_FINISHED))
        most = max(len(admitted), len(answered), 1)
        span = max(self.end - self.begin, 1)
        self.name(22, f"{len(admitted)} admitted", 'class="small"')
        self.name(40, f"{len(answered)} answered", 'class="small"')
        yield (
            f'<svg id="curve" y="6" width="{PLOT}" height="{height}" viewBox="0 0 {span} {most}" '
            f'preserveAspectRatio="none"><path class="admitted" d="{self._steps(admitted, most)}"/>'
            f'<path class="answered" d="{self._steps(answered, most)}"/></svg>'
        )

    def _times(self, kind: EventKind) -> Iterator[int]:
        for history in self.of.histories:
            for _, batch, event in flat_events(history.events):
                if event.kind is kind:
                    yield from [batch.at_ms - self.begin] * len(event.input_ids)

    def _steps(self, times: Sequence[int], most: int) -> str:
        path = [f"M0 {most}"]
        for count, ms in enumerate(times, 1):
            path.append(f"H{ms}V{most - count}")
        return "".join(path) + f"H{self.end - self.begin}V{most}Z"

    def _worker(self, y: int, worker: str) -> Iterator[str]:
        hue = self.of.hue(worker)
        self.name(y + 16, worker)
        for life in (x for x in self.of.lives if x.worker == worker):
            until = life.until_ms or self.end
            text = f"{worker}, process {life.pid}\nfrom {self.when(life.from_ms)} to {self.when(until)}"
            text += "\nended by SIGKILL" if life.killed else ""
            yield self.bar(life.from_ms, until, y + 8, 8, f"life w{hue}", text)
            if life.killed:
                yield self.mark(
                    until, y + 12, f"kill w{hue}", f"{worker} killed\n{self.when(until)}"
                )
        for pause in (x for x in self.of.pauses if x.worker == worker):
            length = pause.until_ms - pause.from_ms
            text = f"{worker} stopped for {length} ms\nfrom {self.when(pause.from_ms)}"
            yield self.bar(pause.from_ms, pause.until_ms, y + 6, 12, f"pause w{hue}", text)
            yield self.mark(pause.from_ms, y + 12, f"halt w{hue}", text)
        for late in (x for x in self.of.refused if x.worker == worker):
            yield self.mark(late.at_ms, y + 12, f"refused w{hue}", self._too_late(late))

    def _session(self, y: int, history: SessionHistory) -> Iterator[str]:
        session_id = history.session.session_id
        link = f'class="link" data-session="{html.escape(session_id)}"'
        self.name(y + 20, _short(session_id), link)
        yield f'<line class="rule" x1="0" x2="100%" y1="{y + ROW - 1}" y2="{y + ROW - 1}"/>'
        inputs = {run.run_id: [c.input_id for c in run.contributors] for run in history.runs}
        before: LeaseSpan | None = None
        for holding in lease_spans(history.events):
            yield from self._lease_span(y + 9, holding, before, inputs)
            before = holding
        for _, batch, event in flat_events(history.events):
            if event.kind is EventKind.INPUT_ADMITTED:
                text = f"input admitted\n{' '.join(event.input_ids)}\n{self.when(batch.at_ms)}"
                yield self.mark(batch.at_ms, y + 2, "input", text)
        for late in (x for x in self.of.refused if x.session_id == session_id):
            yield self.mark(late.at_ms, y + 15, "refused", self._too_late(late))

    def _lease_span(
        self, y: int, held: LeaseSpan, before: LeaseSpan | None, inputs: Mapping[str, Sequence[str]]
    ) -> Iterator[str]:
        holder = self.of.holders.get(held.lease_id, UNKNOWN)
        worker = holder.worker
        hue = self.of.hue(worker)
        until = held.until_ms if held.until_ms is not None else self.end
        gone = self._gone(holder, until) if held.lost else until
        label = f"lease {held.generation} of {worker or 'an unknown worker'}"
        text = (
            f"{label}\n{self.when(held.from_ms)} to {self.when(until)}, {until - held.from_ms} ms"
        )
        text += "\nlost: its holder was killed or stopped" if held.lost else ""
        yield self.bar(held.from_ms, max(gone, held.from_ms), y, 13, f"lease w{hue}", text)
        if held.lost:
            yield self.bar(
                gone,
                until,
                y,
                13,
                f"gone w{hue}",
                f"{label}\nno process works under it: {until - gone} ms",
            )
        for span in held.run_spans:
            yield from self._run_span(y, hue, held, span, gone, inputs)
        for pause in (x for x in self.of.pauses if x.worker == worker and not held.lost):
            a, b = max(pause.from_ms, held.from_ms), min(pause.until_ms, until)
            if a < b:
                text = (
                    f"{label}\nits holder is stopped; no other worker needs the lease: {b - a} ms"
                )
                yield self.bar(a, b, y, 13, f"gone asleep w{hue}", text)
        if held.lost and gone < until:
            killed = any(
                x.killed and (x.pid, x.until_ms) == (holder.pid, gone) for x in self.of.lives
            )
            style, how = ("kill", "killed") if killed else ("halt", "stopped")
            yield self.mark(gone, y + 6.5, f"{style} w{hue}", f"{worker} {how}\n{self.when(gone)}")
        if before is not None and before.lost:
            text = f"takeover: {label}\nthe fence of lease {before.generation} is invalid from now on\n{self.when(held.from_ms)}"
            yield self.mark(held.from_ms, y + 6.5, f"takeover w{hue}", text)

    def _run_span(
        self, y: int, hue: int, held: LeaseSpan, span: RunSpan, gone: int,
        inputs: Mapping[str, Sequence[str]],
    ) -> Iterator[str]:  # fmt: skip
        until = gone if span.how == "lost" else span.until_ms or self.end
        text = (
            f"run {span.run_id}\n{'resumed' if span.resumed else 'started'} under lease "
            f"{held.generation}\ninputs {' '.join(inputs.get(span.run_id, ()))}\n"
            f"{self.when(span.from_ms)}, {until - span.from_ms} ms: {span.how or 'running'}"
        )
        yield self.bar(span.from_ms, max(until, span.from_ms), y + 3, 7, f"run w{hue}", text)
        if span.how == "finished" and span.until_ms is not None:
            text = f"commit of {span.run_id}\n{self.when(span.until_ms)}"
            yield self.mark(span.until_ms, y + 6.5, f"commit w{hue}", text)

    def _gone(self, holder: Holder, until: int) -> int:
        """Return when the holder of a lost lease was killed or stopped; `until` if that is unknown."""
        ends = [
            x.until_ms
            for x in self.of.lives
            if x.killed and (x.worker, x.pid) == (holder.worker, holder.pid)
        ]
        stops = [
            x.from_ms for x in self.of.pauses if x.worker == holder.worker and x.from_ms <= until <= x.until_ms
        ]  # fmt: skip
        return min([ms for ms in [*ends, *stops] if ms is not None and ms <= until], default=until)

    def _too_late(self, late: TooLate) -> str:
        return (
            f"{late.command} of {late.worker} refused: fenced\nsession {late.session_id}, "
            f"generation presented {late.generation}\n{self.when(late.at_ms)}"
        )


SHAPES: Final = {
    "input": '<path d="M-3 0H3L0 5Z"/>',
    "commit": '<circle r="2.6"/>',
    "kill": '<path d="M-4-4L4 4M-4 4L4-4"/>',
    "halt": '<path d="M-2-5V5M2-5V5"/>',
    "takeover": '<path d="M-1-10V10M-1-10L6-6.5L-1-3Z"/>',
    "refused": '<circle r="5.2"/><path d="M-3.6 3.6L3.6-3.6"/>',
}


def _title(text: str) -> str:
    return f'data-d="{html.escape(text)}"'


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
