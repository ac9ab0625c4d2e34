"""Echo agent: replies with its input."""

from __future__ import annotations

from ..runtime.turn import Turn


async def echo(turn: Turn) -> str:
    """Return the text of the turn's inputs."""
    return turn.text
