"""The turn model is explored completely: pinned numbers of states, properties, and mutants that violate them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from tenure.check.explorer import Explored, explore
from tenure.check.turn.model import CONFIGS, ModelConfig, TurnModel
from tenure.check.turn.properties import unanswered
from tenure.messages.types import Message, ToolCall
from tenure.transcript import Role
from tenure.turn import approvals, loop, parking, protocol, states, tool_calls

PINNED = {
    "batch": (808, 1106),
    "order": (347, 417),
    "probe": (443, 533),
    "cancel": (464, 617),
    "deadline": (357, 417),
    "both": (151, 208),
    "change": (1277, 1620),
    "all": (8823, 12931),
    "outage": (158, 165),
    "overflow": (86, 90),
    "strange": (263, 328),
    "steering": (923, 1133),
    "steering-stop": (687, 937),
    "approval": (568, 635),
    "approvals": (4259, 4707),
    "approval-stop": (1337, 2090),
    "approval-remembered": (3104, 3492),
    "limit": (88, 92),
}


@functools.cache
def searched(name: str) -> tuple[Explored, frozenset[str]]:
    """Explore a configuration once in this process.  Return the result and the clauses that fired."""
    model = TurnModel(config_of(name))
    return explore(model, 100_000), frozenset(model.fired)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_a_turn_is_legal_after_a_crash_at_every_point(config: ModelConfig) -> None:
    found, _ = searched(config.name)

    assert found.broken == {}, "\n".join(trace.text() for trace in found.traces())
    assert found.stuck is None, found.stuck.text()
    assert found.unseen == ()
    assert found.complete
    assert (found.states, found.transitions) == PINNED[config.name]


def test_every_row_fires() -> None:
    """Rows for models and journals that break the rules fire in tests/kernel/test_turn.py."""
    rows = {row.clause for row in loop_rules()}
    fired = frozenset[str]().union(*[searched(config.name)[1] for config in CONFIGS])

    assert rows - fired <= {"TURN-2", "TURN-4", "TURN-22", "TURN-24"}


def loop_rules() -> Any:
    from tenure.turn.machine import RULES

    return RULES.rows


# -- mutants


def config_of(name: str) -> ModelConfig:
    return next(each for each in CONFIGS if each.name == name)


def begin_unmarked(core: Any, batch: Any) -> Any:
    """Begin once calls without a mark."""
    effects: list[Any] = []
    for index, slot in enumerate(batch.slots):
        if isinstance(slot.stage, states.Waiting):
            batch = batch.put(index, states.Running(slot.stage.attempt))
            effects.append(tool_calls.run(core, index, slot, slot.stage.attempt))
    return batch, tuple(effects)


def forget_starts(original: Callable[..., Any]) -> Callable[..., Any]:
    """Forget which calls were started."""

    def stage(core: Any, index: int, call: Any, calls: int, written: Any) -> Any:
        found = original(core, index, call, calls, written)
        unknown = isinstance(found, states.Reported) and found.unknown and not found.recorded
        return states.Waiting() if unknown or isinstance(found, states.Probing) else found

    return stage


def clear_at_once(core: Any, batch: Any, index: int) -> Any:
    """Ask nobody."""
    return batch, ()


def reject_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Run a call whatever was decided."""

    def decide(core: Any, call: Any, calls: int, settled: Any, attempt: int = 1) -> Any:
        return states.Slot(call, states.Waiting(attempt, cleared=True), settled)

    return decide


def hold_results_back(original: Callable[..., Any]) -> Callable[..., Any]:
    """Park without the results behind calls that wait."""

    def park(core: Any, batch: Any) -> Any:
        core, batch, effect = original(core, batch)
        wait = evolve(effect.wait, record=evolve(effect.wait.record, nodes=()))
        return core, batch, evolve(effect, wait=wait)

    return park


def close_nothing(core: Any, batch: Any, why: Any) -> tuple[()]:
    """Leave all open calls to the kernel."""
    return ()


def reverse_order(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda batch: tuple(reversed(original(batch)))


@pytest.mark.parametrize(
    ("module", "name", "mutant", "config", "broken"),
    [
        (loop, "launch", begin_unmarked, "batch", "a once call takes effect after its mark"),
        (
            tool_calls,
            "_stage",
            forget_starts(tool_calls._stage),
            "batch",
            "a once call takes effect at most once",
        ),
        (
            loop,
            "taken_before",
            lambda core: (),
            "steering",
            "a request tells each input that was taken once",
        ),
        (
            states.Core,
            "append_inputs",
            lambda core, inputs: core,
            "steering",
            "a request tells each input that was taken once",
        ),
        (
            tool_calls,
            "_writable",
            reverse_order(tool_calls._writable),
            "all",
            "results are in the order of their calls",
        ),
        (
            tool_calls,
            "begin_approval",
            clear_at_once,
            "approval",
            "a call runs after its approval",
        ),
        (
            tool_calls,
            "decide",
            reject_nothing(approvals.decide),
            "approval",
            "a call runs after its approval",
        ),
        (
            loop,
            "park",
            hold_results_back(parking.park),
            "approvals",
            "a run that waits has the results of all calls that were not asked about",
        ),
    ],
)
def test_a_mutant_breaks_its_property(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutant: Any, config: str, broken: str
) -> None:
    monkeypatch.setattr(module, name, mutant)

    found = explore(TurnModel(config_of(config)), 100_000, first_only=True)

    assert broken in found.broken


def test_the_kernel_closes_calls_that_a_mutant_leaves_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "closings", close_nothing)

    found = explore(TurnModel(config_of("cancel")), 100_000)

    assert "every call has one result when the run has ended" not in found.broken


def test_missing_and_excess_results_are_found() -> None:
    call = Message(Role.ASSISTANT, calls=(ToolCall("a", "t", "{}"), ToolCall("b", "t", "{}")))
    a, b = (Message(Role.TOOL, call_id=each) for each in "ab")
    user = Message(Role.USER)

    assert list(unanswered([user, call, b, a, user])) == []
    assert len(list(unanswered([call, a, user]))) == 1
    assert len(list(unanswered([call, a, a, b]))) == 1
    assert len(list(unanswered([a]))) == 1
    assert len(list(unanswered([call]))) == 1


def test_a_trace_names_actors_and_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "launch", begin_unmarked)
    found = explore(TurnModel(config_of("batch")), 100_000, first_only=True)

    (trace, *_) = found.broken.values()

    assert "worker: begin" in trace.text() and protocol.RunTool.__name__ in trace.text()
