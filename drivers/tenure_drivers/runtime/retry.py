"""Retry calls to a store while it is unavailable or an outcome is unknown.  The only such loop of the drivers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from ..stores.base import OutcomeUnknown, Unavailable, Unusable
from .clock import boot_clock_ms

__all__ = ["retry"]


T = TypeVar("T")

PAUSE_S: Final = 0.005  # before the second attempt; doubled before each later one
PAUSE_S_MAX: Final = 1.0


async def retry(
    attempt: Callable[[], Awaitable[T]],
    *,
    patience_ms: float | None,
    unavailable: bool = True,
    clock: Callable[[], int] = boot_clock_ms,
    on_first_failure: Callable[[Exception], None] | None = None,
) -> T:
    """Await `attempt()` until it succeeds, for `patience_ms` after its first failure (None: without limit).

    An Unusable is raised at once.  With `unavailable=False` an Unavailable is raised at once, unless an earlier attempt may have been executed.
    Raises OutcomeUnknown if any attempt may have been executed, else the last Unavailable.
    """
    since: int | None = None
    uncertain = False
    pause_s = PAUSE_S
    while True:
        try:
            return await attempt()
        except Unusable as error:
            if uncertain:
                raise OutcomeUnknown(str(error)) from error
            raise
        except (OutcomeUnknown, Unavailable) as error:
            uncertain = uncertain or isinstance(error, OutcomeUnknown)
            if not (uncertain or unavailable):
                raise
            if since is None:
                since = clock()
                if on_first_failure is not None:
                    on_first_failure(error)
            if patience_ms is not None and clock() - since >= patience_ms:
                if uncertain and isinstance(error, Unavailable):
                    raise OutcomeUnknown(str(error)) from error
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)
