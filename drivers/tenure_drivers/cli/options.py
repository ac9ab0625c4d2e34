"""What the options of several commands share: texts of the help and types of values."""

from __future__ import annotations

import math
from typing import Any, Final

import click

__all__ = ["AGENT_HELP", "READ_HELP", "STORE_HELP", "Seconds", "label", "position"]


STORE_HELP: Final = (
    "sqlite:PATH, files:FOLDER, postgresql://HOST/DATABASE, or memory: (ends with the process)."
)
READ_HELP: Final = "Store URL, as for tenure run.  The store is only read."
AGENT_HELP: Final = "echo | ledger:FILE | flaky:N | script:FILE | openai:MODEL | module:attribute."


class Seconds(click.FloatRange):
    """A number of seconds."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no number, which no range excludes."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return found


def label(text: str) -> tuple[str, str]:
    """Split NAME=VALUE at the first =, for an option."""
    name, divider, value = text.partition("=")
    if not name or not divider:
        raise click.BadParameter(f"{text!r}: expected NAME=VALUE")
    return name, value


def position(text: str) -> tuple[int, str]:
    """Split EVENT:NODE, where a page of a conversation ends."""
    event, divider, node_id = text.partition(":")
    if not divider or not event.isdecimal() or len(event) > 18:
        raise click.BadParameter(f"{text!r}: expected a position as `tenure show` prints it")
    return int(event), node_id
