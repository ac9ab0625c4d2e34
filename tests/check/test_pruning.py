"""The small systems of a session that is pruned, and bugs that they find."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import frozen

from tenure.check import explore
from tenure.check.pruning import (
    NOT_AGAIN,
    STILL_KNOWN,
    SYSTEMS,
    TEXTS_GONE,
    PruneModel,
)
from tenure.check.session.frame_properties import FRAME_STATES
from tenure.check.session.pruning_properties import (
    NEVER_BACK,
    NOT_EMPTY,
    NOTHING_LIVE,
    ONLY_PUBLISHED,
)
from tenure.commands import amend, erasing, prunable, prune, prune_frames
from tenure.commands.prune_frames import PrunableFrames, prunable_frames
from tenure.commands.prune_hidden import prune_hidden
from tenure.frame import FrameStatus
from tenure.indexes import HIDDEN
from tenure.limits import COMMANDS_FOR_MS_MIN
from tenure.queries import First
from tenure.questions import retention as questions
from tenure.records import RECORDS, Node
from tenure.replace import replace
from tenure.retention import Keep, PruneKind, is_older, time_of

Patch = Callable[[pytest.MonkeyPatch], None]
BY_NAME = {system.name: system for system in SYSTEMS}


@pytest.fixture(autouse=True)
def without_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@frozen
class Bug:
    name: str
    system: str
    violates: tuple[str, ...]
    patch: Patch


def walk_again(kind: PruneKind, **changes: Any) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        changed = replace(prunable.WALKED[kind], **changes)
        monkeypatch.setitem(prunable.WALKED, kind, changed)

    return patch


def events_unpublished(patch: pytest.MonkeyPatch) -> None:
    for module in (prune, questions):
        patch.setattr(module, "events_until", lambda session, progress: session.next_event)


def no_horizon(patch: pytest.MonkeyPatch) -> None:
    def forgets(removal: prunable.Removal, id_: str) -> bool:
        return is_older(id_, removal.cut_ms)

    patch.setattr(prunable.Removal, "forgets", forgets)


def ids_without_a_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prunable, "time_of", lambda id_: time_of(id_) or 0)


def keys_forgotten(patch: pytest.MonkeyPatch) -> None:
    def remove(removal: prunable.Removal, named: prunable.Named) -> prunable.Verdict:
        given = removal.found.inputs.get(named.name)
        if given is not None and removal.found.queue_entries.get(named.name) is not None:
            removal.drop(given, removal.found.queue_entries[named.name])
        return prunable.Verdict.DONE

    walk_again(PruneKind.INPUTS, remove=remove)(patch)


def lease_forgotten(patch: pytest.MonkeyPatch) -> None:
    for module in (prune, questions):
        patch.setattr(module, "lease_of", lambda session: None)


def transcript_forgotten(patch: pytest.MonkeyPatch) -> None:
    def remove(removal: prunable.Removal, named: prunable.Named) -> prunable.Verdict:
        blind = replace(removal.found, runs={})
        removal.found = blind
        return prunable._remove_input(removal, named)

    walk_again(PruneKind.INPUTS, remove=remove)(patch)


def not_after_the_work(patch: pytest.MonkeyPatch) -> None:
    for module in (prune, questions):
        patch.setattr(module, "at_rest", lambda session: True)


def reports_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(erasing.ERASED, Node, lambda node: node)


def inputs_kept(patch: pytest.MonkeyPatch) -> None:
    first = next(iter(erasing.ERASED))
    patch.setitem(erasing.ERASED, first, lambda row: replace(row, payload=""))


def frames_found(found: Callable[..., PrunableFrames]) -> Patch:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (prune, questions):
            monkeypatch.setattr(module, "prunable_frames", found)

    return patch


def the_current_frame_too(rows: Any, keep: Keep, now_ms: int) -> PrunableFrames:
    left = [row if row.left_at_ms else replace(row, left_at_ms=0) for row in rows]
    superseded = [
        replace(row, status=FrameStatus.SUPERSEDED)
        for row in left
        if row.status is not FrameStatus.PRUNED
    ]
    return prunable_frames(superseded, keep, now_ms)


def frames_of_any_age(rows: Any, keep: Keep, now_ms: int) -> PrunableFrames:
    return prunable_frames(rows, Keep(0), now_ms)


def holders_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prune_frames, "count_holders", lambda *_: [])


def blobs_of_the_session(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prune_frames, "digests_of", lambda session: set())


def shared_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prune_frames, "_without_shared", lambda session, released: session)


def entered_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(amend, "check_switch", lambda *_: None)


def hidden_of_any_age(patch: pytest.MonkeyPatch) -> None:
    do = prune_hidden

    def wrong(progress: Any, nodes: Any, cut_ms: int) -> Any:
        return do(progress, nodes, cut_ms + COMMANDS_FOR_MS_MIN)

    patch.setattr(prune, "prune_hidden", wrong)
    patch.setattr(questions.NextPrune, "_hidden", _at_once)


def _at_once(self: Any, session: Any, progress: Any) -> Any:
    after = (progress.hidden_at_ms, progress.hidden_id)
    found = yield First(HIDDEN, (self.session_id,), 1, after)
    if not found or PruneKind.HIDDEN in self.without:
        return None, []
    return self._prune(PruneKind.HIDDEN, after=after[0], place=after[1]), []


def shown_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(amend, "refuse_hiding", lambda *_: None)


HELD = next(iter(FRAME_STATES))
BUGS = (
    Bug(
        "a stamp that is asked again is pruned",
        "prune",
        (NOTHING_LIVE, STILL_KNOWN),
        walk_again(PruneKind.STAMPS, keep=lambda policy: Keep(0)),
    ),
    Bug("events before the publisher's cursor", "prune", (ONLY_PUBLISHED,), events_unpublished),
    Bug("no horizon", "prune", (NOT_AGAIN,), no_horizon),
    Bug("an id without a time is forgotten", "prune-inputs", (NOT_AGAIN,), ids_without_a_time),
    Bug("a key is forgotten", "prune-inputs", (NOTHING_LIVE, NOT_AGAIN), keys_forgotten),
    Bug("the row of a held lease", "prune-inputs", (NOTHING_LIVE,), lease_forgotten),
    Bug("inputs of the transcript", "prune", (NOTHING_LIVE,), transcript_forgotten),
    Bug("rows before the work was swept", "destroyed", (NOTHING_LIVE,), not_after_the_work),
    Bug("the current frame", "prune-frames", (NOTHING_LIVE,), frames_found(the_current_frame_too)),
    Bug("a frame of any age", "prune-frames", (NOTHING_LIVE,), frames_found(frames_of_any_age)),
    Bug("holders are not let go", "prune-frames", (HELD,), holders_kept),
    Bug("a blob that the session names", "prune-frames", (HELD,), blobs_of_the_session),
    Bug("a blob is shared for ever", "prune-frames", (HELD,), shared_for_ever),
    Bug("a pruned frame is entered again", "prune-frames", (NEVER_BACK,), entered_again),
    Bug("a hidden node of any age", "prune-hidden", (NOTHING_LIVE,), hidden_of_any_age),
    Bug("a node without its body is shown", "prune-hidden", (NOT_EMPTY,), shown_again),
    Bug("origins are not erased", "erase", (TEXTS_GONE,), inputs_kept),
)


def test_every_record_is_erased_or_has_no_text() -> None:
    known = {*erasing.ERASED, *erasing.WITHOUT_TEXTS}

    assert known == set(RECORDS)
    assert not erasing.ERASED.keys() & set(erasing.WITHOUT_TEXTS)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_pruned_session_keeps_every_property(system: Any) -> None:
    explored = explore(PruneModel(system))

    assert explored.good, [trace.text() for trace in explored.traces()] or explored.unseen


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_explorer_finds_the_bug(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.patch(monkeypatch)

    explored = explore(PruneModel(BY_NAME[bug.system]), first_only=True)

    assert explored.broken, f"{bug.name} is not found"
    assert set(explored.broken) & set(bug.violates), list(explored.broken)
