"""The states of a relay, the events that its host reports, and its effects.  Spec: specs/relay.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..commands.encoding import UnreadableCommand
from ..commands.sendable import Sendable
from ..commands.sent import LineUp, SendFailed, SendRefused, Sent
from ..commands.sent_commands import command_of
from ..indexes import OUTBOUND_DUE, OUTBOUND_ROUTE
from ..outbound_records import Due, Outbound, route_of
from ..outcome import Stepped
from ..queries import First, Query, Question

__all__ = [
    "LOOK_MAX",
    "Delivered",
    "Deliver",
    "Drain",
    "Draining",
    "Effect",
    "Event",
    "Failed",
    "Finish",
    "Finished",
    "Found",
    "Head",
    "LoadHead",
    "Look",
    "LookFailed",
    "Looked",
    "NotDue",
    "Nothing",
    "Noticed",
    "Outcome",
    "Place",
    "ReadFailed",
    "Record",
    "Recorded",
    "RefusedForGood",
    "Relaying",
    "Route",
    "Sending",
    "SetTimer",
    "Started",
    "State",
    "TimerFired",
]


LOOK_MAX: Final = 256  # rows that one look reads, and rows of routes that are remembered


# -- what is read


@frozen
class Route:
    """The rows of one session for one target.  `peer`: the name of its store; "" is the sender's."""

    session_id: str
    to: str
    peer: str = ""


Place: TypeAlias = tuple[
    int, str, int
]  # of a row in its index: when it is due, its session, its number


@frozen
class Found:
    """What a look has found: rows that may be sent, each with its route.

    `after`: where the next look goes on; None: it has read all.  `wait_ms`: in so many ms the next row is due, if there
    is one.
    """

    rows: tuple[tuple[Route, int], ...]
    after: Place | None = None
    wait_ms: int | None = None


@frozen
class Look(Question[Found]):
    """Look for rows for one store that may be sent, after a place."""

    id: int
    peer: str = ""
    after: Place | None = None
    wall_ms: int = 0  # the time now, which the host fills in
    limit: int = LOOK_MAX

    def steps(self) -> Generator[Query[Any], Any, Found]:
        page: tuple[Outbound, ...]
        page = yield First(OUTBOUND_DUE, (self.peer,), self.limit, self.after or ())
        due = [row for row in page if _due_at_ms(row) <= self.wall_ms]
        rows = tuple([(Route(r.session_id, r.to, r.peer), r.number) for r in due])
        if len(due) < len(page):
            return Found(rows, None, _due_at_ms(page[len(due)]) - self.wall_ms)
        if len(page) < self.limit:
            return Found(rows)
        last = page[-1]
        return Found(rows, (_due_at_ms(last), last.session_id, last.number))


@frozen
class Head:
    """The first row of a route.  `command`: None if it cannot be read, which `problem` explains.

    `wait_ms`: in so many ms it may be sent.  `more`: there are rows behind it.
    """

    number: int
    attempts: int
    command: Sendable | None
    problem: str = ""
    wait_ms: int = 0
    more: bool = False


@frozen
class LoadHead(Question[Head | None]):
    """Load the first row of a route; None if there is none."""

    route: Route
    wall_ms: int

    def steps(self) -> Generator[Query[Any], Any, Head | None]:
        route = self.route
        at = (route.session_id, route_of(route.to, route.peer))
        page: tuple[Outbound, ...] = yield First(OUTBOUND_ROUTE, at, 2)
        if not page:
            return None
        row, more = page[0], len(page) > 1
        wait_ms = max(0, _due_at_ms(row) - self.wall_ms)
        try:
            return Head(row.number, row.attempts, command_of(row), "", wait_ms, more)
        except UnreadableCommand as error:
            return Head(row.number, row.attempts, None, str(error), wait_ms, more)


def _due_at_ms(row: Outbound) -> int:
    return row.state.due_at_ms if isinstance(row.state, Due) else 0


# -- states


@frozen
class Sending:
    """A route whose first row is being sent, or is to be sent.  `numbers`: the rows of it that looks have found."""

    route: Route
    numbers: tuple[int, ...]


@frozen
class Relaying:
    """The relay sends.  `peers`: the stores that it reaches, "" for its own.  `looking`: the look in progress; 0: none."""

    peers: tuple[str, ...]
    at_once: int
    timer: int = 0
    timer_at_ms: int = 0
    looking: int = 0
    noticed: bool = False  # something was sent since the look in progress has begun
    backlog: tuple[Sending, ...] = ()  # known routes that wait for their turn
    sending: tuple[Sending, ...] = ()  # routes whose row is executed, or whose result is stored
    peer: int = 0  # the place in `peers` at which the next look goes on
    after: Place | None = None  # likewise
    failures: int = 0  # of the own store, in a row
    look_from_ms: int = 0  # it is left alone until then
    next_id: int = 1


@frozen
class Draining:
    """The relay waits for the routes that are left."""

    sending: tuple[Sending, ...]


@frozen
class Finished:
    """The final state."""


State: TypeAlias = Relaying | Draining | Finished

# -- events


@frozen
class Started:
    """The relay has started."""

    now_ms: int


@frozen
class Noticed:
    """This process has written something to be sent."""

    now_ms: int


@frozen
class TimerFired:
    """The time of this timer has come."""

    now_ms: int
    id: int


@frozen
class Looked:
    """A look has ended."""

    now_ms: int
    id: int
    found: Found


@frozen
class LookFailed:
    """The store did not answer a look."""

    now_ms: int
    id: int


@frozen
class Nothing:
    """The route has no row to be sent."""

    now_ms: int
    route: Route


@frozen
class NotDue:
    """The first row of the route waits for its time."""

    now_ms: int
    route: Route


@frozen
class Delivered:
    """The target has executed the row, now or before, or what the row wanted no longer matters."""

    now_ms: int
    route: Route
    number: int
    more: bool


@frozen
class RefusedForGood:
    """The target has refused the row, and time will not change that."""

    now_ms: int
    route: Route
    number: int
    refusal: str
    clause: str
    detail: str
    more: bool


@frozen
class Failed:
    """The target has not answered, or refuses only for now.  `attempts`: failures before this one."""

    now_ms: int
    route: Route
    number: int
    attempts: int
    error: str


@frozen
class ReadFailed:
    """The store of the sender has not answered."""

    now_ms: int
    route: Route


@frozen
class Recorded:
    """What has become of a row is stored.  `more`: the route has others that may be sent.

    `wait_ms`: in so many ms it may be sent again.
    """

    now_ms: int
    route: Route
    more: bool
    wait_ms: int | None = None


@frozen
class Drain:
    """Send no more."""

    now_ms: int


Event: TypeAlias = (
    Started
    | Noticed
    | TimerFired
    | Looked
    | LookFailed
    | Nothing
    | NotDue
    | Delivered
    | RefusedForGood
    | Failed
    | ReadFailed
    | Recorded
    | Drain
)

# -- effects


@frozen
class Deliver:
    """Load the first row of a route, and execute its command if it may be sent.  Report what came of it."""

    route: Route


@frozen
class Record:
    """Execute a command on the store of the sender."""

    route: Route
    command: Sent | SendRefused | SendFailed | LineUp
    more: bool


@frozen
class SetTimer:
    """Report TimerFired at this time.  It replaces the previous timer."""

    id: int
    at_ms: int


@frozen
class Finish:
    """The relay has finished."""


Effect: TypeAlias = Look | Deliver | Record | SetTimer | Finish
Outcome: TypeAlias = Stepped[State, Effect]
