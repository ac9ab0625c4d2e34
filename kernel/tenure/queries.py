"""What a decision may read: a record by key, and the first records of an index.  Spec: specs/store.md.

Both are known from the command alone, so a store answers all reads of a command in one round.  A record is in an
index iff none of its columns is None: whatever must be searched for is a column, there is no WHERE.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, ClassVar, Generic, TypeVar, overload

from attrs import frozen

from .outcome import Decided, Key, Refused

R = TypeVar("R", bound="Record")
A_co = TypeVar("A_co", covariant=True)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
O_co = TypeVar("O_co", covariant=True)


class Record:
    """One row.  `key` names the primary key, the session first.

    `flat` names fields that hold one of several state classes: stored as a column with the class's name and one
    nullable column per field of any of them.  `derived` names properties that are stored only to be searched.
    """

    __slots__ = ()
    key: ClassVar[tuple[str, ...]]
    flat: ClassVar[tuple[str, ...]] = ()
    derived: ClassVar[tuple[str, ...]] = ()


@frozen
class Index(Generic[R]):
    """Records in the order of `columns`; those in `descending` run backwards."""

    name: str
    record: type[R]
    columns: tuple[str, ...]
    descending: tuple[str, ...] = ()
    unique: bool = False


class Query(Generic[A_co]):
    __slots__ = ()


@frozen
class Get(Query[R | None], Generic[R]):
    """The record with this key, or None (STORE-6)."""

    record: type[R]
    key: Key


@frozen
class First(Query[tuple[R, ...]], Generic[R]):
    """The first `limit` records of an index whose leading columns equal `prefix` (STORE-7).

    `counted` names a column of the record that the command's first query reads: where it is 0, or that record is
    missing, nothing is there to be found, and a store need not look (STORE-17).
    `after` (questions only, on indexes without descending columns): strictly behind these values of the next columns.
    `backwards`: the last ones first.
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
class Each(Query[tuple[A_co, ...]], Generic[A_co]):
    """Several queries of one kind, as many as the command names; answered by a tuple in their order."""

    queries: tuple[Query[A_co], ...]


@frozen
class Reads(Generic[V_co]):
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
# fmt: on
def read(view: Callable[..., V], *queries: Query[Any]) -> Reads[V]:
    """Tie a view class to the queries that fill it; mypy checks each query against its field."""
    return Reads(view, queries)


class Command(Generic[V, O_co]):
    """A frozen class that knows what it reads, of one session (STORE-4), and decides over exactly that.

    Its first question is whether it has been carried out already (STORE-2).
    """

    __slots__ = ()
    session_id: str

    def reads(self) -> Reads[V]:
        raise NotImplementedError

    def decide(self, view: V, now_ms: int) -> Decided[O_co] | Refused:
        raise NotImplementedError


class Question(Generic[A_co]):
    """A read for people or a runner, answered from one snapshot (STORE-16), never part of a decision.

    `steps` is a reading plan: it yields queries, is sent their answers, and returns the answer to the question.
    """

    __slots__ = ()

    def steps(self) -> Generator[Query[Any], Any, A_co]:
        raise NotImplementedError
