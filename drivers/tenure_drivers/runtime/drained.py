"""What has become of the turns of a runtime that was drained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from attrs import frozen

from tenure.runner.protocol import Left

__all__ = ["Drained"]


@frozen
class Drained:
    """What became of the turns that were running when a runtime began to drain (RUNNER-140).

    `ended`: their end is stored.  `released`: they are due again at once, for any worker.  `given_up`: another owner
    has them, or they are due when their leases have expired.
    """

    ended: int = 0
    released: int = 0
    given_up: int = 0

    @classmethod
    def of(cls, left: Mapping[Left, int]) -> Self:
        """Return these counts."""
        return cls(left[Left.ENDED], left[Left.RELEASED], left[Left.GIVEN_UP])
