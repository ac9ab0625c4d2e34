"""What a transaction has written itself is found before what is in the tables, whatever the limit of a page."""

from __future__ import annotations

import pytest

from tenure.indexes import DELAYED
from tenure.machines.input import Delayed, Ended, How
from tenure.outcome import Decided, Drop, Insert, Update, Write
from tenure.policy import Lane
from tenure.queries import First
from tenure.records import QueueEntry
from tenure_drivers.stores.ordered_tables import MemoryTables
from tenure_drivers.stores.overlay import WriteOverlay


def delayed(name: str, until_ms: int) -> QueueEntry:
    state = Delayed(until_ms=until_ms, mark=0, hold=False, group=None, size=1, open_key=None)
    return QueueEntry("s", name, until_ms, Lane.USER, 128, state)


def written(*writes: Write) -> Decided[None]:
    return Decided(None, "TEST", writes)


@pytest.mark.parametrize(
    "write",
    [
        Drop(QueueEntry, ("s", "a")),
        Update(QueueEntry("s", "a", 1, Lane.USER, 128, Ended(How.WITHDRAWN, "c"))),
        Update(delayed("a", 9)),
    ],
    ids=["removed", "out of the index", "further back"],
)
def test_a_page_is_full_although_its_first_row_has_gone(write: Write) -> None:
    tables = MemoryTables()
    before = WriteOverlay(tables)
    before.write([written(*[Insert(delayed(name, at)) for at, name in enumerate("abc", 1)])])
    before.apply()
    overlay = WriteOverlay(tables)
    overlay.write([written(write)])

    for limit, expected in ((1, ["b"]), (2, ["b", "c"])):
        found = overlay.answer(First(DELAYED, ("s",), limit))
        assert [row.input_id for row in found] == expected


def test_a_page_is_without_sessions_that_are_left_out() -> None:
    tables = MemoryTables()
    overlay = WriteOverlay(tables)
    overlay.write([written(Insert(delayed("a", 1)))])
    overlay.apply()

    assert tables.first(First(DELAYED, (), 5), without={"s"}) == ()
    assert len(tables.first(First(DELAYED, (), 5), without={"t"})) == 1
