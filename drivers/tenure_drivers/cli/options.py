"""What the options of several commands share: texts of the help and types of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["FOR_WORKERS", "READ_HELP", "STORE_HELP", "Seconds", "label", "position"]


F = TypeVar("F", bound=Callable[..., Any])

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


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds these options, in their order in the help."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


FOR_WORKERS: Final = _all(
    click.option("--store", required=True, metavar="URL", help=STORE_HELP),
    click.option("--agent", required=True, metavar="AGENT", help=AGENT_HELP),
    click.option(
        "--workers",
        default=1,
        type=click.IntRange(1, 256),
        show_default=True,
        help="Number of worker processes.",
    ),
    click.option(
        "--jobs",
        "jobs",
        multiple=True,
        metavar="JOBS",
        help="Jobs to execute: process | session | module:attribute; may be given several times.",
    ),
    click.option(
        "--blobs",
        metavar="URL",
        help="Store of the bytes of attachments: folder:PATH, rows:, s3://BUCKET/PREFIX or nothing:.",
    ),
    click.option(
        "--patience",
        "patience_s",
        default=30.0,
        type=Seconds(min=0),
        metavar="SECONDS",
        show_default=True,
        help="How long the command and its workers retry while the store is unavailable.",
    ),
    click.option(
        "--grace",
        "grace_s",
        default=30.0,
        type=Seconds(min=0, max=86_400),
        metavar="SECONDS",
        show_default=True,
        help="After Ctrl-C or SIGTERM: how long turns in progress may take to finish.",
    ),
)
