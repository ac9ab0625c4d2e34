"""Folders of the checkout, for tests that read sources, specs or start a script."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ROOT / "kernel" / "tenure"
DRIVERS = ROOT / "drivers" / "tenure_drivers"
SPECS = ROOT / "specs"
TESTS = ROOT / "tests"
SUPPORT = TESTS / "support"
