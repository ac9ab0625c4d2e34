"""Clients of models: a request in, a reply or a failure out, pieces on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tenure.messages.types import Delta, ModelFailed, Reply, Request


class ModelClient(Protocol):
    async def complete(
        self, request: Request, emit: Callable[[Delta], None], key: str
    ) -> Reply | ModelFailed:
        """Ask once; whether to ask again is the kernel's decision.

        `key` is the effect's, the same at every attempt.  What goes wrong is a `ModelFailed`, never an exception;
        to cancel the caller ends the request at the provider too.
        """
        ...
