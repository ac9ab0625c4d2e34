"""The digest of values is that of their canonical JSON, and a command of release 1 has none."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tenure.commands import Admit, Interrupt, NewInput
from tenure.outcome import Decided
from tenure.queries import Command
from tenure.records import ExecutedCommand
from tenure.release import RELEASE, decide_at
from tenure.transcript import Role, hash_parts
from tenure.world import EMPTY, World, evolve

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(Role)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(VALUES))
def test_a_digest_is_that_of_compact_sorted_json(parts: list[object]) -> None:
    text = json.dumps(parts, separators=(",", ":"), sort_keys=True)

    assert hash_parts(*parts) == "c1:" + hashlib.sha256(text.encode()).hexdigest()


def _decided(active: int, world: World, *commands: Command[Any, Any]) -> tuple[Any, World]:
    answer: Any = None
    for command in commands:
        answer = decide_at(active, command, world.load(command.reads()), 1_000)
        if isinstance(answer, Decided):
            world = evolve(world, answer.writes)
    return answer, world


def test_the_row_of_a_command_of_release_1_recognises_any_content() -> None:  # STORE-56
    """It has no digest, and a repetition after the upgrade must not be refused."""
    session = Admit("s", (NewInput("i", "prompt", "hello"),))
    _, world = _decided(1, EMPTY, session, Interrupt("s", "c"))
    (row,) = [each for each in world.all(ExecutedCommand) if each.command_id == "c"]
    again, _ = _decided(RELEASE, world, Interrupt("s", "c", NewInput("j", "prompt", "wait")))

    assert row.content_digest is None
    assert isinstance(again, Decided) and again.replayed
