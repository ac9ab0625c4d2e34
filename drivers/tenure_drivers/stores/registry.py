"""The registry of stores: opens a store by the scheme of its URL, and imports the store's module only then.

A package registers a scheme of its own with an entry point in the group `tenure.stores`:

    [project.entry-points."tenure.stores"]
    redis = "my_package.store:open_url"

where `open_url(url: StoreUrl, *, clock: Clock, **options) -> Store`.  The schemes of tenure cannot be replaced.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from ..redaction import know_password_of
from .base import Clock, Store, wall_clock_ms
from .migration import Migrator
from .payloads import hook_of_environment
from .url import KNOWN, StoreUrl

GROUP: Final = "tenure.stores"


class OpenUrl(Protocol):
    """Opens a store by its parsed URL.  Raises ValueError for a URL or an option that it does not accept."""

    def __call__(self, url: StoreUrl, /, *, clock: Clock, **options: Any) -> Store: ...


BUILT_IN: Final = {
    "memory": "tenure_drivers.stores.memory:open_url",
    "files": "tenure_drivers.stores.files.store:open_url",
    "sqlite": "tenure_drivers.stores.sqlite.store:open_url",
    "postgresql": "tenure_drivers.stores.postgres.store:open_url",
    "postgres": "tenure_drivers.stores.postgres.store:open_url",
}
EXTRAS: Final = {"postgresql": "postgres", "postgres": "postgres"}  # what to install for a scheme


def open_store(url: str, *, clock: Clock = wall_clock_ms, **options: Any) -> Store:
    """Open the store of a URL: `memory:`, `files:FOLDER`, `sqlite:PATH` or a bare `PATH.db`, `postgresql://...`.

    A PostgreSQL URL has libpq's form; its query may also have `tenure_schema=NAME` and `prepare=off`.  Installed
    packages may register other schemes.  `migrate` (files, SQLite): "auto" brings a store of an earlier release forward
    if nobody else has it open, "no" does not (SCHEMA-10).  `payloads`: the hook that seals texts (STATE-20); without it,
    the one that the variable TENURE_PAYLOADS names, as `module:name`.
    Raises ValueError for any other URL, and the errors of the store that is opened.
    """
    parsed = StoreUrl.parse(url)
    know_password_of(url)
    payloads = options.pop("payloads", None) or hook_of_environment()
    if payloads is not None:
        options["payloads"] = payloads
    return find_opener(parsed)(parsed, clock=clock, **options)


def find_migrator(url: str) -> Migrator | None:
    """Return what migrates the store of a URL; None if its kind has no schema.

    It is what the function `open_migrator(url: StoreUrl)` returns, beside `open_url` in the module of the store.
    Raises ValueError as `open_store`.
    """
    parsed = StoreUrl.parse(url)
    know_password_of(url)
    module = importlib.import_module(find_opener(parsed).__module__)
    make: Callable[[StoreUrl], Migrator] | None = getattr(module, "open_migrator", None)
    return None if make is None else make(parsed)


def find_opener(url: StoreUrl) -> OpenUrl:
    """Import the module of a store and return its `open_url`.  Raises ValueError if the module cannot be imported."""
    target = BUILT_IN.get(url.scheme)
    if target is None:
        return _registered(url)
    module, _, attribute = target.partition(":")
    try:
        found: OpenUrl = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        extra = EXTRAS.get(url.scheme)
        if extra is None:
            raise
        needed = error.name or "psycopg"
        raise ValueError(
            f"store URL {url.redacted!r} needs {needed}: pip install 'tenure[{extra}]'"
        ) from error
    return found


def _registered(url: StoreUrl) -> OpenUrl:
    points = entry_points(group=GROUP)
    matching = [point for point in points if point.name == url.scheme]
    if not matching:
        others = "".join(f", {name}:" for name in sorted(points.names - BUILT_IN.keys()))
        raise ValueError(f"unknown store URL {url.redacted!r}; expected {KNOWN}{others}")
    if len({point.value for point in matching}) > 1:
        raise ValueError(
            f"store URL {url.redacted!r}: several packages register {url.scheme}: "
            f"{', '.join(sorted(point.value for point in matching))}; uninstall all but one"
        )
    return _load(url, matching[0])


def _load(url: StoreUrl, point: EntryPoint) -> OpenUrl:
    try:
        found: OpenUrl = point.load()
    except Exception as error:  # the package may raise anything while it is imported
        raise ValueError(
            f"store URL {url.redacted!r}: loading {point.value} failed: {type(error).__name__}: {error}"
        ) from error
    return found


__all__ = ["BUILT_IN", "GROUP", "OpenUrl", "find_migrator", "find_opener", "open_store"]
