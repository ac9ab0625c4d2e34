"""What this release stores, and the stores of earlier releases: they are opened, read, worked on and exported."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from schema_fixture import known
from stored_forms import FIXTURES, stored_forms

from tenure.check.invariants import Rows, violations
from tenure.commands import Acquire, Acquired, Admit, Amend, NewInput
from tenure.failure import NATURES, ErrorKind, Failure
from tenure.machines.lease import Owner
from tenure.messages import Finish, Reply, ToolCall
from tenure.outcome import Decided, Refusal, Refused
from tenure.queries import Record
from tenure.questions.graph import FROM_THE_FIRST, Graph
from tenure.records import RECORDS, Node, Session
from tenure.release import OLDEST, RELEASE, decide_at, needs, reduced
from tenure.transcript import NewNode, Role
from tenure.upgrades import CHANGES
from tenure.world import world_of
from tenure_drivers import ChatAgent, Runtime, tool
from tenure_drivers.stores.base import Corrupt, SchemaTooOld, Store
from tenure_drivers.stores.export import exported, imported
from tenure_drivers.stores.files.reader import FilesReader
from tenure_drivers.stores.files.store import FilesStore
from tenure_drivers.stores.layout import check_active, layout_of
from tenure_drivers.stores.memory import MemoryStore
from tenure_drivers.stores.row_codec import table_of
from tenure_drivers.stores.sqlite.reader import SqliteReader
from tenure_drivers.stores.sqlite.store import SqliteStore

FINISHED = sorted(int(path.parent.name) for path in FIXTURES.glob("*/export.jsonl"))


# -- what a release stores


@pytest.mark.parametrize("release", range(1, RELEASE + 1))
def test_what_a_release_stores_is_what_its_list_says(release: int) -> None:
    """SCHEMA-9: something new needs the number of its release; something old stays."""
    path = FIXTURES / str(release) / "forms.txt"
    listed = set(path.read_text(encoding="utf-8").splitlines())
    found = set(stored_forms(release))
    more = "; ".join(sorted(found - listed))
    gone = "; ".join(sorted(listed - found))

    assert not more, (
        f"release {release} would store something new: give it the number of its release (`since`, `added`; "
        f"specs/schema.md), or if {release} is not finished, run tests/support/stored_forms.py --rewrite: {more}"
    )
    assert not gone, f"release {release} stores this, and always will: {gone}"


def test_every_change_of_rows_can_be_undone_and_is_counted() -> None:
    for record in RECORDS:
        changes = [c for c in CHANGES if c.table == table_of(record)]
        assert [c.version for c in changes] == list(range(2, record.version + 1))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_what_was_added_to_a_record_may_be_missing(record: type[Record]) -> None:
    nullable = {c.name for c in layout_of(RELEASE).codec(record).columns if c.nullable}

    assert set(record.added) <= nullable


# -- the numbers


def test_a_value_needs_the_release_that_added_its_class_field_or_member() -> None:
    @attrs.frozen
    class Old:
        added = {"more": 3}
        name: str
        more: int | None = None
        parts: tuple[object, ...] = ()

    @attrs.frozen
    class New:
        since = 5

    assert needs(Old("a")) == 1
    assert needs(Old("a", 7)) == 3
    assert needs(Old("a", None, (Old("b", 1), New()))) == 5
    assert needs(Admit("s", (NewInput("i", "prompt", "hello"),))) == 1


def test_an_ignorable_field_is_left_out_until_its_release_is_active() -> None:
    """SCHEMA-12."""

    @attrs.frozen
    class State:
        added = {"more": 3, "vital": 3}
        ignorable = ("more",)
        name: str
        more: int | None = None
        vital: int | None = None

    value = ((State("a", 1), State("b", None, 2)), State("c"))

    assert reduced(value, 3) is value
    old = reduced(value, 2)
    assert old == ((State("a"), State("b", None, 2)), State("c")) and old[1] is value[1]
    assert needs(old[0][0]) == 1 and needs(old[0][1]) == 3


def test_a_member_is_replaced_by_its_substitute_until_its_release_is_active() -> None:
    """SCHEMA-13."""
    value = (Failure(ErrorKind.STREAM_INTERRUPTED, "cut"), ErrorKind.TIMEOUT)

    assert reduced(value, 2) is value
    old = reduced(value, 1)
    assert old == (Failure(ErrorKind.UNAVAILABLE, "cut"), ErrorKind.TIMEOUT) and needs(old) == 1


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_failure_can_be_stored_in_every_release(kind: ErrorKind) -> None:
    """FAIL-18."""
    for release in range(1, RELEASE + 1):
        stored = reduced(kind, release)
        assert needs(stored) <= release and NATURES[stored] is NATURES[kind]


def test_a_command_that_needs_a_later_release_than_the_active_one_is_refused() -> None:
    """SCHEMA-3."""

    @attrs.frozen
    class Later(Admit):
        since = RELEASE

    command = Later("s", (NewInput("i", "prompt", "hello"),))
    view: Any = world_of(()).load(command.reads())

    allowed = decide_at(RELEASE, command, view, 1)
    refused = decide_at(RELEASE - 1, command, view, 1)

    assert isinstance(allowed, Decided)
    if RELEASE > 1:
        assert isinstance(refused, Refused) and refused.reason is Refusal.NOT_ACTIVE
        assert f"needs release {RELEASE}" in str(refused)


def test_an_active_number_that_is_too_low_is_refused_with_what_to_do() -> None:
    with pytest.raises(SchemaTooOld, match="works with 2 or newer: stop all workers, then run"):
        check_active(1, "the store", oldest=2)
    with pytest.raises(Corrupt, match="active release is 0"):
        check_active(0, "the store")
    assert OLDEST in (RELEASE - 1, 1)


# -- the stores of earlier releases


@pytest.fixture(params=FINISHED)
def fixtures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the fixtures of a release."""
    return Path(shutil.copytree(FIXTURES / str(request.param), tmp_path / "fixtures"))


