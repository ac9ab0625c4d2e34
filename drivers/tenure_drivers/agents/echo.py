"""The agent that answers what it is told."""

from __future__ import annotations

from ..runtime.turn import Turn


async def echo(turn: Turn) -> str:
    return turn.text
