"""Echo agent: replies with its input."""

from __future__ import annotations

from ..runtime.turn import Turn

__all__ = ["echo"]


async def echo(turn: Turn) -> str:
    """Return the text of the turn's inputs."""
    return turn.text