@pytest.fixture(params=["files", "sqlite"])
def earlier(request: pytest.FixtureRequest, fixtures: Path) -> Iterator[Store]:
    """A store that an earlier release wrote, opened by this one."""
    if request.param == "files":
        store: Any = FilesStore(fixtures / "files")
    else:
        store = SqliteStore(fixtures / "store.sqlite")
    yield store
    store.close()


def test_all_rows_of_an_earlier_release_are_read_alike(fixtures: Path) -> None:
    """SCHEMA-8, SCHEMA-11."""
    lines = (fixtures / "export.jsonl").read_text(encoding="utf-8").splitlines()
    from_export = set(imported(lines))

    async def read() -> tuple[set[Record], set[Record]]:
        sqlite = SqliteReader(fixtures / "store.sqlite")
        files = FilesReader(fixtures / "files")
        try:
            return set(await sqlite.dump()), set(await files.dump())
        finally:
            sqlite.close()

    from_sqlite, from_files = asyncio.run(read())
    assert from_export == from_sqlite == from_files
    assert len(from_export) > 500
    assert {type(record) for record in from_export} >= set(layout_of(1).records)


def test_a_store_of_an_earlier_release_breaks_no_property(earlier: Store) -> None:
    async def broken() -> list[str]:
        found = []
        for record in await earlier.dump():
            if isinstance(record, Session):
                rows = await earlier.ask(Rows(record.session_id))
                found += [f"{record.session_id}: {each}" for each in violations(rows)]
        return found

    assert asyncio.run(broken()) == []


def test_commands_of_an_earlier_release_are_known(earlier: Store) -> None:
    """Their digests are what they were; so a client that repeats a request gets the old answer."""

    async def repeat() -> list[bool]:
        answers = [await earlier.decide(command) for _, command in known()]
        return [isinstance(answer, Decided) and answer.replayed for answer in answers]

    assert all(asyncio.run(repeat()))


