"""What the commands of `tenure store` share: their option, a store that exists, and a line of output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import click

from ...stores.url import is_server, stored_path
from ..open_store import open_read_only
from ..output import log, write_text
from ..retrying_store import RetryingStore, opened

__all__ = ["existing", "report", "store_option"]


URL_HELP: Final = "sqlite:PATH, files:FOLDER or postgresql://HOST/DATABASE."

store_option = click.option("--store", required=True, metavar="URL", help=URL_HELP)


@asynccontextmanager
async def existing(url: str) -> AsyncIterator[RetryingStore]:
    """Open a store that exists; never create one.  Raises CliExit."""
    if stored_path(url) is not None:
        async with open_read_only(url, log_line=log):
            pass  # raises for an empty file or folder, in which opening would create a store
    options: dict[str, Any] = {"create": False} if is_server(url) else {}
    async with opened(url, log_line=log, **options) as found:
        yield found


def report(line: str) -> None:
    """Write one line to standard output."""
    write_text([line])
