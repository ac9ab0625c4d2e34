"""Draws figures: `python plot.py FIGURES.json PICTURE.svg`, where matplotlib is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "tenure",  # the same figures give the same file
        "svg.fonttype": "path",  # who has not the font sees the same
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 10,
        "xtick.color": "#555555",
        "ytick.color": "#333333",
    }
)

from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import LogLocator, NullLocator  # noqa: E402

PAPER, OURS, FLOOR = "#ffffff", "#1f5fa8", "#555555"
COLORS = {
    "tenure": OURS,
    "minimal, as many connections": "#9a9a9a",
    "PgQueuer": "#d98c4a",
    "huey, by hand": "#d98c4a",
    "huey, consumer": "#e9bd93",
    "procrastinate": "#6d9f71",
    "litequeue": "#6d9f71",
    "DBOS, direct": "#b5739d",
    "DBOS, queue": "#d7b0c9",
    "LangGraph saver": "#cdb84f",
}
REMARKS = {"LangGraph saver": "LangGraph saver\n(the commit alone)"}
LINES = {
    "tenure": OURS,
    "by hand": FLOOR,
    "LangGraph saver": "#b89b1d",
    "sqlite": OURS,
    "postgres": "#b5739d",
    "files": "#6d9f71",
    "memory": "#9a9a9a",
}
STORES = (("sqlite", "SQLite"), ("postgres", "PostgreSQL"), ("files", "Files"))
COUNTS = (1, 4, 16, 64)


def figures(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = [part["figures"] for part in report["parts"] if part["name"] == name]
    return found[0] if found else []


def bars(axes: Any, name: str, title: str, report: dict[str, Any]) -> None:
    """Times the floor, by who and how many sessions; the floor is the line at one."""
    by: dict[str, dict[int, float]] = {}
    floor = ""
    for figure in figures(report, name):
        facts = figure["facts"]
        floor = floor or figure["name"]
        if "sessions" in facts and floor in figure["ratios"]:
            by.setdefault(facts["who"], {})[facts["sessions"]] = figure["ratios"][floor]
    counts = [n for n in COUNTS if any(n in row for row in by.values())]
    width = min(0.84 / max(1, len(by)), 0.2)
    for at, (who, row) in enumerate(by.items()):
        label: str | None = REMARKS.get(who, who)
        for place, n in enumerate(counts):
            if n not in row:
                continue
            x = place + (at - (len(by) - 1) / 2) * width
            axes.bar(
                x, row[n] - 1, width * 0.9, bottom=1, color=COLORS.get(who, FLOOR), label=label
            )
            label = None
            if who == "tenure":
                above = row[n] >= 1
                axes.annotate(
                    f"{row[n]:.2g}", (x, row[n]), ha="center", va="bottom" if above else "top",
                    fontsize=8, color=OURS, fontweight="bold", xytext=(0, 2 if above else -3),
                    textcoords="offset points",
                )  # fmt: skip
    axes.axhline(1, color=FLOOR, linewidth=1)
    axes.set_yscale("log")
    values = [v for row in by.values() for v in row.values()]
    axes.set_ylim(min([0.5, *values]) / 1.7, max([2.0, *values]) * 1.9)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    axes.set_xticks(range(len(counts)), [f"{n} session{'s' * (n > 1)}" for n in counts])
    axes.tick_params(axis="x", length=0)
    axes.set_title(f"{title}: items/s, as a multiple of the floor ({floor}, by hand)")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.005, 1.0), frameon=False, fontsize=8, handlelength=1.0
    )


def styled(name: str) -> tuple[str, str]:
    """Return colour and line.  Of histories: who, and the server dashed; of growth: the store, and each step its line."""
    store, _, who = name.partition(": ")
    if who:
        return LINES.get(who, FLOOR), "--" if store == "postgres" else "-"
    step, _, store = name.partition(", ")
    return LINES.get(store, FLOOR), {"commit": "--", "take": ":", "switch": "-."}.get(step, "-")


def curves(axes: Any, found: list[dict[str, Any]], title: str, x: str, y: str) -> None:
    by: dict[str, list[tuple[int, float]]] = {}
    for figure in found:
        by.setdefault(figure["facts"]["curve"], []).append(
            (figure["facts"]["size"], figure["value"])
        )
    for name, points in by.items():
        color, line = styled(name)
        axes.plot(
            *zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.6, color=color,
            linestyle=line, label=name,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    values = [value for points in by.values() for _, value in points]
    axes.set_ylim(min(values) / 2, max(values) * 2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(x, color="#555555")
    axes.set_title(f"{title}, {y}")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.005, 1.0), frameon=False, fontsize=8, handlelength=2.0
    )


def main(source: Path, target: Path) -> None:
    report = json.loads(source.read_text(encoding="utf-8"))
    drawings: list[Any] = []
    for name, title in STORES:
        if any("sessions" in f["facts"] for f in figures(report, name)):
            drawings.append((bars, name, title, report))
    history, growth = figures(report, "history"), figures(report, "growth")
    if history:
        drawings.append((curves, history, "Committing a turn", "messages in the session", "ms"))
    grown = [f for f in growth if "curve" in f["facts"]]
    if grown:
        drawings.append(
            (
                curves,
                grown,
                "tenure",
                "inputs in the inbox; nodes in the transcript",
                "microseconds",
            )
        )
    if not drawings:
        raise SystemExit("nothing to draw")
    figure, axes = pyplot.subplots(
        len(drawings), 1, figsize=(9.6, 2.75 * len(drawings)), squeeze=False, layout="constrained"
    )
    figure.set_facecolor(PAPER)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.08)
    for place, (draw, *words) in zip(axes[:, 0], drawings, strict=True):
        place.set_facecolor(PAPER)
        draw(place, *words)
    figure.savefig(target, format="svg", facecolor=PAPER, metadata={"Date": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
