"""Opening stores by URL: the schemes of tenure, and those that other packages register."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from paths import SUPPORT

from tenure.commands import Open
from tenure_drivers import open_store
from tenure_drivers.stores.memory import MemoryStore

PACKAGE = SUPPORT / "third_party"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with an entry point in the group `tenure.stores`."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    yield
    sys.modules.pop("tenure_example_store", None)


@pytest.mark.usefixtures("installed")
def test_a_package_registers_a_scheme() -> None:
    store = open_store("example:mine")

    assert type(store).__name__ == "ExampleStore"
    assert getattr(store, "name") == "mine"  # noqa: B009 - its type is not ours
    assert asyncio.run(store.execute(Open("s"))) is not None


@pytest.mark.usefixtures("installed")
def test_a_registered_scheme_gets_the_options() -> None:
    with pytest.raises(ValueError, match=r"'example:mine' takes no options: \['size'\]"):
        open_store("example:mine", size=3)


def test_without_the_package_the_scheme_is_unknown() -> None:
    with pytest.raises(ValueError, match="unknown store URL 'example:mine'; expected memory:"):
        open_store("example:mine")


@pytest.mark.usefixtures("installed")
def test_an_unknown_scheme_names_the_registered_ones_too() -> None:
    with pytest.raises(ValueError, match="postgresql://HOST/DATABASE, example:, missing:$"):
        open_store("elsewhere:x")


@pytest.mark.usefixtures("installed")
def test_a_package_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(
        ValueError,
        match="store URL 'missing:x': loading tenure_example_store_that_is_not_there:open_url",
    ):
        open_store("missing:x")


@pytest.mark.usefixtures("installed")
def test_a_scheme_of_tenure_cannot_be_replaced() -> None:
    assert type(open_store("memory:")) is MemoryStore


def test_no_store_is_imported_before_it_is_opened() -> None:
    told = subprocess.run(
        [
            sys.executable, "-c",
            "import sys; from tenure_drivers.stores.registry import open_store\n"
            "print([m for m in ('sqlite3', 'psycopg') if m in sys.modules])\n"
            "open_store('memory:')\n"
            "print([m for m in ('sqlite3', 'psycopg') if m in sys.modules])",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert told.stdout.splitlines() == ["[]", "[]"], told.stderr
