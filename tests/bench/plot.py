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

PAPER, OURS, FLOOR = "#ffffff", "#1f5fa8", "#444444"
OTHERS = ("#b8b8b8", "#d59f6b", "#8fb08c", "#c48fb1", "#a7a0d0", "#d3c36f", "#93b7c4")
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
    width = 0.84 / max(1, len(by))
    other = iter(OTHERS * 2)
    for at, (who, row) in enumerate(by.items()):
        color = OURS if who == "tenure" else FLOOR if who.startswith("minimal") else next(other)
        for place, n in enumerate(counts):
            if n in row:
                x = place + (at - (len(by) - 1) / 2) * width
                axes.bar(
                    x,
                    row[n],
                    width * 0.92,
                    bottom=0,
                    color=color,
                    label=who if n == max(row) else None,
                )
                if who == "tenure":
                    axes.annotate(
                        f"{row[n]:.2g}", (x, row[n]), ha="center", va="bottom", fontsize=7.5,
                        color=OURS, fontweight="bold", xytext=(0, 1), textcoords="offset points",
                    )  # fmt: skip
    axes.axhline(1, color=FLOOR, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    values = [v for row in by.values() for v in row.values()]
    axes.set_ylim(min([0.5, *values]) / 1.6, max([2.0, *values]) * 1.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xticks(range(len(counts)), [f"{n} session{'s' * (n > 1)}" for n in counts])
    axes.tick_params(axis="x", length=0)
    axes.set_title(f"{title}: items/s, times {floor}")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.005, 1.0), frameon=False, fontsize=8, handlelength=1.0
    )


def curves(axes: Any, found: list[dict[str, Any]], title: str, x: str, y: str) -> None:
    by: dict[str, list[tuple[int, float]]] = {}
    for figure in found:
        by.setdefault(figure["facts"]["curve"], []).append(
            (figure["facts"]["size"], figure["value"])
        )
    other = iter(OTHERS[1:] * 2)
    for name, points in by.items():
        ours, hand = "tenure" in name, "by hand" in name
        dashed = "postgres" in name
        color = OURS if ours else FLOOR if hand else next(other)
        axes.plot(
            *zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.6, color=color,
            linestyle="--" if dashed else "-", label=name,
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
    for place, (draw, *words) in zip(axes[:, 0], drawings, strict=True):
        place.set_facecolor(PAPER)
        draw(place, *words)
    figure.savefig(target, format="svg", facecolor=PAPER, metadata={"Date": None})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
