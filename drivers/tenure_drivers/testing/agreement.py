"""A state machine for Hypothesis: several stores execute the same commands and must agree.

After every step each answer is compared with what the kernel decides over the `World`, and each store with the World,
record by record and query by query.  Groups hold a session more than once, and commands twice.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tenure.indexes import INDEXES
from tenure.queries import Chain, Command, First, Get, Index, Named, Query, Question
from tenure.records import Blob, BlobHolders, Frame, Node, Session
from tenure.world import EMPTY, World, columns_of, world_of

from ..stores.base import Clock, Due, Store
from .command_generator import CommandGenerator
from .fixtures import START_MS, ManualClock, Put, Steps, decided, executed, in_turn

Openers = Mapping[str, Callable[[Path, Clock], Store]]


class Answers(Question[tuple[Any, ...]]):
    """A question whose answer is the answers to some queries."""

    def __init__(self, queries: tuple[Query[Any], ...]) -> None:
        self.queries = queries

    def steps(self) -> Steps[tuple[Any, ...]]:
        found = []
        for query in self.queries:
            found.append((yield query))
        return tuple(found)


class Agreement(RuleBasedStateMachine):
    """Subclass it with `openers`: a name, and a function that opens that store in an empty folder."""

    openers: ClassVar[Openers] = {}

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tenure-agreement-"))
        self.clock = ManualClock()
        self.world: World = EMPTY
        self.runner = asyncio.Runner()
        self.stores: dict[str, Store] = {}
        for name in self.openers:
            (self.folder / name).mkdir()
            self.open(name)
        self.client: CommandGenerator | None = None

    def open(self, name: str) -> None:
        async def run() -> Store:
            return self.openers[name](self.folder / name, self.clock)

        self.stores[name] = self.runner.run(run())

    def teardown(self) -> None:
        try:
            for store in self.stores.values():
                self.runner.run(store.aclose())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    # -- rules

    @rule(data=st.data(), count=st.integers(1, 6), again=st.booleans(), wrong=st.booleans())
    def carry_out(self, data: st.DataObject, count: int, again: bool, wrong: bool) -> None:
        if self.client is None:
            self.client = CommandGenerator(lambda options: options[0])
        client = self.client
        client.pick = lambda options: data.draw(st.sampled_from(options))
        group = [client.send(self.clock.now_ms) for _ in range(count)]
        if again:
            group.append(group[0])
        if wrong:
            group.insert(len(group) // 2, Put("s1", "d", "left behind?", wrong=True))
        expected = dict[int, object]()
        for at in in_turn(group):
            expected[at], self.world = decided(self.world, group[at], self.clock.now_ms)
        for name, store in self.stores.items():
            answers = self.runner.run(self._gathered(store, group))
            for at, command in enumerate(group):
                assert answers[at] == expected[at], f"{name}: {command} of {group}"
        for at, command in enumerate(group):
            client.observe(command, expected[at])
        if wrong:  # an impossible decision has put its session into quarantine (STORE-47)
            for store in self.stores.values():
                self.runner.run(store.readmit("s1"))

    @rule(ms=st.sampled_from((1, 19, 21, 40, 61, 300, 5_000, -200)))
    def wait(self, ms: int) -> None:
        self.clock.now_ms += ms

    @rule()
    def reopen(self) -> None:
        for name, store in self.stores.items():
            if "reopen" in store.capabilities:
                self.runner.run(store.aclose())
                self.open(name)

    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """Ask random queries: any index, any prefix and position, both directions; chains of nodes; what rows name."""
        queries = (*[self._query(data) for _ in range(4)], self._chain(data), *self._named(data))
        expected = tuple([self.world.answer(query) for query in queries])
        for name, store in self.stores.items():
            assert self.runner.run(store.ask(Answers(queries))) == expected, f"{name}: {queries}"

    # -- invariants

    @invariant()
    def all_stores_hold_the_same_records(self) -> None:
        for name, store in self.stores.items():
            held = world_of(self.runner.run(store.dump()))
            assert held == self.world, f"{name}: {difference(held, self.world)}"

    @invariant()
    def all_stores_find_the_same_due_sessions(self) -> None:
        now_ms = self.clock.now_ms
        due, ahead = set(), list[int]()
        for session in self.world.all(Session):
            at_ms, from_ms = session.due_at_ms, session.lease_from_ms
            if at_ms is not None and at_ms <= now_ms:
                due.add(Due(session.session_id, at_ms))
            elif from_ms is not None and from_ms > now_ms:
                due.add(Due(session.session_id, now_ms))
            if at_ms is not None and at_ms > now_ms:
                ahead.append(at_ms)
        for name, store in self.stores.items():
            look = self.runner.run(self._looks(store))
            assert look == (due, min(ahead, default=None)), name

    # -- steps of the rules

    async def _gathered(self, store: Store, group: list[Command[Any, Any]]) -> list[object]:
        return await asyncio.gather(*[executed(store, command) for command in group])

    async def _looks(self, store: Store) -> object:
        return set(await store.due(100)), await store.horizon()

    def _query(self, data: st.DataObject) -> First[Any]:
        index: Index[Any] = data.draw(st.sampled_from(INDEXES))
        places = [p for p in map(columns_of(index), self.world.all(index.record)) if p is not None]
        queue_entry = data.draw(st.sampled_from(places or [()]))
        width = data.draw(st.integers(0, len(queue_entry)))
        behind = 0 if index.descending else data.draw(st.integers(0, len(queue_entry) - width))
        after = queue_entry[width : width + behind]
        limit = data.draw(st.integers(0, 4))
        return First(index, queue_entry[:width], limit, after, data.draw(st.booleans()))

    def _chain(self, data: st.DataObject) -> Chain[Any]:
        keys = [(node.session_id, node.node_id) for node in self.world.all(Node)]
        key = data.draw(st.sampled_from([*keys, ("s1", "nobody")]))
        return Chain(Node, key, "parent", data.draw(st.integers(0, 4)))

    def _named(self, data: st.DataObject) -> tuple[Named[Any], ...]:
        session = data.draw(
            st.sampled_from(["s1", *[s.session_id for s in self.world.all(Session)]])
        )
        frames = [f.frame_id for f in self.world.all(Frame) if f.session_id == session]
        row = Get(Session, (session,))
        frame = Get(Frame, (session, data.draw(st.sampled_from(["", *frames]))))
        return (
            *(Named(row, "frame_id", Frame), Named(row, "shared_digests", BlobHolders)),
            *(Named(frame, "digests", BlobHolders), Named(frame, "digests", Blob)),
        )


def difference(held: World, expected: World) -> str:
    """Return the records that one world has and the other lacks, in both directions."""
    more = [r for r in held if r not in expected.all(r.__class__)]
    less = [r for r in expected if r not in held.all(r.__class__)]
    return f"too much {more!r}, missing {less!r}"


__all__ = ["START_MS", "Agreement", "Answers", "Openers", "difference"]
