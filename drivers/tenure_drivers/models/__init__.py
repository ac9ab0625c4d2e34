"""Clients of models.  A client sends a request and returns a reply or a failure; it emits pieces meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tenure.messages.types import Delta, ModelFailed, Reply, Request

__all__ = ["ModelClient"]


class ModelClient(Protocol):
    """A client of one model."""

    @property
    def model(self) -> str:
        """The name of the model."""

    async def complete(
        self, request: Request, emit: Callable[[Delta], None], key: str, /
    ) -> Reply | ModelFailed:
        """Send one request; the kernel decides about retries.

        `key` is an idempotency key, equal in all attempts.  An error is returned as `ModelFailed`, never raised.  If
        the caller cancels, the request ends at the provider too.  The messages are as the transcript holds them:
        `tenure.messages.sendable` makes them legal for a server.
        """
