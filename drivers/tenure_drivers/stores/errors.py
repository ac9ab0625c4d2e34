"""The common root of all exceptions that tenure raises on purpose.

It stands with the stores because they are the lowest layer of the drivers.  Everything above may import it.
"""

from __future__ import annotations

from typing import ClassVar

from tenure.failure import ErrorKind

__all__ = ["TenureError"]


class TenureError(Exception):
    """Root of every exception of a store, a runtime or a tool; catch it to catch them all.

    `kind` is how a turn fails if its code lets the exception pass.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.TRANSIENT
