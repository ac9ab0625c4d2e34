"""What was measured, kept as it comes: a table on the screen for each part, and JSON."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import attrs
from attrs import define, field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .measure import Failed, Figure


@define
class Part:
    name: str
    figures: list[Figure] = field(factory=list)
    failed: list[Failed] = field(factory=list)


@define
class Report:
    """`facts`: the machine, the versions, and how it was measured."""

    facts: dict[str, Any] = field(factory=dict)
    parts: list[Part] = field(factory=list)

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)

    @property
    def whole(self) -> bool:
        return not any(part.failed for part in self.parts)

    def write(self, path: Path) -> None:
        """At once or not at all: a run that is killed leaves what it had."""
        beside = path.with_name(path.name + ".part")
        beside.write_text(json.dumps(attrs.asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)

    @classmethod
    def read(cls, path: Path) -> Report:
        said = json.loads(path.read_text(encoding="utf-8"))
        parts = [
            Part(
                part["name"],
                [Figure(**figure) for figure in part["figures"]],
                [Failed(**failed) for failed in part["failed"]],
            )
            for part in said["parts"]
        ]
        return cls(said["facts"], parts)


def short(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def show(console: Console, part: Part) -> None:
    table = Table(box=None, title=f"[bold]{part.name}[/]", title_justify="left", pad_edge=False)
    for name in (
        "what",
        "median",
        "",
        "min..max",
        "p50 / p99 ms",
        "KB an item",
        "ratios",
        "budget",
        "",
    ):
        right = name in ("median", "min..max", "p50 / p99 ms", "KB an item")
        table.add_column(name, justify="right" if right else "left", no_wrap=name == "what")
    for f in part.figures:
        ratios = ", ".join(f"{short(ratio)} x {floor}" for floor, ratio in f.ratios.items())
        budget = "\n".join(f.budgets)
        verdict = "\n".join(
            "[green]reached[/]" if r else "[red]missed[/]" for r in f.budgets.values()
        )
        spread = "" if f.low == f.high else f"{short(f.low)}..{short(f.high)}"
        taken = f"{short(f.p50_ms)} / {short(f.p99_ms)}" if f.p50_ms and f.p99_ms else ""
        wrote = "" if f.written_per_item is None else short(f.written_per_item / 1_000)
        table.add_row(
            escape(f.name), short(f.value), f.unit, spread, taken, wrote, ratios, budget, verdict
        )
    for failed in part.failed:
        table.add_row(
            escape(failed.name), "[red]not measured[/]", "", "", "", "", escape(failed.why)
        )
    console.print(table)
    console.print()


def machine_facts(folder: Path) -> dict[str, Any]:
    """What the figures depend on; nothing that tells whose machine it is."""
    model, memory = platform.processor() or platform.machine(), 0
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal"):
                memory = round(int(line.split()[1]) / 1024 / 1024)
    except OSError:
        pass
    return {
        "processors": os.cpu_count(),
        "model": model,
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "file_system": _file_system(folder),
    }


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown"
    try:
        for line in Path("/proc/mounts").read_text().splitlines():
            _, place, name, *_ = line.split()
            if folder.resolve().is_relative_to(place) and len(place) >= len(best):
                best, kind = place, name
    except OSError:
        pass
    return kind
