"""Tests of imports and profiles that every store must pass.  Specs: specs/import.md, specs/profile.md."""

from __future__ import annotations

import pytest

from tenure.check.invariants import Rows, violations
from tenure.commands import ImportPage, NewProfile, Open, PageImported
from tenure.outcome import Refusal, Refused
from tenure.questions import LoadImport, Sessions
from tenure.questions.core import LoadTranscript
from tenure.records import Child, Fork, Phase

from .command_generator import PAGES, PROMISE
from .fixtures import ManualClock, Opener, asynchronous, prompt

__all__ = ["ImportConformance"]


RED = ("team", "red")


class ImportConformance:
    """A session is open only with all that was promised, and is found by what people know it by."""

    @pytest.fixture
    def opened(self) -> Opener:
        raise NotImplementedError("see StoreConformance")

    @asynchronous
    async def test_an_import_is_whole_or_not_open(self, opened: Opener) -> None:
        store = opened(ManualClock())
        await store.execute(Open("s", NewProfile(relation=Fork("t", None)), PROMISE))
        await store.execute(prompt("s", 1))
        sent = [
            ImportPage("s", at, PAGES[of]) for at, of in ((2, 1), (1, 0), (1, 0), (1, 1), (3, 2))
        ]

        answers = [await store.execute(page) for page in sent]
        shown = await store.ask(LoadTranscript("s"))
        due = await store.due(1)
        opening = [await store.execute(ImportPage("s", at, PAGES[at - 1])) for at in (2, 3, 3)]

        taken = PageImported(1, opened=False)
        reasons = [a.reason if isinstance(a, Refused) else a for a in answers]
        conflict, stale = Refusal.STAMP_CONFLICT, Refusal.STALE
        assert reasons == [stale, taken, taken, conflict, stale]
        assert (shown, due) == ((), ())
        whole = PageImported(3, opened=True)
        assert opening == [PageImported(2, opened=False), whole, whole]
        ids = [line.node.node_id for line in await store.ask(LoadTranscript("s"))]
        assert ids == ["asked", "called", "found", "told"]
        assert [found.session_id for found in await store.due(1)] == ["s"]
        progress = await store.ask(LoadImport("s"))
        assert progress is not None and progress.node_count == 4
        assert list(violations(await store.ask(Rows("s")))) == []

    @asynchronous
    async def test_sessions_are_found_by_what_people_know_them_by(self, opened: Opener) -> None:
        clock = ManualClock()
        store = opened(clock)
        profiles = {
            "d": NewProfile("first", (RED,)),
            "b": NewProfile("second", (RED, ("a", "\u00e9")), Child("d")),
            "c": None,
            "a": NewProfile("third", (("team", "blue"),), Fork("d", None)),
        }
        for name, profile in profiles.items():
            await store.execute(Open(name, profile))
            clock.now_ms += 1

        async def found(question: Sessions) -> list[str]:
            page = await store.ask(question)
            return [item.session.session_id for item in page.items]

        assert await found(Sessions()) == ["a", "b", "c", "d"]
        assert await found(Sessions(label=RED)) == ["d", "b"]
        assert await found(Sessions(label=("a", "\u00e9"), phase=Phase.OPEN)) == ["b"]
        assert await found(Sessions(label=RED, phase=Phase.RETIRED)) == []
        assert await found(Sessions(parent="d")) == ["b", "a"]
        assert await found(Sessions(newest=True)) == ["a", "b", "d"]
        page = await store.ask(Sessions(newest=True, limit=2))
        assert page.after is not None
        assert await found(Sessions(newest=True, after=page.after)) == ["d"]