def test_nodes_of_an_earlier_release_come_before_those_of_this_one(earlier: Store) -> None:
    """READ-2, READ-3."""

    async def graph(session_id: str) -> list[Node]:
        found: list[Node] = []
        after: tuple[int, str] | None = FROM_THE_FIRST
        while after is not None:
            page = await earlier.ask(Graph(session_id, after, 3, hidden=True))
            found, after = [*found, *page.nodes], page.after
        return found

    async def amended(session: Session) -> bool:
        name, owner = session.session_id, Owner("editor", "1")
        acquired = await earlier.execute(Acquire(name, "lease-of-2", owner))
        if not isinstance(acquired, Acquired):
            return False
        node = NewNode(Role.USER, "new")
        amend = Amend(name, "amend-of-2", acquired.fence, acquired.revision, (node, node))
        assert not isinstance(await earlier.execute(amend), Refused)
        return True

    async def read() -> int:
        rows = await earlier.dump()
        count = 0
        for session in [row for row in rows if isinstance(row, Session)]:
            old = [n for n in rows if isinstance(n, Node) and n.session_id == session.session_id]
            old.sort(key=lambda node: node.node_id)
            assert await graph(session.session_id) == old
            if old and await amended(session):
                count += 1
                *before, first, second = await graph(session.session_id)
                assert (before, first.seq, second.seq) == (old, 2, 3)
        return count

    assert asyncio.run(read()) > 0


def test_an_earlier_store_is_activated_when_it_is_opened_alone(earlier: Any) -> None:
    """SCHEMA-10."""
    assert earlier.active == RELEASE


def test_an_export_can_be_made_for_each_release_that_may_be_active(fixtures: Path) -> None:
    lines = (fixtures / "export.jsonl").read_text(encoding="utf-8").splitlines()
    records = list(imported(lines))

    for release in range(OLDEST, RELEASE + 1):
        assert set(imported(exported(records, release))) == set(records)


def test_a_store_in_memory_may_work_at_the_release_before() -> None:
    store = MemoryStore(active=OLDEST)

    answer = store.execute_now(Admit("s", (NewInput("i", "prompt", "hello"),)))

    assert not isinstance(answer, Refused)
    store.close()


# -- while the release before is active


class OneToolCall:
    """A model that calls the tool `look` once, and then answers with what it found."""

    model = "fake"

    async def complete(self, request: Any, emit: Any, key: str) -> Reply:
        last = request.messages[-1]
        if last.role is Role.TOOL:
            return Reply(f"found {last.text}")
        return Reply(calls=(ToolCall("call-1", "look", "{}"),), finish=Finish.TOOL_CALLS)


@tool
def look() -> int:
    return 12


async def worked_with_steps(turn: Any) -> str:
    async def double() -> int:
        return 2

    number = await turn.step("double", double)
    await turn.checkpoint()
    return f"{turn.text} {number}"


@pytest.mark.parametrize("release", [r for r in FINISHED if OLDEST <= r <= RELEASE])
def test_ordinary_work_does_not_wait_for_an_activation(release: int, tmp_path: Path) -> None:
    """SCHEMA-3, SCHEMA-12: what this release added is not used until then, and nothing else is refused."""
    path = Path(shutil.copy(FIXTURES / str(release) / "store.sqlite", tmp_path))

    async def work() -> None:
        store = SqliteStore(path, migrate="no")
        before = store.active
        async with Runtime(store, worked_with_steps) as runtime:
            receipts = await runtime.submit_many(
                "a",
                [
                    NewInput("1", "prompt", "one", key="k", supersession_key="slot"),
                    NewInput("2", "wake", "wake up"),
                    NewInput("3", "directive", "do this"),
                ],
            )
            answers = [(await receipt.ended(timeout=60)).answer for receipt in receipts]
            await runtime.interrupt("a", "two")
        async with Runtime(store, ChatAgent(OneToolCall(), [look])) as runtime:
            found = await (await runtime.submit("c", "How many?")).ended(timeout=60)
        assert answers == ["one 2", "wake up 2", "do this 2"] and found.answer == "found 12"
        assert store.active == before == release
        await store.aclose()

    asyncio.run(work())
