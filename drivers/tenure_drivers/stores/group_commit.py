"""Group commit: what waits becomes one transaction; each command is decided alone; answers follow the commit.

A command that finds nobody else at work runs on its caller's thread, without a hop.  Otherwise one thread forms
groups: no timer, while one group is written the next gathers.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from attrs import define

from tenure.outcome import Decided, Refused
from tenure.queries import Command, Query, Reads

from .base import Clock, Unavailable

V = TypeVar("V")

GROUP_MAX = 512
INLINE_S_MAX = (
    0.003  # a transaction that took longer is not worth blocking an event loop to save a hop
)

PATIENCE_S = 15.0  # for a session that somebody else has: longer than a stopped process may have it
PUT_OFF_S = 0.002

Decision: TypeAlias = Decided[Any] | Refused
Answer: TypeAlias = Decision | Exception


class NoEngineError(Exception):
    """The engine error of stores that have no engine which could fail."""


class Busy(Exception):
    """Somebody else has the lock, and the caller did not want to wait."""


class Later(Exception):
    """Not done, for somebody else has the session: it comes with a later group, in its place."""


class Tables(Protocol):
    def answer(self, query: Query[Any], /) -> Any: ...

    def write(self, decisions: Sequence[Decided[Any]], /) -> None: ...


# -- load, decide, write: the only place that says so


def execute_wave(
    tables: Tables,
    commands: Sequence[Command[Any, Any]],
    now_ms: int,
    engine_error: type[Exception],
) -> list[Answer]:
    """Carry out commands of different sessions at one reading of the clock.

    An exception while loading or deciding is the answer of that command alone: it has written nothing.  Errors of the
    engine itself, and all while writing, are raised: the transaction must be rolled back.
    """
    answers: list[Answer] = []
    decisions: list[Decided[Any]] = []
    load = tables.answer
    for command in commands:
        try:
            decided = command.decide(load_view(load, command.reads()), now_ms)
        except engine_error:
            raise
        except Exception as error:
            answers.append(error)
            continue
        answers.append(decided)
        if decided.__class__ is Decided and decided.writes:
            decisions.append(decided)
    if decisions:
        tables.write(decisions)
    return answers


def execute_waves(
    tables: Tables,
    commands: Sequence[Command[Any, Any]],
    clock: Clock,
    engine_error: type[Exception],
) -> list[Answer]:
    """Execute commands, several of one session too: each sees what the earlier ones wrote (STORE-13).

    The clock is read once for each wave.  Raises what `execute_wave` raises.
    """
    answers: list[Answer] = [Unavailable("not reached")] * len(commands)
    for wave in waves(commands):
        members = [commands[at] for at in wave]
        found = execute_wave(tables, members, clock(), engine_error)
        for at, answer in zip(wave, found, strict=True):
            answers[at] = answer
    return answers


def load_view(load: Callable[[Query[Any]], Any], wanted: Reads[V]) -> V:
    """All answers of one command; what the first record counts none of is not looked for."""
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
    """Positions, split so that no wave holds a session twice and each session keeps its order."""
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


# -- what waits


@define(eq=False)
class Work:
    command: Command[Any, Any]
    future: asyncio.Future[Decision]
    loop: asyncio.AbstractEventLoop
    since: float | None = None  # when it was first put off


def urgent(command: object) -> bool:
    return bool(getattr(command, "urgent", False))


def form(backlog: list[Work], most: int) -> tuple[list[Work], list[Work]]:
    """Split what waits into the next group and the rest.

    Urgent commands come first, together with what their sessions sent before them.
    """
    last = {w.command.session_id: at for at, w in enumerate(backlog) if urgent(w.command)}
    if last:
        hurry = [at <= last.get(w.command.session_id, -1) for at, w in enumerate(backlog)]
        backlog = [w for w, h in zip(backlog, hurry, strict=True) if h] + [
            w for w, h in zip(backlog, hurry, strict=True) if not h
        ]
    return backlog[:most], backlog[most:]


class GroupCommit:
    """Feeds groups to `transact(commands, wait)`, one at a time, and answers when it has returned.

    `transact` is called with `engine` held, answers each command by position (Later puts it off), and raises Busy,
    before it has done anything, if it may not wait for a lock that somebody else has.  `between` runs on the thread
    after each group, without `engine`; where others wait for their turn (not `alone`), every command goes that way.
    """

    def __init__(
        self,
        transact: Callable[[Sequence[Command[Any, Any]], bool], Sequence[Answer]],
        *,
        name: str,
        engine: threading.Lock | None = None,
        between: Callable[[], None] = lambda: None,
        alone: Callable[[], bool] = lambda: True,
        most: int = GROUP_MAX,
    ) -> None:
        self.engine = engine or threading.Lock()
        self.groups = 0
        self.executed = 0
        self._transact = transact
        self._between = between
        self._alone = alone
        self._most = most
        self._name = name
        self._waiting: deque[Work] = deque()
        self._backlog: list[Work] = []
        self._flush_on: asyncio.AbstractEventLoop | None = None
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._awake = False
        self._slow = False
        self._closed = False
        self._over = False  # closed, and what waited was finished

    # -- on the callers' threads

    def submit(self, command: Command[Any, Any]) -> asyncio.Future[Decision]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        self._waiting.append(Work(command, future, loop))
        if self._flush_on is not loop:
            # Behind all that is ready to run now: whoever else submits in this round comes along.
            self._flush_on = loop
            loop.call_soon(self._flush)
        return future

    def run_now(self, command: Command[Any, Any]) -> Decision:
        """On the caller's thread, without an event loop."""
        since = time.monotonic()
        while True:
            with self.engine:
                answer = self._timed([command], True)[0]
            if isinstance(answer, Later):
                if time.monotonic() - since < PATIENCE_S:
                    time.sleep(PUT_OFF_S)
                    continue
                raise Unavailable(str(answer))
            if isinstance(answer, Exception):
                raise answer
            return answer

    def close(self) -> None:
        """Finish what waits; returns when the thread is gone."""
        self._closed = True
        if self._waiting or self._backlog:
            self._wake()
        if self._thread is not None:
            self._wakes.put(True)
            self._thread.join()
        self._over = True
        self._turn_away()

    def _flush(self) -> None:
        self._flush_on = None
        if not self._waiting:
            return
        if self._over:
            self._turn_away()
        elif not (self._closed or self._inline()):  # `close` sees to what waits, and may be at it
            self._wake()

    def _inline(self) -> bool:
        """Carry out what waits on this thread, if that is one command and nothing is in its way."""
        if len(self._waiting) > 1 or self._awake or self._slow or not self._alone():
            return False
        if not self.engine.acquire(blocking=False):
            return False
        try:
            work = self._waiting.popleft()
            answers = self._timed([work.command], False)
        except IndexError:  # the thread was faster
            return True
        except Busy:
            self._waiting.appendleft(work)
            return False
        finally:
            self.engine.release()
        (deliver if work.loop is asyncio.get_running_loop() else post)([work], answers)
        return True

    def _turn_away(self) -> None:
        """What came while the store was closed was not done."""
        while self._waiting:
            try:
                post([self._waiting.popleft()], [Unavailable("the store is closed")])
            except IndexError:  # another thread was faster
                return

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name=self._name, daemon=True)
            self._thread.start()
        elif not self._awake:
            self._wakes.put(False)

    # -- on the writer's thread

    def _write(self) -> None:
        while True:
            self._awake = True
            while self._waiting or self._backlog:
                with self.engine:
                    group = self._take()
                    answers = self._timed([work.command for work in group], True)
                if any(isinstance(answer, Later) for answer in answers):
                    group, answers = self._put_off(group, answers)
                post(group, answers)
                self._between()
            self._awake = False
            if self._waiting:  # came while we fell asleep, and saw us awake
                continue
            if self._wakes.get():
                return

    def _put_off(
        self, group: Sequence[Work], answers: Sequence[Answer]
    ) -> tuple[list[Work], list[Answer]]:
        """Keep who comes later, behind other sessions, before what its own sent since; return the others."""
        now = time.monotonic()
        kept: list[Work] = []
        answered: list[tuple[Work, Answer]] = []
        for work, answer in zip(group, answers, strict=True):
            if isinstance(answer, Later):
                work.since = work.since or now
                if now - work.since < PATIENCE_S:
                    kept.append(work)
                    continue
                answer = Unavailable(str(answer))
            answered.append((work, answer))
        theirs = {work.command.session_id for work in kept}
        self._backlog.sort(key=lambda work: work.command.session_id in theirs)
        ahead = sum(work.command.session_id not in theirs for work in self._backlog)
        self._backlog[ahead:ahead] = kept
        if not answered:
            time.sleep(PUT_OFF_S)
        return [work for work, _ in answered], [answer for _, answer in answered]

    def _take(self) -> list[Work]:
        while self._waiting:
            self._backlog.append(self._waiting.popleft())
        group, self._backlog = form(self._backlog, self._most)
        return group

    def _timed(self, commands: Sequence[Command[Any, Any]], wait: bool) -> Sequence[Answer]:
        start = time.perf_counter()
        try:
            answers = self._transact(commands, wait)
        except Busy:
            raise
        except Exception as error:  # nobody may wait for ever
            answers = [error] * len(commands)
        if len(commands) == 1:
            self._slow = time.perf_counter() - start > INLINE_S_MAX
        self.groups += 1
        self.executed += len(commands)
        return answers


def deliver(group: Sequence[Work], answers: Sequence[Answer]) -> None:
    """Answer on the loop of the callers.  A caller that was cancelled is not told; its command was carried out."""
    for work, answer in zip(group, answers, strict=True):
        try:
            if isinstance(answer, Exception):
                work.future.set_exception(answer)
            else:
                work.future.set_result(answer)
        except asyncio.InvalidStateError:  # cancelled, perhaps by a signal at this very instant
            continue


def post(group: Sequence[Work], answers: Sequence[Answer]) -> None:
    """`deliver` from another thread, once for each loop."""
    loops: dict[asyncio.AbstractEventLoop, tuple[list[Work], list[Answer]]] = {}
    for work, answer in zip(group, answers, strict=True):
        works, theirs = loops.setdefault(work.loop, ([], []))
        works.append(work)
        theirs.append(answer)
    for loop, (works, theirs) in loops.items():
        try:
            loop.call_soon_threadsafe(deliver, works, theirs)
        except RuntimeError:  # that loop is closed: nobody waits there
            continue
