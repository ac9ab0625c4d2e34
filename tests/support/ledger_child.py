"""What several processes do with one ledger file, for test_agents.py: a module that a new process can import."""

from __future__ import annotations

import random
from pathlib import Path

from tenure_drivers.agents.ledger_file import LedgerFile


def append_all(path: str, seed: int) -> None:
    file, dice = LedgerFile(Path(path)), random.Random(seed)
    for number in dice.sample(range(60), 60):
        file.append(f"id{number}", "text " * dice.randrange(1000))
