"""Each record is decoded from its row unchanged; an invalid row is reported with its key."""

from __future__ import annotations

import enum
import sqlite3
import types
import typing
from typing import Any

import attrs
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.indexes import INDEXES
from tenure.queries import Record
from tenure.records import RECORDS, QueueEntry, Session
from tenure.world import columns_of
from tenure_drivers.stores.base import Corrupt
from tenure_drivers.stores.row_codec import RowCodec, codec_of
from tenure_drivers.stores.sqlite.sql import create_table, insert_record, quoted

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type as records have them."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(member) for member in args])
    if origin is tuple and args[-1] is not Ellipsis:
        return st.tuples(*map(values, args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if kind is types.NoneType:
        return st.none()
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(1 - 2**53, 2**53 - 1)
    if kind is str:
        return TEXT
    if issubclass(kind, enum.Enum):
        return st.sampled_from(list(kind))
    hints = typing.get_type_hints(kind)
    return st.builds(kind, *[values(hints[a.name]) for a in attrs.fields(kind)])


def records(kind: type[Record]) -> st.SearchStrategy[Any]:
    found = values(kind)
    if kind.__name__ == "Run":  # unfinished runs have contributors
        return found.filter(lambda run: run.contributors)
    return found


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_a_record_comes_back_as_it_was(kind: type[Record]) -> None:
    codec = codec_of(kind)
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute(create_table(codec))

    @settings(max_examples=60, deadline=None, database=None)
    @given(record=records(kind))
    def check(record: Any) -> None:
        database.execute(f'DELETE FROM "{codec.table}"')

        database.execute(insert_record(codec), codec.encode(record))

        row = database.execute(f'SELECT {quoted(codec.stored)} FROM "{codec.table}"').fetchone()
        found: Any = codec.decode(row)
        assert found == record
        assert [type(v) for v in attrs.astuple(found)] == [type(v) for v in attrs.astuple(record)]

    try:
        check()
    finally:
        database.close()


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: index.name)
def test_the_columns_of_an_index_are_those_of_the_row(index: Any) -> None:
    codec = codec_of(index.record)
    names = [column.name for column in codec.columns]

    @settings(max_examples=60, deadline=None, database=None)
    @given(record=records(index.record))
    def check(record: Any) -> None:
        row = dict(zip(names, codec.encode(record), strict=True))
        expected = tuple(row[name] for name in index.columns)

        assert columns_of(index)(record) == (None if None in expected else expected)

    check()


def test_a_row_that_is_no_record_names_table_and_key() -> None:
    codec = codec_of(Session)
    row = list(codec.encode(Session("s")))[: len(codec.stored)]
    row[1] = "nonsense"

    with pytest.raises(Corrupt, match=r"session \('s',\) cannot be read: KeyError\('nonsense'\)"):
        codec.decode(row)


def test_a_state_that_is_none_of_the_variants_is_not_written() -> None:
    wrong: Any = "nowhere"
    with pytest.raises(TypeError, match="nowhere"):
        codec_of(QueueEntry).encode(QueueEntry("s", "i", 1, wrong, 1, wrong))


def test_a_duplicate_column_is_refused_when_the_codec_is_built() -> None:
    @frozen
    class Here:
        turn: int

    @frozen
    class There:
        turn: int

    @frozen
    class Twin(Record):
        key = ("session_id",)
        flat = ("state",)
        session_id: str
        turn: int
        state: Here | There

    Twin.__annotations__ |= {"state": Here | There, "session_id": str, "turn": int}

    with pytest.raises(TypeError, match="Twin has two columns of one name"):
        RowCodec(Twin)
