"""Queries, commands and questions: what may be read from a store.  Spec: specs/store.md.

A command names its queries before anything is read, so a store answers them in one round.  A record is in an index iff
none of its columns is None: every condition of a search is a column, and there is no WHERE.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, overload

from attrs import frozen

from .kind import Kind
from .outcome import Decided, Key, Refused

__all__ = [
    "Chain",
    "Command",
    "Each",
    "First",
    "Get",
    "Index",
    "Named",
    "Query",
    "Question",
    "Reads",
    "Record",
    "RowsContradict",
    "all_existing",
    "answer_named",
    "existing",
    "read",
]


R = TypeVar("R", bound="Record")
A_co = TypeVar("A_co", covariant=True)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)


class Record:
    """One row.  `key` names the columns of the primary key, the session first.

    `flat` names fields that hold one of several classes.  Such a field is stored as a column with the name of the class
    and one nullable column for each field of these classes.  `derived` names properties that are stored for searching.
    `version` is that of its rows (upgrades.py), `since` the release that added the table, `added` the release of each
    column that was added later (specs/schema.md).  `payloads` names the columns with texts of users and models, which a
    store may seal (STATE-20): no index has them, and no decision reads what they say.
    """

    __slots__ = ()
    version: ClassVar[int] = 1
    since: ClassVar[int] = 1
    added: ClassVar[Mapping[str, int]] = {}
    key: ClassVar[tuple[str, ...]]
    flat: ClassVar[tuple[str, ...]] = ()
    derived: ClassVar[tuple[str, ...]] = ()
    payloads: ClassVar[tuple[str, ...]] = ()


@frozen
class Index(Generic[R]):
    """An order of records by `columns`; those in `descending` are in descending order.

    `for_workers`: sessions are found by it, so a store leaves out those in quarantine (STORE-49).
    """

    name: str
    record: type[R]
    columns: tuple[str, ...]
    descending: tuple[str, ...] = ()
    unique: bool = False
    since: int = 1  # the release that added it
    for_workers: bool = False


class Query(Generic[A_co]):
    """A read with an answer of type A."""

    __slots__ = ()


@frozen
class Get(Query[R | None], Generic[R]):
    """The record with this key, or None (STORE-6)."""

    record: type[R]
    key: Key


@frozen
class First(Query[tuple[R, ...]], Generic[R]):
    """The first `limit` records of an index whose leading columns equal `prefix` (STORE-7).

    `counted` names a column of the record that the command's first query reads.  If it is 0, or that record does not
    exist, a store may answer without looking (STORE-17).
    `after` (questions only, on indexes without descending columns): strictly after these values of the next columns.
    `backwards`: in reverse order.
    """

    index: Index[R]
    prefix: Key
    limit: int
    after: Key = ()
    backwards: bool = False
    counted: str | None = None


@frozen
class Chain(Query[tuple[R, ...]], Generic[R]):
    """The record with this key, then the one that its column `via` names, and so on, at most `limit` (STORE-41).

    `via` holds the last column of the next one's key; the columns before it are the same in all.  Questions only.
    """

    record: type[R]
    key: Key
    via: str
    limit: int


@frozen
class Named(Query[tuple[R, ...]], Generic[R]):
    """The records that a column of another record names (STORE-55).  Names without a record are left out.

    `via` is a column or a property of that record: a text, or a tuple of texts.  It holds the last columns of the keys;
    the column before it is the session.
    """

    get: Get[Any]
    via: str
    record: type[R]

    def gets(self, found: Any) -> tuple[Get[R], ...]:
        """Return the queries of the records that `found`, the answer of `get`, names."""
        names = () if found is None else getattr(found, self.via)
        return tuple(
            [
                Get(self.record, (self.get.key[0], name))
                for name in ((names,) if isinstance(names, str) else names)
            ]
        )


@frozen
class Each(Query[tuple[A_co, ...]], Generic[A_co]):
    """Several queries of one kind, answered by a tuple in their order.

    `counted` as in `First`, for all of them: a store that does not look answers an empty tuple.
    """

    queries: tuple[Query[A_co], ...]
    counted: str | None = None


@frozen
class Reads(Generic[V_co]):
    """The queries of a command, and the view class that takes their answers in order."""

    view: Callable[..., V_co]
    queries: tuple[Query[Any], ...]


A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
A6 = TypeVar("A6")
A7 = TypeVar("A7")
A8 = TypeVar("A8")
A9 = TypeVar("A9")
A10 = TypeVar("A10")
A11 = TypeVar("A11")
A12 = TypeVar("A12")
A13 = TypeVar("A13")


# fmt: off
@overload
def read(view: Callable[[A1], V], q1: Query[A1], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2], V], q1: Query[A1], q2: Query[A2], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7, A8], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], q8: Query[A8], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7, A8, A9], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], q8: Query[A8], q9: Query[A9], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7, A8, A9, A10], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], q8: Query[A8], q9: Query[A9], q10: Query[A10], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], q8: Query[A8], q9: Query[A9], q10: Query[A10], q11: Query[A11], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], q8: Query[A8], q9: Query[A9], q10: Query[A10], q11: Query[A11], q12: Query[A12], /) -> Reads[V]: ...
@overload
def read(view: Callable[[A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13], V], q1: Query[A1], q2: Query[A2], q3: Query[A3], q4: Query[A4], q5: Query[A5], q6: Query[A6], q7: Query[A7], q8: Query[A8], q9: Query[A9], q10: Query[A10], q11: Query[A11], q12: Query[A12], q13: Query[A13], /) -> Reads[V]: ...
# fmt: on
def read(view: Callable[..., V], *queries: Query[Any]) -> Reads[V]:
    """Return the reads of a view class; mypy checks each query against its field."""
    return Reads(view, queries)


def answer_named(query: Named[R], answer: Callable[[Query[Any]], Any]) -> tuple[R, ...]:
    """Answer `Named`, with `answer` for each `Get`."""
    found = [answer(get) for get in query.gets(answer(query.get))]
    return tuple([record for record in found if record is not None])


class Command(Generic[V, O_co]):
    """A command on one session (STORE-4): what it reads, and a decision over exactly that.

    `decide` checks first whether the command was executed before (STORE-2).
    `serves`: the kind of aggregates that it is for; None: sessions.  `serves_all`: those of every kind (JOB-2).
    """

    __slots__ = ()
    serves: ClassVar[Kind | None] = None
    serves_all: ClassVar[bool] = False
    session_id: str

    def reads(self) -> Reads[V]:
        """Return the queries that the decision needs."""
        raise NotImplementedError

    def decide(self, view: V, now_ms: int) -> Decided[O_co] | Refused:
        """Decide over the answers to the queries, at a time of the store's clock."""
        raise NotImplementedError


class RowsContradict(Exception):
    """Raised while a question is answered: the rows of its session do not fit together (STORE-47)."""

    __slots__ = ()


def existing(record: R | None, what: str) -> R:
    """Return a record that another record names.  Raises RowsContradict, with `what` it is, if it does not exist."""
    if record is None:
        raise RowsContradict(f"no {what}")
    return record


def all_existing(records: Iterable[R | None], what: str) -> tuple[R, ...]:
    """Return records that other records name.  Raises RowsContradict, with `what` they are, if one does not exist."""
    return tuple([existing(record, what) for record in records])


class Question(Generic[A_co]):
    """A read of several queries, answered from one snapshot (STORE-16).  No decision depends on it."""

    __slots__ = ()

    def steps(self) -> Generator[Query[Any], Any, A_co]:
        """Yield queries, receive their answers, and return the answer to the question."""
        raise NotImplementedError
