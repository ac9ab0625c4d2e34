"""Group commit: commands that wait become one transaction, and are answered after its commit.

A command that arrives while nothing else waits runs on its caller's thread, without a change of threads.  Otherwise a
thread forms groups.  There is no timer: while one group is written, the next one gathers.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from attrs import define

from tenure.outcome import Decided, Refused
from tenure.queries import Command, Query, Reads
from tenure.release import decide_at

from .base import Clock, Inconsistent, Unavailable
from .errors import TenureError

__all__ = [
    "GROUP_CHARACTERS_MAX",
    "GROUP_MAX",
    "Answer",
    "Busy",
    "Deferred",
    "GroupCommit",
    "NoEngineError",
    "Pending",
    "execute_wave",
    "execute_waves",
    "next_group",
    "undecided",
    "unwritten",
    "waves",
]


V = TypeVar("V")

log = logging.getLogger("tenure")

GROUP_MAX = 512
WHY_MAX = 400  # characters of an error in the reason of a quarantine
GROUP_CHARACTERS_MAX = 8_000_000  # STORE-44: a transaction of a group stays short
INLINE_S_MAX = (
    0.003  # after a slower transaction, commands go to the thread: they would block the event loop
)

DEFER_S_MAX = (
    15.0  # for a session that another process has locked: longer than a stopped process can hold it
)
DEFER_PAUSE_S = 0.002

Decision: TypeAlias = Decided[Any] | Refused
Answer: TypeAlias = Decision | Exception


class NoEngineError(Exception):
    """The engine error of stores without a database engine; never raised."""


class Busy(Exception):
    """Another connection has the lock, and the caller does not want to wait."""


class Deferred(Exception):
    """Not executed, because another process has locked the session; the command joins a later group, in order."""


class Tables(Protocol):
    """The records as a transaction sees them, with its own writes."""

    def answer(self, query: Query[Any], /) -> Any:
        """Answer one query."""
        ...

    def write(self, decisions: Sequence[Decided[Any]], /) -> None:
        """Apply the writes of decisions about different sessions.  Raises AssertionError or OverflowError for impossible writes."""
        ...


# -- load, decide, write


def execute_wave(
    tables: Tables,
    commands: Sequence[Command[Any, Any]],
    now_ms: int,
    active: int,
    engine_error: type[Exception],
) -> list[Answer]:
    """Execute commands of different sessions at one reading of the clock and of the active number.

    An exception while loading or deciding is the answer to that command alone, because nothing was written (`undecided`).
    Errors of the engine and all errors while writing are raised: the transaction must be rolled back.
    """
    answers: list[Answer] = []
    decisions: list[Decided[Any]] = []
    load = tables.answer
    for command in commands:
        try:
            decided = decide_at(active, command, load_view(load, command.reads()), now_ms)
        except engine_error:
            raise
        except Exception as error:
            answers.append(undecided(command, error))
            continue
        answers.append(decided)
        if decided.__class__ is Decided and decided.writes:
            decisions.append(decided)
    if decisions:
        tables.write(decisions)
    return answers


def undecided(command: Command[Any, Any], error: Exception) -> Exception:
    """Return what an error means that was raised while a command was loaded or decided (STORE-47)."""
    if isinstance(
        error, TenureError | UnicodeError
    ):  # a text of the command that cannot be encoded
        return error
    return _inconsistent(command, error)


def unwritten(command: Command[Any, Any], error: Exception) -> Exception:
    """Return what an error means that was raised when a command alone was written (STORE-47)."""
    if isinstance(error, AssertionError | ArithmeticError):
        return _inconsistent(command, error)
    return error


def _inconsistent(command: Command[Any, Any], error: Exception) -> Inconsistent:
    why = str(error) if isinstance(error, AssertionError) and str(error) else repr(error)
    found = Inconsistent(command.session_id, command.__class__.__name__, why[:WHY_MAX])
    found.__cause__ = error
    return found


def execute_waves(
    tables: Tables,
    commands: Sequence[Command[Any, Any]],
    clock: Clock,
    active: int,
    engine_error: type[Exception],
) -> list[Answer]:
    """Execute commands, several of one session too: each sees what the earlier ones wrote (STORE-13).

    The clock is read once for each wave.  Raises what `execute_wave` raises.
    """
    if len(commands) == 1:
        return execute_wave(tables, commands, clock(), active, engine_error)
    answers: list[Answer] = [Unavailable("not reached")] * len(commands)
    for wave in waves(commands):
        members = [commands[at] for at in wave]
        found = execute_wave(tables, members, clock(), active, engine_error)
        for at, answer in zip(wave, found, strict=True):
            answers[at] = answer
    return answers


def load_view(load: Callable[[Query[Any]], Any], wanted: Reads[V]) -> V:
    """Answer all queries of one command, and skip those whose counter in the first record is 0 (STORE-17)."""
    first, *rest = wanted.queries
    head = load(first)
    answers = [head]
    for query in rest:
        counted = getattr(query, "counted", None)
        if counted is None or (head is not None and getattr(head, counted)):
            answers.append(load(query))
        else:
            answers.append(())
    return wanted.view(*answers)


def waves(commands: Sequence[Command[Any, Any]]) -> list[list[int]]:
    """Split the positions into waves: no wave has a session twice, and each session keeps its order."""
    if len(commands) == 1:
        return [[0]]
    found: list[list[int]] = []
    depth: dict[str, int] = {}
    for position, command in enumerate(commands):
        at = depth.get(command.session_id, 0)
        depth[command.session_id] = at + 1
        if at == len(found):
            found.append([])
        found[at].append(position)
    return found


# -- commands that wait


@define(eq=False)
class Pending:
    """A command that waits for a group, and the future of its caller.

    `size` is the number of characters in the texts of the command.
    """

    command: Command[Any, Any]
    future: asyncio.Future[Decision]
    loop: asyncio.AbstractEventLoop
    size: int = 0
    deferred_at: float | None = None  # monotonic seconds; None: never


def urgent(command: object) -> bool:
    """Return True for a command that goes before others, such as a renewal."""
    return bool(getattr(command, "urgent", False))


def next_group(
    backlog: list[Pending], group_max: int, characters_max: int = GROUP_CHARACTERS_MAX
) -> tuple[list[Pending], list[Pending]]:
    """Split the backlog into the next group and the rest.

    Urgent commands come first, together with the earlier commands of their sessions.  A command whose texts are longer
    than `characters_max` is a group of its own (STORE-44).
    """
    last = {w.command.session_id: at for at, w in enumerate(backlog) if urgent(w.command)}
    if last:
        first = [at <= last.get(w.command.session_id, -1) for at, w in enumerate(backlog)]
        backlog = [w for w, h in zip(backlog, first, strict=True) if h] + [
            w for w, h in zip(backlog, first, strict=True) if not h
        ]
    count = _fitting(backlog, group_max, characters_max)
    return backlog[:count], backlog[count:]


def _fitting(backlog: list[Pending], group_max: int, characters_max: int) -> int:
    """Return how many of the first commands one group takes: at least one, if there is any."""
    size = 0
    for count, work in enumerate(backlog[:group_max]):
        size += work.size
        if count and size > characters_max:
            return count
    return min(len(backlog), group_max)


class GroupCommit:
    """Passes groups to `transact(commands, wait)`, one at a time, and answers their callers when it returns.

    `transact` is called with `engine` held and answers each command by position; Deferred puts a command into a later
    group.  If `wait` is False and another connection has the lock, it raises Busy before it does anything.
    `after_group` runs on the thread after each group, without `engine`.  If `has_no_peers` returns False, every command
    goes through the thread, so that `after_group` can leave a gap for other processes.
    """

    def __init__(
        self,
        transact: Callable[[Sequence[Command[Any, Any]], bool], Sequence[Answer]],
        *,
        name: str,
        engine: threading.Lock | None = None,
        after_group: Callable[[], None] = lambda: None,
        has_no_peers: Callable[[], bool] = lambda: True,
        group_max: int = GROUP_MAX,
    ) -> None:
        self.engine = engine or threading.Lock()
        self.groups = 0
        self.executed = 0
        self._transact = transact
        self._after_group = after_group
        self._has_no_peers = has_no_peers
        self._group_max = group_max
        self._name = name
        self._waiting: deque[Pending] = deque()
        self._backlog: list[Pending] = []
        self._flush_on: asyncio.AbstractEventLoop | None = None
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._slow = False
        self._closed = False
        self._finished = False  # closed, and what waited was finished

    # -- on the callers' threads

    def submit(self, command: Command[Any, Any], size: int = 0) -> asyncio.Future[Decision]:
        """Add a command to the next group; the future completes after the commit.

        `size` is the number of characters in its texts.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        self._waiting.append(Pending(command, future, loop, size))
        if self._flush_on is not loop:
            # Flush after all callbacks that are ready now, so that their commands join the same group.
            self._flush_on = loop
            loop.call_soon(self._flush)
        return future

    def run_now(self, command: Command[Any, Any]) -> Decision:
        """Execute a command on the caller's thread, in a transaction of its own, without an event loop."""
        since = time.monotonic()
        while True:
            with self.engine:
                answer = self._execute([command], True)[0]
            if isinstance(answer, Deferred):
                if time.monotonic() - since < DEFER_S_MAX:
                    time.sleep(DEFER_PAUSE_S)
                    continue
                raise Unavailable(str(answer))
            if isinstance(answer, Exception):
                raise answer
            return answer

    def close(self) -> None:
        """Execute the commands that wait; return when the thread has ended."""
        self._closed = True
        if self._waiting or self._backlog:
            self._wake()
        if self._thread is not None:
            self._wakes.put(True)
            self._thread.join()
        self._finished = True
        self._reject_waiting()

    def _flush(self) -> None:
        self._flush_on = None
        if not self._waiting:
            return
        if self._finished:
            self._reject_waiting()
        elif not (self._closed or self._inline()):  # `close` executes what waits
            self._wake()

    def _inline(self) -> bool:
        """Execute on this thread if one command waits and the engine is free; return True if nothing is left to do."""
        if len(self._waiting) > 1 or self._busy or self._slow or not self._has_no_peers():
            return False
        if not self.engine.acquire(blocking=False):
            return False
        try:
            work = self._waiting.popleft()
            answers = self._execute([work.command], False)
        except IndexError:  # the thread was faster
            return True
        except Busy:
            self._waiting.appendleft(work)
            return False
        finally:
            self.engine.release()
        (deliver if work.loop is asyncio.get_running_loop() else deliver_from_thread)(
            [work], answers
        )
        return True

    def _reject_waiting(self) -> None:
        """Answer Unavailable to commands that were submitted while the store was being closed."""
        while self._waiting:
            try:
                deliver_from_thread([self._waiting.popleft()], [Unavailable("the store is closed")])
            except IndexError:  # another thread was faster
                return

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name=self._name, daemon=True)
            self._thread.start()
        elif not self._busy:
            self._wakes.put(False)

    # -- on the writer's thread

    def _write(self) -> None:
        while True:
            self._busy = True
            while self._waiting or self._backlog:
                with self.engine:
                    group = self._take_group()
                    answers = self._execute([work.command for work in group], True)
                if any(isinstance(answer, Deferred) for answer in answers):
                    group, answers = self._defer(group, answers)
                deliver_from_thread(group, answers)
                self._finish_group()
            self._busy = False
            if self._waiting:  # submitted before `_busy` was reset, so without a wake-up
                continue
            if self._wakes.get():
                return

    def _finish_group(self) -> None:
        """Call `after_group`.  An error is logged: without this thread every later command would wait for ever."""
        try:
            self._after_group()
        except Exception:
            log.exception("%s: after a group", self._name)

    def _defer(
        self, group: Sequence[Pending], answers: Sequence[Answer]
    ) -> tuple[list[Pending], list[Answer]]:
        """Return deferred commands to the backlog and the others with their answers.

        A deferred command goes after all other sessions, and before the later commands of its own session.
        """
        now = time.monotonic()
        deferred: list[Pending] = []
        answered: list[tuple[Pending, Answer]] = []
        for work, answer in zip(group, answers, strict=True):
            if isinstance(answer, Deferred):
                work.deferred_at = work.deferred_at or now
                if now - work.deferred_at < DEFER_S_MAX:
                    deferred.append(work)
                    continue
                answer = Unavailable(str(answer))
            answered.append((work, answer))
        theirs = {work.command.session_id for work in deferred}
        self._backlog.sort(key=lambda work: work.command.session_id in theirs)
        ahead = sum(work.command.session_id not in theirs for work in self._backlog)
        self._backlog[ahead:ahead] = deferred
        if not answered:
            time.sleep(DEFER_PAUSE_S)
        return [work for work, _ in answered], [answer for _, answer in answered]

    def _take_group(self) -> list[Pending]:
        while self._waiting:
            self._backlog.append(self._waiting.popleft())
        group, self._backlog = next_group(self._backlog, self._group_max)
        return group

    def _execute(self, commands: Sequence[Command[Any, Any]], wait: bool) -> Sequence[Answer]:
        start = time.perf_counter()
        try:
            answers = self._transact(commands, wait)
        except Busy:
            raise
        except Exception as error:  # a bug must not leave callers waiting
            answers = [error] * len(commands)
        if len(commands) == 1:
            self._slow = time.perf_counter() - start > INLINE_S_MAX
        self.groups += 1
        self.executed += len(commands)
        return answers


def deliver(group: Sequence[Pending], answers: Sequence[Answer]) -> None:
    """Complete the futures, on the event loop of the callers.

    A cancelled caller gets no answer, although its command was executed.
    """
    for work, answer in zip(group, answers, strict=True):
        try:
            if isinstance(answer, Exception):
                work.future.set_exception(answer)
            else:
                work.future.set_result(answer)
        except asyncio.InvalidStateError:  # the caller was cancelled
            continue


def deliver_from_thread(group: Sequence[Pending], answers: Sequence[Answer]) -> None:
    """Call `deliver` on each event loop of the callers."""
    loops: dict[asyncio.AbstractEventLoop, tuple[list[Pending], list[Answer]]] = {}
    for work, answer in zip(group, answers, strict=True):
        works, theirs = loops.setdefault(work.loop, ([], []))
        works.append(work)
        theirs.append(answer)
    for loop, (works, theirs) in loops.items():
        try:
            loop.call_soon_threadsafe(deliver, works, theirs)
        except RuntimeError:  # that event loop is closed, so no caller waits
            continue
