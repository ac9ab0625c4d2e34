"""A process of one release on a store: `python release_child.py URL MIGRATE`, then one action in each line of its input.

It answers each line by a line of JSON.  The release is that of the sources on its path.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import attrs

from tenure.check.invariants import Rows, violations
from tenure.commands import Admit, Begin, Begun, Commit, NewInput
from tenure.machines.lease import Owner
from tenure.machines.run import Termination
from tenure.outcome import Decided, Refused
from tenure.questions.sessions import SessionRows
from tenure.records import Input, Node, Usage
from tenure.release import RELEASE
from tenure.transcript import NewNode, Role, UsageDelta
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.registry import find_migrator, open_store


def shown(answer: object) -> Any:
    if isinstance(answer, Refused):
        return {
            "refused": answer.reason.value,
            "clause": answer.clause,
            "detail": str(answer.detail),
        }
    if isinstance(answer, Decided):
        return {"outcome": repr(answer.outcome), "replayed": answer.replayed}
    return repr(answer)


class Child:
    """The actions, by name."""

    def __init__(self, url: str, migrate: str) -> None:
        options: dict[str, Any] = {"migrate": migrate}
        if url == "memory:":
            options = {"active": int(migrate)}
        elif url.startswith("postgresql"):
            options = {}
        self.url = url
        self.store: Any = open_store(url, **options)

    async def active(self) -> Any:
        return self.store.active

    async def turn(self, session: str, at: str) -> Any:
        """One finished turn with one request of usage; `at` makes its ids."""
        answer = await self.store.execute(Admit(session, (NewInput(f"i-{at}", "prompt", "hello"),)))
        if isinstance(answer, Refused):
            return shown(answer)
        begun = await self.store.execute(
            Begin(session, f"l-{at}", f"r-{at}", Owner("child", at), 60_000)
        )
        if not isinstance(begun, Begun):
            return shown(begun)
        commit = Commit(
            *(session, begun.fence, begun.run_id, begun.turn, 0),
            *(begun.revision, Termination.FINISHED),
            nodes=(NewNode(Role.ASSISTANT, f"answer {at}"),),
            usage=(UsageDelta("model", "m", 1, 2, 3),),
        )
        return shown(await self.store.decide(commit))

    async def note(self, session: str, at: str) -> Any:
        """An input with the field of the next release."""
        new = NewInput(f"n-{at}", "prompt", "hello", note=f"note {at}")  # type: ignore[call-arg]
        return shown(await self.store.decide(Admit(session, (new,))))

    async def mood(self, session: str, at: str) -> Any:
        """An input with the ignorable field of the next release; return what is stored of it."""
        new = NewInput(f"m-{at}", "prompt", "hello", mood="good")  # type: ignore[call-arg]
        answer = await self.store.execute(Admit(session, (new,)))
        rows = [r for r in await self.store.dump() if isinstance(r, Input)]
        (stored,) = [row.mood for row in rows if row.input_id == f"m-{at}"]  # type: ignore[attr-defined]
        return shown(answer) if isinstance(answer, Refused) else stored

    async def notes(self, session: str) -> Any:
        from tenure.commands.bookmark import Notes  # type: ignore[import-not-found]

        return [found.note for found in await self.store.ask(Notes(session))]

    async def bookmark(self, session: str, name: str) -> Any:
        from tenure.commands.bookmark import SetBookmark

        return shown(await self.store.decide(SetBookmark(session, name, "a note")))

    async def bookmarks(self, session: str) -> Any:
        from tenure.commands.bookmark import Bookmarks

        return [found.name for found in await self.store.ask(Bookmarks(session))]

    async def usage(self, session: str) -> Any:
        rows = [r for r in await self.store.dump() if isinstance(r, Usage)]
        return [row.requests for row in rows if row.session_id == session]

    async def check(self) -> Any:
        """The violations in all sessions; reads every row."""
        await self.store.dump()
        found: list[str] = []
        after = ""
        while page := await self.store.ask(SessionRows(after)):
            for session in page:
                found += map(str, violations(await self.store.ask(Rows(session.session_id))))
            after = page[-1].session_id
        return [*found, *[aside.reason for aside in await self.store.quarantined()]]

    async def answers(self) -> Any:
        """How often each answer of an agent stands in a transcript."""
        nodes = [r for r in await self.store.dump() if isinstance(r, Node)]
        return sorted(node.body for node in nodes if node.role is Role.ASSISTANT)

    async def due(self) -> Any:
        return len(await self.store.due(10))

    async def known(self) -> Any:
        """Repeat the commands of the session `known` of the fixtures."""
        from schema_fixture import known

        answers = [await self.store.decide(command) for _, command in known()]
        return [isinstance(a, Decided) and a.replayed for a in answers]

    async def numbers(self) -> Any:
        migrator = find_migrator(self.url)
        return None if migrator is None else attrs.astuple(migrator.numbers())

    async def work(self) -> None:
        """Run turns until the process is killed, or until this release may not work any more."""

        async def agent(turn: Any) -> str:
            async def slow() -> str:
                await asyncio.sleep(0.01)
                return "once"

            await turn.step("slow", slow)
            return f"answer to {turn.text}"

        async with Runtime(self.store, agent, ttl_ms=1_500, sessions_at_once=4):
            print(json.dumps("working"), flush=True)
            while self.store.active <= RELEASE:
                await asyncio.sleep(0.05)
                try:
                    await self.store.due(1)
                except Exception as error:
                    if type(error).__name__ == "SchemaTooNew":
                        print(json.dumps("SchemaTooNew"), flush=True)
                        os._exit(4)


CHANGING = ("ALTER", "COMMIT", "CREATE", "DROP", "INSERT", "PRAGMA user_version=", "UPDATE")


def dying_at(at: int) -> Callable[[str], None]:
    """Return a hook for statements that ends the process before the changing one with number `at`."""
    count = 0

    def before(statement: str) -> None:
        nonlocal count
        count += statement.startswith(CHANGING)
        if count > at:
            os._exit(9)

    return before


def migrate_and_die(url: str, at: int) -> None:
    """Migrate and activate, and die before the changing statement with number `at`."""
    if url.startswith("postgresql"):
        from tenure_drivers.stores.postgres.connection import Connection

        real, before = Connection.run, dying_at(at)

        def run(self: Any, statements: Any) -> Any:
            before(next((text for text, _ in statements if text.startswith(CHANGING)), ""))
            return real(self, statements)

        Connection.run = run  # type: ignore[method-assign]
    else:
        from tenure_drivers.stores.sqlite import schema as module

        schema: Any = module

        connect, before = schema.connect_with, dying_at(at)

        def connected(path: Any, mode: str) -> Any:
            connection = connect(path, mode)
            connection.set_trace_callback(before)
            return connection

        schema.connect_with = connected
    migrator = find_migrator(url)
    assert migrator is not None
    migrator.migrate(lambda line: None)
    migrator.activate()


def migrate_in_children() -> None:
    """Read lines of a URL and a number, run `migrate_and_die` in a fork for each, and print its exit code."""
    print(json.dumps("ready"), flush=True)
    while line := sys.stdin.readline():
        url, at = line.split()
        child = os.fork()
        if not child:
            code = 1
            try:
                migrate_and_die(url, int(at))
                code = 0
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


async def main(url: str, migrate: str) -> None:
    try:
        child = Child(url, migrate)
    except Exception as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
        return
    print(json.dumps({"release": RELEASE, "active": child.store.active}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, *arguments = line.split()
        try:
            answer = await getattr(child, name)(*arguments)
        except Exception as error:
            answer = {"error": type(error).__name__, "text": str(error)}
        print(json.dumps(answer), flush=True)
    await child.store.aclose()


if __name__ == "__main__":
    if sys.argv[1] == "migrate":
        migrate_in_children()
    else:
        asyncio.run(main(*sys.argv[1:]))
