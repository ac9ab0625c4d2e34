"""The turn machine: every row in small domains, a scenario for each clause, and a replay of every journal prefix."""

from __future__ import annotations

import functools
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paths import SPECS
from turn_play import (
    BUY,
    ENVIRONMENT,
    ONE,
    TOOLS,
    Play,
    calling,
    entering,
    paid,
    play,
    prompt,
    saying,
    script,
)

from tenure.check.turn.model import CONFIGS, State, TurnModel
from tenure.failure import ErrorKind, Failure
from tenure.frame import Switch
from tenure.machines.run import Termination
from tenure.machines.ticket import Action, Settled
from tenure.messages.codec import decode, from_json, node_of
from tenure.messages.types import (
    Approval,
    Disposition,
    Finish,
    Message,
    Reply,
    Request,
    RetryPolicy,
    Tool,
    ToolCall,
)
from tenure.outcome import Refusal, Refused
from tenure.records import EntryKind
from tenure.replace import replace
from tenure.transcript import Role, UsageDelta, hash_text
from tenure.turn import chat_policy, environment, protocol
from tenure.turn import machine as turn
from tenure.turn.chat_policy import CALLS_MAX
from tenure.turn.ending import UNKNOWN
from tenure.turn.states import AwaitingModel, AwaitingTools, Core, Finished, Running, Slot
from tenure.turn_end import TurnEnd

SPEC = SPECS / "turn.md"
APPROVALS = ("approval", "approval-stop", "approval-remembered")

# -- every case


@functools.cache
def reached() -> tuple[turn.State, ...]:
    """Return the states of the machine that the explored models reach."""
    found: dict[turn.State, None] = {}
    for setting in CONFIGS:
        if setting.name not in (
            "probe",
            "both",
            "limit",
            "strange",
            "outage",
            "overflow",
            *APPROVALS,
        ):
            continue
        model = TurnModel(setting)
        seen: dict[State, None] = dict.fromkeys(model.initial())
        work = list(seen)
        while work:
            for _, after in model.actions(work.pop()):
                if after not in seen:
                    seen[after] = None
                    work.append(after)
                    if after.machine is not None:
                        found[after.machine] = None
    return tuple(found)


def keys_of(state: turn.State) -> Iterator[str]:
    core: Core = state.core
    yield from (core.key(kind) for kind in ("environment", "model", "record"))
    yield core.key("model", 1)
    yield from (core.key("tool", index) for index in (0, 1, 7, "00", "x"))
    yield from (core.key("record", core.records - 1), "r:1:9:model:0")
    yield "nonsense"


def events(state: turn.State) -> Iterator[protocol.Event]:
    result, failure = protocol.ToolResult("ok"), Failure(ErrorKind.TRANSIENT)
    busy = protocol.ToolResult("busy", is_error=True, retryable=True)
    yield from (protocol.Begin(), protocol.CancelSeen(), protocol.DeadlinePassed())
    yield protocol.CommitSteered()
    for key in keys_of(state):
        yield protocol.EnvironmentReady(key, ENVIRONMENT)
        yield protocol.EnvironmentFailed(key, failure)
        yield protocol.ModelFailed(key, failure)
        yield protocol.ModelFailed(key, Failure(ErrorKind.CONTEXT_OVERFLOW))
        for finish in Finish:
            for reply in (
                Reply("hi"),
                Reply("", (ToolCall("c", "pay", "{}"),)),
                Reply(refusal="no"),
            ):
                yield protocol.ModelReplied(key, replace(reply, finish=finish))
        for attempt in (1, 2):
            yield protocol.ToolReported(key, attempt, result)
            yield protocol.ToolReported(key, attempt, busy)
            yield protocol.RetryDue(key, attempt)
        yield protocol.Probed(key, result)
        yield protocol.Probed(key, None)
        for question in (None, "may I?"):
            yield protocol.ApprovalChecked(key, "t9", question)
        for how in (Action.APPROVE, Action.REJECT):
            yield protocol.TicketsSettled(key, (("t1-tool-0", Settled(how)),))
        yield protocol.Recorded(key)
        yield protocol.Recorded(key, (entering("s", "shorter"),))
        for reason in (Refusal.CANCELLED, Refusal.ILLEGAL, Refusal.STALE):
            yield protocol.NotRecorded(key, Refused(reason, "X-1"))


def enabled(state: turn.State, event: protocol.Event) -> list[str]:
    """Return the clauses that answer an event.  If there is not exactly one, the rules have a gap or an overlap."""
    if isinstance(event, turn.REPORTS) and not turn.is_awaited(state, event):
        return ["TURN-60"]
    return [row.clause for row in turn.RULES.enabled(*turn.classify(state, event))]


def test_the_domain_has_every_state() -> None:
    assert {state.__class__ for state in reached()} == set(turn.State.__args__) - {turn.Preparing}


def test_exactly_one_row_is_enabled_in_every_case() -> None:
    states = [*reached(), *extra_states()]
    wrong = [
        (state, event, clauses)
        for state in states
        for event in events(state)
        if len(clauses := enabled(state, event)) != 1
    ]

    assert wrong[:3] == []


def test_every_case_returns_a_state_or_is_stale() -> None:
    for state in reached():
        for event in events(state):
            outcome = turn.step(state, event)
            if isinstance(outcome, Refused):
                assert (outcome.reason, outcome.clause) == (Refusal.STALE, "TURN-60")


def commented() -> list[set[str]]:
    """Return for each row of the table the states that its comment names."""
    source = Path(turn.__file__).read_text(encoding="utf-8")
    comments = re.findall(r"^    Row\(.*\),  +# (.+)$", source, re.MULTILINE)
    names = [state.__name__ for state in turn.State.__args__]
    return [set(names[2:]) if text == "any" else set(text.split(" | ")) for text in comments]


def test_the_comment_of_a_row_names_the_states_that_follow() -> None:
    followers: list[set[str]] = [set() for _ in turn.RULES.rows]
    for state in (*reached(), *extra_states()):
        for event in events(state):
            outcome = turn.step(state, event)
            if not isinstance(outcome, Refused):
                (row,) = turn.RULES.enabled(*turn.classify(state, event))
                followers[turn.RULES.rows.index(row)].add(outcome.state.__class__.__name__)

    wrong = [
        (row.clause, row.state.__name__, row.command.__name__, comment, found)
        for row, comment, found in zip(turn.RULES.rows, commented(), followers, strict=True)
        if comment != found
    ]
    assert wrong == [], "\n".join(map(repr, wrong))


def extra_states() -> list[turn.State]:
    """Return states that the explored models do not reach: retries, warnings, final values, changed environments.

    A list, because states with different journals are equal.
    """
    retries = script(calling(("a", "look"), ("b", "pay")), saying("x"))
    warned, final = script(calling(("a", "look"))), script(calling(("b", "answer")))
    found: list[turn.State] = [mutilated(play(retries), "a body that is none").prepare()]
    for model, use, iterations_max in ((retries, busy(2), 5), (warned, paid, 1), (final, paid, 5)):
        for used in (ENVIRONMENT, replace(ENVIRONMENT, system="be long")):
            limits = protocol.Limits(iterations_max=iterations_max)
            played = Play(model, use=use, environment=used, limits=limits)
            found += visited(played)
            for checkpoints in range(played.checkpoints + 1):
                again = cut(played, checkpoints)
                again.environment = ENVIRONMENT
                found += visited(again)
                again.strict = True
                found += visited(again)
    return found


def visited(played: Play) -> list[turn.State]:
    """Execute a turn.  Return its states, and those of the same turn while it stops."""
    found: list[turn.State] = [played.prepare()]
    played.begin()
    while played.effects:
        assert played.state is not None
        found.append(played.state)
        outcome = turn.step(played.state, protocol.CancelSeen())
        assert not isinstance(outcome, Refused)
        found.append(outcome.state)
        played.go(1)
    return found


# -- scenarios: beginning and ending


def test_a_reply_is_classified_once_and_an_environment_described_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = Counter[str]()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            counts[name] += 1
            return function(*args)

        return counted

    monkeypatch.setattr(chat_policy, "classify_reply", count("replies", chat_policy.classify_reply))
    monkeypatch.setattr(environment, "describe", count("environments", environment.describe))
    play(script(calling(("a", "look")), saying("42")))

    assert counts == {"replies": 2, "environments": 1}


def test_a_question_is_answered_in_one_commit() -> None:  # TURN-1, TURN-3, TURN-20
    played = play(script(saying("42")))

    assert played.entries == []
    assert isinstance(played.last, TurnEnd) and played.last.termination is Termination.FINISHED
    assert played.texts == ["assistant: 42"] and played.usage == [ONE]
    assert played.clauses == ["TURN-1", "TURN-3", "TURN-20"]


def test_calls_are_recorded_before_they_run_and_results_after_them() -> None:  # TURN-9, TURN-39
    played = play(script(calling(("a", "pay"), ("b", "look")), saying("done")))

    assert played.texts == ["assistant: ", "tool: pay a", "tool: look b", "assistant: done"]
    assert [(e.kind, e.effect_id) for e in played.entries if e.kind is not EntryKind.NODE] == [
        (EntryKind.REPORT, "1:model:0"),
        (EntryKind.START, "1:tool:0"),
    ]  # TURN-5, TURN-21, TURN-32: a result's node is its report


def test_an_environment_that_cannot_be_prepared_fails_the_turn() -> None:  # TURN-2
    played = Play(script(saying("x"))).begin()
    key = played.take(protocol.PrepareEnvironment).key
    failure = Failure(ErrorKind.UNKNOWN_AGENT, "who?")

    played.feed(protocol.EnvironmentFailed(key, failure))

    assert played.effects[-1] == protocol.Fail(failure)


def test_a_failed_model_call_fails_the_run_and_counts_its_usage() -> None:  # TURN-23
    played = Play(script(saying("x"))).begin().go(until=protocol.CallModel)
    failure = Failure(ErrorKind.RATE_LIMITED, "slow down", 5_000)

    played.feed(protocol.ModelFailed(played.take(protocol.CallModel).key, failure, (ONE, ONE)))

    both = UsageDelta("turn", "m", 2, 20, 2)
    assert played.effects[-1] == protocol.Fail(failure, (both,))


OVERFLOW = Failure(ErrorKind.CONTEXT_OVERFLOW, "too long")


def test_a_request_that_does_not_fit_is_shortened_and_sent_once_more() -> None:  # TURN-25
    long = protocol.ToolResult("x" * 1_000)
    played = Play(script(calling(("a", "look")), saying("x")), use=lambda *_: long)
    played.begin().go(6).go(until=protocol.CallModel)
    first = played.take(protocol.CallModel)

    played.feed(protocol.ModelFailed(first.key, OVERFLOW))

    second = played.take(protocol.CallModel)
    assert (first.budget, second.budget) == (None, (2 + 4 + 2 + 1_000) // 2)
    assert (first.key, second.key) == ("r:1:2:model:0", "r:1:2:model:1")
    assert second.request == first.request
    assert isinstance(played.feed(protocol.ModelFailed(first.key, OVERFLOW)), Refused)
    played.feed(protocol.ModelReplied(second.key, saying("short")))
    assert played.go().texts[-1] == "assistant: short"


def test_later_requests_of_the_turn_are_shortened_from_the_start() -> None:  # TURN-25
    played = Play(script(calling(("a", "look")), saying("x")))
    played.begin().go(until=protocol.CallModel)
    played.feed(protocol.ModelFailed(played.take(protocol.CallModel).key, OVERFLOW))
    played.go(1).go(until=protocol.CallModel)

    third = played.take(protocol.CallModel)
    played.feed(protocol.ModelFailed(third.key, OVERFLOW))

    assert (third.key, third.budget) == ("r:1:2:model:0", 1)
    assert played.take(protocol.CallModel).budget == 0


@pytest.mark.parametrize("shortens", [True, False])
def test_a_request_that_never_fits_fails_and_says_so(shortens: bool) -> None:  # TURN-26
    played = Play(script(saying("x")), limits=protocol.Limits(shortens=shortens))
    played.begin().go(until=protocol.CallModel)
    while played.effects:
        if not isinstance(played.effects[0], protocol.CallModel):
            played.go(1)
            continue
        played.feed(protocol.ModelFailed(played.take(protocol.CallModel).key, OVERFLOW, (ONE,)))

    assert isinstance(played.last, protocol.Fail)
    assert played.last.failure.kind is ErrorKind.CONTEXT_OVERFLOW
    said = "the request does not fit the context, also shortened to 1 characters: " * shortens
    assert played.last.failure.message == f"{said}too long"
    assert played.last.usage[0].requests == 1 + shortens


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply("half an ans", finish=Finish.OUTPUT_LIMIT), "incomplete"),
        (Reply(refusal="I will not"), "refusal"),
        (Reply("", (ToolCall("c", "pay", '{"am'),), finish=Finish.OUTPUT_LIMIT), "incomplete"),
    ],
)
def test_a_truncated_or_refused_reply_stops_the_turn(reply: Reply, code: str) -> None:  # TURN-22
    played = play(script(reply))

    assert isinstance(played.last, TurnEnd)
    assert (played.last.termination, played.last.reason) == (Termination.STOPPED, code)
    assert all(not message.calls for message in played.transcript)


# -- scenarios: tools


def test_a_batch_runs_concurrently_up_to_a_limit_and_is_recorded_in_order() -> (
    None
):  # TURN-30, TURN-31
    calls = calling(*((f"c{i}", "look") for i in range(5)))
    played = Play(script(calls, saying("x")), limits=protocol.Limits(concurrency=3)).begin()
    played.go(until=protocol.RunTool)
    first = [e for e in played.effects if isinstance(e, protocol.RunTool)]
    assert [e.call.call_id for e in first] == ["c0", "c1", "c2"]

    played.feed(
        protocol.ToolReported(first[2].key, 1, protocol.ToolResult("two"))
    )  # it waits for the results before it
    assert not any(isinstance(e, protocol.WriteRecord) for e in played.effects)
    played.feed(protocol.ToolReported(first[0].key, 1, protocol.ToolResult("zero")))
    record = played.take(protocol.WriteRecord).record

    assert [n.call_ids for n in record.nodes] == [("c0",)] and record.entries == ()


def test_a_once_report_that_waits_for_earlier_results_is_recorded_alone() -> None:  # TURN-33
    played = Play(script(calling(("slow", "look"), ("p", "pay")), saying("x"))).begin()
    played.go(until=protocol.RunTool)
    played.carry_out(played.take(protocol.WriteRecord))  # the mark of the once call
    pay = [e for e in played.effects if isinstance(e, protocol.RunTool)][1]
    played.feed(protocol.ToolReported(pay.key, 1, protocol.ToolResult("paid")))
    played.carry_out(played.take(protocol.WriteRecord))

    again = (
        replace_play(played).begin().go()
    )  # after a crash the slow call runs again, the payment does not

    assert again.texts[1:3] == ["tool: look slow", "tool: paid"]
    assert again.asked == ["r:1:1:tool:0", "r:1:2:model:0"]  # TURN-6, TURN-36


def test_a_once_call_without_a_report_is_never_run_again() -> None:  # TURN-35
    played = Play(script(calling(("p", "pay")), saying("x"))).begin().go(until=protocol.RunTool)

    again = replace_play(played).begin().go()

    assert again.texts == ["assistant: ", f"tool: {UNKNOWN}", "assistant: x"]
    assert [e.kind for e in again.entries if e.effect_id == "1:tool:0"] == [
        EntryKind.START,
        EntryKind.UNKNOWN,
    ]
    third = replace_play(again).begin().go()
    assert third.texts[:2] == again.texts[:2]  # in every later replay


def probed() -> protocol.Environment:
    asks = (replace(TOOLS[0], probed=True), *TOOLS[1:])
    return protocol.Environment(ENVIRONMENT.model, ENVIRONMENT.system, asks)


@pytest.mark.parametrize(
    ("found", "text"),
    [(protocol.ToolResult("paid, says the bank"), "paid, says the bank"), (None, UNKNOWN)],
)
def test_a_once_call_that_can_be_probed_is_probed(
    found: protocol.ToolResult | None, text: str
) -> None:  # TURN-34
    played = Play(script(calling(("p", "pay")), saying("x")), environment=probed()).begin()
    again = replace_play(played.go(until=protocol.RunTool)).begin().go(until=protocol.Probe)

    again.feed(protocol.Probed(again.take(protocol.Probe).key, found))

    assert again.go().texts[1] == f"tool: {text}"
    assert "r:1:1:tool:0" not in again.asked


def busy(until: int) -> Any:
    def use(call: ToolCall, attempt: int) -> protocol.ToolResult:
        failed = protocol.ToolResult("busy", is_error=True, retryable=True)
        return failed if attempt < until else protocol.ToolResult("seen")

    return use


def test_a_failed_attempt_is_recorded_and_retried_later() -> None:  # TURN-37
    played = Play(script(calling(("a", "look")), saying("x")), use=busy(3)).begin()
    sleeps = []
    while played.effects:
        if isinstance(played.effects[0], protocol.Sleep):
            sleeps.append(played.effects[0].for_ms)
        played.go(1)

    assert sleeps == [100, 200]
    assert [e.effect_id for e in played.entries if "attempt" in e.effect_id] == [
        "1:attempt:0.1",
        "1:attempt:0.2",
    ]
    assert played.texts[1] == "tool: seen"


def test_attempts_are_counted_across_crashes() -> None:  # TURN-37
    played = Play(script(calling(("a", "look")), saying("x")), use=busy(9)).begin()
    played.go(until=protocol.Sleep)
    while any(isinstance(e, protocol.WriteRecord) for e in played.effects):
        played.carry_out(played.take(protocol.WriteRecord))

    again = replace_play(played).begin().go()

    assert again.texts[1] == "tool: busy" and again.asked.count("r:1:1:tool:0") == 2


def test_a_once_call_is_attempted_once_even_if_its_failure_is_retryable() -> None:  # TURN-32
    played = play(script(calling(("a", "pay")), saying("x")), use=busy(9))

    assert played.asked.count("r:1:1:tool:0") == 1 and played.texts[1] == "tool: busy"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("c", "fly"), "unknown tool 'fly'; the tools are: pay, look, answer"),
        (("c", "look", "{"), "invalid arguments: not JSON"),
        (("c", "look", "[1]"), "invalid arguments: expected a JSON object, not a list"),
    ],
)
def test_an_invalid_call_gets_an_error_result(call: tuple[str, str], words: str) -> None:  # TURN-38
    played = play(script(calling(call, ("d", "look")), saying("x")))

    assert words in played.transcript[1].text and played.transcript[1].is_error
    assert played.texts[2] == "tool: look d"


def test_a_duplicate_call_id_is_renamed_and_not_carried_out() -> None:  # TURN-38
    played = play(script(calling(("c", "pay"), ("c", "pay")), saying("x")))

    assert [m.call_id for m in played.transcript[1:3]] == ["c", "doubled-1-1"]
    assert played.asked.count("r:1:1:tool:0") == 1 and "r:1:1:tool:1" not in played.asked


def test_too_many_calls_are_all_refused() -> None:  # TURN-38
    played = play(script(calling(*((f"c{i}", "pay") for i in range(CALLS_MAX + 20))), saying("x")))

    assert len(played.transcript) == 1 + (CALLS_MAX + 1) + 1
    assert all("too many calls" in m.text for m in played.transcript[1:-1])


def test_a_finishing_tool_gives_the_value() -> None:  # TURN-40
    played = play(script(calling(("a", "look"), ("b", "answer"))))

    assert isinstance(played.state, Finished) and played.state.outcome == protocol.Value("b")
    assert played.texts[-1] == "tool: answer b" and played.asked.count("r:1:2:model:0") == 0


def test_a_finishing_tool_that_fails_does_not_finish_the_turn() -> None:  # TURN-40
    played = play(
        script(calling(("b", "answer")), saying("then so")),
        use=lambda call, attempt: protocol.ToolResult("no", is_error=True),
    )

    assert played.texts[-1] == "assistant: then so"


def test_a_hand_off_is_admitted_by_the_commit() -> None:  # TURN-41
    played = play(
        script(calling(("b", "look"))),
        use=lambda call, attempt: protocol.ToolResult(
            "gone", hand_off=protocol.HandOff("writer", "go on")
        ),
    )

    assert isinstance(played.last, TurnEnd) and played.last.hand_off is not None
    assert (played.last.frame, played.last.hand_off.payload) == ("writer", "go on")
    assert (played.last.hand_off.kind, played.last.hand_off.source) == ("hand_off", "hand_off:1")


def test_hand_offs_in_a_row_are_limited() -> None:  # TURN-41
    played = play(
        script(calling(("b", "look"))),
        inputs=(replace(prompt(), kind="hand_off", source="hand_off:16"),),
        use=lambda call, attempt: protocol.ToolResult("gone", hand_off=protocol.HandOff("a", "b")),
    )

    assert isinstance(played.last, TurnEnd)
    assert (played.last.reason, played.last.hand_off) == ("hand_off_limit", None)


def test_a_hand_off_with_a_switch_is_made_by_the_commit() -> None:  # TURN-41
    switch = Switch("f", agent="writer", reason="the text", inherit=False)
    played = Play(
        script(calling(("b", "look"))),
        use=lambda call, attempt: protocol.ToolResult(
            "gone", hand_off=protocol.HandOff(switch, "go on")
        ),
    ).begin()
    played.go(until=TurnEnd)

    again = replace_play(played).begin().go()  # after a crash

    assert isinstance(again.last, TurnEnd)
    assert (again.last.switch, again.last.frame) == (switch, None)
    assert again.last == played.effects[0]


def test_a_hand_off_survives_a_crash() -> None:  # TURN-6
    played = Play(
        script(calling(("b", "look"))),
        use=lambda call, attempt: protocol.ToolResult(
            "gone", hand_off=protocol.HandOff("writer", "go on")
        ),
    ).begin()
    played.go(until=TurnEnd)

    again = replace_play(played).begin().go()

    assert again.last == played.effects[0] and again.asked == []


# -- scenarios: limits


def test_a_turn_gets_one_grace_iteration_without_tools() -> None:  # TURN-50
    played = play(script(calling(("a", "look"))), limits=protocol.Limits(iterations_max=2))

    requests: list[Request] = []
    again = play(
        lambda request: requests.append(request) or calling(("a", "look")),  # type: ignore[func-returns-value]
        limits=protocol.Limits(iterations_max=2),
    )
    assert [len(r.tools) for r in requests] == [3, 3, 0]
    assert isinstance(played.last, TurnEnd)
    assert (played.last.termination, played.last.reason) == (Termination.STOPPED, "max_iterations")
    assert again.texts[-3].startswith("user: You have used up the steps")
    assert again.transcript[-1].text.startswith("not carried out")  # TURN-24


def test_the_warning_is_given_once_across_crashes() -> None:  # TURN-50
    played = Play(script(calling(("a", "look"))), limits=protocol.Limits(iterations_max=1)).begin()
    while played.asked.count("r:1:2:model:0") == 0:
        played.go(1)

    again = replace_play(played).begin().go()

    warnings = [m for m in again.transcript if m.role is Role.USER]
    assert len(warnings) == 1 and again.asked == ["r:1:2:model:0"]


def test_a_lower_limit_keeps_recorded_iterations() -> None:  # TURN-6
    played = Play(script(*[calling(("a", "look"))] * 4, saying("x"))).begin()
    played.go(15)
    assert played.asked[-1] == "r:1:4:model:0"
    lower = replace_play(played)
    lower.limits = protocol.Limits(iterations_max=2)

    again = lower.begin().go()

    assert again.asked[-1] == "r:1:4:model:0" and len(again.transcript) == len(played.nodes) + 3


# -- scenarios: cancel, deadline, refusals


def stopped(event: protocol.Event, played: Play) -> Play:
    played.feed(event)
    return played.go()


@pytest.mark.parametrize(
    ("event", "how"),
    [
        (protocol.CancelSeen(), (Termination.CANCELLED, "")),
        (protocol.DeadlinePassed(), (Termination.STOPPED, "deadline")),
    ],
)
def test_a_turn_that_is_stopped_answers_its_open_calls(
    event: protocol.Event, how: tuple[Termination, str]
) -> None:  # TURN-51, TURN-52
    calls = calling(("a", "look"), ("b", "pay"), ("c", "look"), ("d", "pay"))
    played = (
        Play(script(calls), limits=protocol.Limits(concurrency=3))
        .begin()
        .go(until=protocol.RunTool)
    )
    first = played.take(protocol.RunTool)
    played.carry_out(played.take(protocol.WriteRecord))
    played.feed(protocol.ToolReported(first.key, 1, protocol.ToolResult("seen")))
    assert any(isinstance(e, protocol.WriteRecord) for e in played.effects)

    played.feed(event)
    assert isinstance(played.state, AwaitingTools) and played.state.stop is not None
    played.effects = [e for e in played.effects if not isinstance(e, protocol.RunTool)]
    played.go()

    assert isinstance(played.last, TurnEnd)
    assert (played.last.termination, played.last.reason) == how
    texts = [m.text for m in played.transcript[1:]]
    assert texts[0] == "seen" and texts[1].endswith("while it ran; its outcome is unknown")
    assert texts[2].endswith("while it ran") and texts[3].endswith("before it ran")


def test_a_report_is_used_while_a_turn_stops() -> None:  # TURN-55
    played = Play(script(calling(("b", "pay"), ("a", "look")))).begin()
    played.go(until=protocol.RunTool)
    played.carry_out(played.take(protocol.WriteRecord))
    pay = next(
        e for e in played.effects if isinstance(e, protocol.RunTool) and e.call.name == "pay"
    )
    look = next(
        e for e in played.effects if isinstance(e, protocol.RunTool) and e.call.name == "look"
    )
    played.feed(
        protocol.ToolReported(pay.key, 1, protocol.ToolResult("paid"))
    )  # its record is in progress
    played.feed(protocol.CancelSeen())
    played.feed(protocol.ToolReported(look.key, 1, protocol.ToolResult("seen")))
    played.effects = [e for e in played.effects if not isinstance(e, protocol.RunTool)]

    assert played.go().texts == ["assistant: ", "tool: paid", "tool: seen"]
    assert "TURN-55" in played.clauses


def test_a_model_call_is_aborted() -> None:  # TURN-51
    played = Play(script(saying("x"))).begin().go(until=protocol.CallModel)
    key = played.take(protocol.CallModel).key

    played.feed(protocol.CancelSeen())

    stopped = node_of(Message(Role.ASSISTANT, stopped=True))
    assert played.effects == [
        protocol.Abort((key,)),
        TurnEnd(Termination.CANCELLED, nodes=(stopped,)),
    ]
    late = played.feed(protocol.ModelReplied(key, saying("too late")))
    assert isinstance(late, Refused) and late.reason is Refusal.STALE  # TURN-60


@pytest.mark.parametrize(
    ("event", "how"),
    [(protocol.CancelSeen, Termination.CANCELLED), (protocol.DeadlinePassed, Termination.STOPPED)],
)
@pytest.mark.parametrize(
    ("iteration", "shown", "kept"), [(1, "", [""]), (1, "half a", ["half a"]), (2, "", []), (2, "half", ["half"])]
)  # fmt: skip
def test_what_was_shown_of_a_stopped_reply_stays(
    event: Any, how: Termination, iteration: int, shown: str, kept: list[str]
) -> None:  # TURN-57
    replies = [calling(("a", "look"))] * (iteration - 1) + [saying("x")]
    played = Play(script(*replies)).begin().go(until=protocol.CallModel)
    for _ in range(iteration - 1):
        played.carry_out(played.take(protocol.CallModel))
        played.go(until=protocol.CallModel)
    played.take(protocol.CallModel)

    played.feed(event(shown=shown))

    last = played.effects[-1]
    assert isinstance(last, TurnEnd) and last.termination is how
    messages = [decode(node.body) for node in last.nodes]
    assert [(m.text, m.stopped) for m in messages] == [(text, True) for text in kept]


def test_a_commit_refused_by_a_cancel_is_repeated_as_cancelled() -> None:  # TURN-53
    played = play(script(saying("42")))

    played.feed(protocol.CancelSeen())

    last = played.effects[-1]
    assert isinstance(last, TurnEnd) and last.termination is Termination.CANCELLED
    assert played.last is not None and last.nodes == getattr(played.last, "nodes", None)
    assert last.usage == (ONE,)  # TURN-56
    assert isinstance(played.feed(protocol.CancelSeen()), Refused) is False  # TURN-61
    assert played.clauses[-1] == "TURN-61"


@pytest.mark.parametrize(
    ("reason", "last"),
    [(Refusal.CANCELLED, Termination.CANCELLED), (Refusal.ILLEGAL, ErrorKind.INVALID_REQUEST)],
)
def test_a_record_that_is_refused_ends_the_turn(reason: Refusal, last: object) -> None:  # TURN-54
    played = Play(script(calling(("b", "pay")))).begin().go(until=protocol.WriteRecord)
    played.carry_out(played.take(protocol.WriteRecord))
    mark = played.take(protocol.WriteRecord)

    played.feed(protocol.NotRecorded(mark.key, Refused(reason, "X-1")))

    end = played.go().last
    if isinstance(end, protocol.Fail):
        assert end.failure.kind is last
    else:
        assert end is not None and end.termination is last
        assert [m.text for m in played.transcript[1:]] == ["cancelled before it ran"]


def test_usage_of_many_models_fits_into_one_write() -> None:  # TURN-56
    used = tuple(UsageDelta("turn", f"m{i}", 1, 1) for i in range(20))
    played = play(script(Reply("x", usage=used)))

    assert len(played.usage) <= 8 and sum(u.requests for u in played.usage) == 20


# -- replay


def replace_play(played: Play) -> Play:
    """Return the same journal in another process."""
    return Play(
        played.model, played.use, played.environment, played.limits, played.strict, played.inputs,
        played.frame, list(played.entries), list(played.nodes), played.kept, checkpoints=played.checkpoints,
        taken=list(played.taken), tickets=dict(played.tickets), needs=played.needs,
    )  # fmt: skip


def cut(played: Play, checkpoints: int) -> Play:
    """Return the journal after the n-th checkpoint, as after a crash."""
    shorter = replace_play(played)
    shorter.entries = [e for e in played.entries if e.n < checkpoints]
    known = {e.node_id for e in shorter.entries}
    shorter.nodes = [node for node in played.nodes if node.node_id in known]
    shorter.checkpoints = checkpoints
    named = {i for e in shorter.entries if e.kind is EntryKind.TAKEN for i in e.body.split()}
    shorter.taken = [each for each in played.taken if each.input_id in named]
    return shorter


def plain(state: turn.State | None) -> turn.State:
    """Return a state without the data of one execution: its record count and usage."""
    assert state is not None
    return replace(state, core=replace(state.core, records=0, usage=()))


LONG = (
    calling(("a", "look"), ("b", "pay")),
    calling(("c", "pay"), ("d", "look")),
    calling(("e", "fly"), text="thinking"),
    saying("done"),
)


def test_the_replay_of_every_prefix_is_the_live_state() -> None:  # TURN-3
    limits = protocol.Limits(concurrency=1)
    played = Play(script(*LONG), limits=limits).begin()
    live: dict[int, turn.State] = {}
    while played.effects:
        played.effects.sort(key=lambda e: not isinstance(e, protocol.WriteRecord))  # records first
        before = played.checkpoints
        played.go(1)
        if played.checkpoints > before:
            live[played.checkpoints] = plain(played.state)

    compared = 0
    for checkpoints, state in live.items():
        folded = cut(played, checkpoints).begin().go(2)
        if isinstance(state, AwaitingTools) and Running() in [s.stage for s in state.batch.slots]:
            slot = next(s for s in state.batch.slots if s.stage == Running())
            if slot.call.name == "pay":  # a once call is not run again: the states differ
                continue
        folded_state = plain(folded.state)
        if isinstance(state, AwaitingTools) and isinstance(folded_state, AwaitingTools):
            state = replace(state, batch=replace(state.batch, pending=None))
            folded_state = replace(folded_state, batch=replace(folded_state.batch, pending=None))
        assert folded_state == state, checkpoints
        compared += 1
    assert compared >= 5


@pytest.mark.parametrize("seed", range(40))
def test_every_prefix_ends_like_the_whole_journal(seed: int) -> None:  # TURN-6
    dice = random.Random(seed)
    played = Play(
        script(*LONG), use=busy(dice.choice([1, 2])), limits=protocol.Limits(concurrency=3)
    )
    played.begin()
    while played.effects:
        played.effects.insert(0, played.effects.pop(dice.randrange(len(played.effects))))
        played.go(1)

    for checkpoints in range(played.checkpoints + 1):
        again = cut(played, checkpoints)
        known = {m.call_id: m.text for m in again.transcript if m.call_id}
        again.begin().go()

        assert len(again.transcript) == len(played.transcript)
        for ours, theirs in zip(again.transcript, played.transcript, strict=True):
            assert ours == theirs or ours.text == UNKNOWN
            assert known.get(ours.call_id or "", ours.text) == ours.text


def test_a_changed_prompt_is_noted_once_with_what_has_changed() -> None:  # TURN-7, TURN-11
    played = Play(script(*LONG)).begin().go(8)
    again = replace_play(played)
    again.environment = replace(
        ENVIRONMENT, system="be long", tools=(replace(TOOLS[0], schema='{"a":1}'), *TOOLS[1:])
    )

    again.begin().go()

    notes = [e for e in again.entries if e.kind is EntryKind.NOTE]
    assert [e.body for e in notes] == ["iteration 1: /system, /tools/pay/schema/a"]
    assert again.texts[-1] == "assistant: done"
    third = cut(again, again.checkpoints)
    third.environment = again.environment
    assert len([e for e in third.begin().go().entries if e.kind is EntryKind.NOTE]) == 1


def test_a_strict_turn_accepts_no_change() -> None:  # TURN-7
    played = Play(script(*LONG)).begin().go(8)
    again = replace_play(played)
    again.strict, again.environment = True, replace(ENVIRONMENT, parameters='{"temperature":1}')

    last = again.begin().go().last

    assert isinstance(last, protocol.Fail) and last.failure.kind is ErrorKind.REPLAY_MISMATCH
    assert "/parameters/temperature" in last.failure.message


def test_an_environment_is_described_as_before() -> None:  # TURN-7
    """A turn in progress goes on under a new release: the digests in its journal stay valid."""
    retry = RetryPolicy(2)
    pay = Tool("pay", "Pay.", '{"type":"object"}', Disposition.ONCE, 1_000, retry, True, True)
    described = environment.describe(
        protocol.Environment("m", "be brief", (pay, Tool("look", "", "{}")), '{"temperature":0}', 9)
    )

    digest = "73cba5601c6cf0ebe77ba1e40d3dfd0010ac218ecfed0db0631f099e2c2fbbce"
    assert hash_text(described) == digest


def test_an_unchanged_strict_turn_continues() -> None:
    played = Play(script(*LONG), strict=True).begin().go(8)

    assert replace_play(played).begin().go().texts[-1] == "assistant: done"


def mutilated(played: Play, what: str) -> Play:
    again = replace_play(played)
    match what:
        case "a result of no call":
            again.entries[-1] = replace(
                again.entries[-1], kind=EntryKind.START, effect_id="1:tool:7"
            )
        case "a report without its node":
            again.entries = [e for e in again.entries if e.kind is not EntryKind.NODE]
        case "an unknown line":
            again.entries[0] = replace(again.entries[0], effect_id="search#1")
        case "a body that is none":
            again.nodes[0] = replace(again.nodes[0], body="[]")
        case "a missing iteration":
            again.entries = [e for e in again.entries if e.n > 3]
            known = {e.node_id for e in again.entries}
            again.nodes = [node for node in again.nodes if node.node_id in known]
            again.entries = [e for e in again.entries if e.kind is not EntryKind.NODE]
    return again


@pytest.mark.parametrize(
    "what",
    [
        "a result of no call",
        "a report without its node",
        "an unknown line",
        "a body that is none",
        "a missing iteration",
    ],
)
def test_an_inconsistent_journal_is_a_mismatch(what: str) -> None:  # TURN-4, TURN-8
    played = Play(script(*LONG)).begin().go()

    last = mutilated(played, what).begin().go().last

    assert isinstance(last, protocol.Fail) and last.failure.kind is ErrorKind.REPLAY_MISMATCH


def test_a_request_is_identified_by_path_and_environment() -> None:  # TURN-10
    played = play(script(*LONG))
    reports = [e.body for e in played.entries if e.effect_id.endswith(":model:0")]

    first, second = map(from_json, reports[:2])
    assert first["environment"] == second["environment"] == hash_text(played.kept or "")
    assert second["path"] == played.nodes[2].path_digest != first["path"]


def test_the_environment_is_stored_once() -> None:  # TURN-11
    played = Play(script(*LONG)).begin()
    kept = []
    while played.effects:
        if isinstance(played.effects[0], protocol.WriteRecord):
            kept.append(played.effects[0].record.environment is not None)
        played.go(1)

    assert kept.count(True) == 1


def calls_made(iterations: int) -> int:
    """Count the function calls of the replay of a turn with so many iterations."""
    limits = protocol.Limits(iterations_max=10_000)
    played = Play(script(*[calling(("a", "look"))] * iterations, saying("x")), limits=limits)
    played.begin().go(until=TurnEnd)
    again = replace_play(played)
    count = 0

    def tick(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tick)
    try:
        again.begin().go(2)
    finally:
        sys.setprofile(None)
    assert isinstance(again.state, AwaitingModel)
    assert again.state.core.iteration == iterations + 1
    return count


def test_a_replay_costs_its_length() -> None:
    short, long = calls_made(20), calls_made(200)

    assert long < 10.5 * short


# -- steering


def heard(request: Any) -> list[str]:
    """Return the messages of a request, without what the tools say."""
    return [m.text for m in request.messages if m.role != "tool" and m.text]


class Listening:
    """A model that replies by a script and remembers what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.model = script(*replies)
        self.requests: list[list[str]] = []

    def __call__(self, request: Any) -> Reply:
        self.requests.append(heard(request))
        return self.model(request)


def test_steering_during_a_batch_is_in_the_next_request() -> None:  # TURN-81, TURN-82
    model = Listening(calling(("a", "look"), ("b", "look")), saying("done"))
    steering, follow_up = entering("s", "shorter"), entering("f", "translate it", "follow_up")
    played = Play(model, waiting=[follow_up, steering]).begin().go()

    # the follow-up waits until the turn would end
    assert model.requests == [
        ["go"],
        ["go", "shorter"],
        ["go", "shorter", "done", "translate it"],
    ]
    assert [each.input_id for each in played.taken] == ["s", "f"]


def test_no_record_before_the_last_of_a_batch_takes() -> None:  # TURN-82, TURN-84
    model = Listening(calling(("a", "look"), ("b", "pay")), saying("done"))
    played = Play(model, waiting=[entering("s", "shorter")]).begin()
    takes: list[bool] = []
    while played.effects:
        effect = played.effects[0]
        if isinstance(effect, protocol.WriteRecord):
            takes.append(effect.record.take is not None)
        played.go(1)

    assert takes.count(True) == 1 and takes[-1]
    assert len([m for m in played.transcript if m.call_id]) == 2  # both calls ran to their end


def test_a_batch_that_ends_the_turn_takes_nothing() -> None:  # TURN-82
    steering = entering("s", "shorter")
    played = Play(script(calling(("a", "answer"))), waiting=[steering]).begin().go()

    assert played.taken == []
    assert isinstance(played.last, TurnEnd) and not played.last.yields


def test_an_answer_that_is_refused_as_steered_is_recorded_and_the_turn_goes_on() -> None:  # TURN-83
    model = Listening(saying("first"), saying("second"))
    played = Play(model, waiting=[entering("f", "translate it", "follow_up")]).begin().go()

    assert played.texts == ["assistant: first", "assistant: second"]
    assert model.requests == [["go"], ["go", "first", "translate it"]]
    assert sum(u.requests for u in played.usage) == 2


def test_an_answer_is_committed_if_nothing_is_left_to_take() -> None:  # TURN-83
    played = Play(script(saying("first"))).begin().go(until=TurnEnd)
    played.effects.clear()
    played.feed(protocol.CommitSteered())
    played.go()  # what waited was withdrawn meanwhile

    assert played.last == TurnEnd(yields=True)
    assert played.texts == ["assistant: first"]
    again = cut(played, played.checkpoints).begin().go()
    assert again.last == TurnEnd(yields=True)
    again.effects.clear()
    again.last, again.waiting = None, [entering("s", "shorter")]
    again.feed(protocol.CommitSteered())
    again.go()
    assert [each.input_id for each in again.taken] == ["s"]


def test_a_turn_may_take_one_input_at_a_time() -> None:  # TURN-84
    model = Listening(saying("first"), saying("second"), saying("third"))
    waiting = [entering("s", "shorter"), entering("t", "in French")]
    limits = protocol.Limits(take_max=1)
    played = Play(model, waiting=waiting, limits=limits).begin().go()

    assert model.requests[1:] == [
        ["go", "first", "shorter"],
        ["go", "first", "shorter", "second", "in French"],
    ]
    assert played.texts[-1] == "assistant: third"


def test_the_last_iteration_may_be_steered_into_the_grace_iteration() -> None:  # TURN-83, TURN-50
    model = Listening(saying("first"), saying("second"))
    limits = protocol.Limits(iterations_max=1)
    waiting = [entering("s", "shorter")]
    played = Play(model, waiting=waiting, limits=limits).begin().go()

    assert isinstance(played.last, TurnEnd) and played.last.reason == "max_iterations"
    assert not played.last.yields  # a turn that has used up its steps ends


@pytest.mark.parametrize("most", [1, 64])
def test_every_prefix_of_a_steered_turn_asks_the_same(most: int) -> None:  # TURN-81
    """What was taken before a crash is told once, at the same place, and nothing is noted as changed."""
    replies = (calling(("a", "look")), saying("first"), saying("second"), saying("third"))
    waiting = [entering("s", "shorter"), entering("f", "translate it", "follow_up")]
    limits = protocol.Limits(take_max=most)
    model = Listening(*replies)
    played = Play(model, waiting=waiting, limits=limits).begin().go()
    whole = model.requests

    for checkpoints in range(played.checkpoints + 1):
        again = cut(played, checkpoints)
        again.model = model = Listening(*replies)
        again.waiting = [each for each in waiting if each not in again.taken]
        again.begin().go()

        assert whole[len(whole) - len(model.requests) :] == model.requests, checkpoints
        assert again.texts == played.texts
        assert not [e for e in again.entries if e.kind is EntryKind.NOTE]


def test_a_cancel_while_an_answer_is_recorded_keeps_the_answer() -> None:  # TURN-83, TURN-51
    played = Play(script(saying("first")), waiting=[entering("s", "shorter")]).begin()
    played.go(until=protocol.WriteRecord)
    played.feed(protocol.CancelSeen())
    played.go()

    assert played.texts == ["assistant: first"]
    assert isinstance(played.last, TurnEnd) and played.last.termination == "cancelled"


# -- approvals


def asking(*replies: Reply, tool: Tool = BUY, **rest: Any) -> Play:
    """Return a turn with a tool that needs approvals, until it parks."""
    env = protocol.Environment("m", "be brief", (*TOOLS, tool))
    return Play(script(*replies, saying("done")), environment=env, **rest).begin().go()


def decided(played: Play, *settled: Settled) -> Play:
    """Settle the open tickets in their order, and enter the turn again."""
    tickets = [t for t in played.tickets.values() if t.open_run is not None]
    for ticket, settlement in zip(tickets, settled, strict=False):
        played.decide(ticket.ticket_id, settlement)
    return replace_play(played).begin().go()


def test_calls_that_need_nobody_run_before_the_turn_parks() -> None:  # TURN-92, TURN-93
    played = asking(calling(("b", "buy"), ("p", "pay"), ("l", "look")))

    assert played.texts == ["assistant: ", "tool: pay p", "tool: look l"]
    (new,) = played.parked.tickets if played.parked else ()
    assert (new.prompt, new.call_id, new.effect_id) == ("buy?", "b", "1:approval:0")
    assert played.parked is not None and played.parked.needs == 1
    starts = [e.effect_id for e in played.entries if e.kind is EntryKind.START]
    assert starts == ["1:tool:1"]  # TURN-90: the call that waits is not marked


def test_an_approved_call_is_marked_and_run_once() -> None:  # TURN-94
    again = decided(asking(calling(("b", "buy"), ("l", "look"))), Settled(Action.APPROVE))

    assert again.texts == ["assistant: ", "tool: look l", "tool: buy b", "assistant: done"]
    assert again.asked == ["r:1:1:tool:0", "r:1:2:model:0"]
    assert [e.effect_id for e in again.entries if e.kind is EntryKind.START] == ["1:tool:0"]


@pytest.mark.parametrize(
    ("settled", "text", "is_error"),
    [
        (Settled(Action.REJECT), "not carried out: rejected", True),
        (Settled(Action.REJECT, body="too much"), "not carried out: rejected: too much", True),
        (Settled(Action.TIMEOUT), "not carried out: nobody decided in time", True),
        (Settled(Action.ANSWER, body="bought by hand"), "bought by hand", False),
        (Settled(Action.EDIT, body='{"n":1}'), 'buy {"n":1}', False),
        (Settled(Action.EDIT, body="[1]"), "invalid arguments: expected a JSON object", True),
    ],
)
def test_a_decision_becomes_a_result(settled: Settled, text: str, is_error: bool) -> None:
    """CHAT-51 is shown here too."""
    played = asking(
        calling(("b", "buy")),
        use=lambda call, attempt: protocol.ToolResult(f"{call.name} {call.arguments}"),
    )

    again = decided(played, settled)

    result = again.transcript[1]
    assert result.text.startswith(text) and result.is_error is is_error
    assert ("r:1:1:tool:0" in again.asked) is (settled.how is Action.EDIT and not is_error)
    assert again.texts[-1] == "assistant: done"


def test_a_call_that_needs_nobody_begins_at_once() -> None:  # TURN-91
    played = asking(calling(("b", "buy")), needs=lambda call: None)

    assert played.parked is None
    assert played.texts == ["assistant: ", "tool: buy b", "assistant: done"]


def test_what_was_approved_runs_while_others_wait() -> None:  # TURN-93
    played = asking(calling(("a", "buy"), ("b", "buy"), ("c", "buy")))
    played.decide("tr:1:1:tool:1", Settled(Action.APPROVE))

    again = replace_play(played).begin().go()

    assert again.texts == ["assistant: ", "tool: buy b"] and again.parked is not None
    assert again.parked.waits_for == ("tr:1:1:tool:0", "tr:1:1:tool:2")
    assert again.parked.tickets == ()
    third = decided(again, Settled(Action.REJECT), Settled(Action.APPROVE))
    assert [m.call_id for m in third.transcript[1:4]] == ["b", "a", "c"]


def test_a_park_that_is_not_needed_writes_nothing() -> None:  # TURN-94
    played = asking(calling(("a", "buy"), ("b", "buy")))
    played.decide("tr:1:1:tool:0", Settled(Action.REJECT))
    again = replace_play(played).begin().go(until=protocol.Park)
    again.decide("tr:1:1:tool:1", Settled(Action.APPROVE))

    again.go()

    assert again.parked is None
    assert again.texts[1:] == ["tool: not carried out: rejected", "tool: buy b", "assistant: done"]


@pytest.mark.parametrize("how", [Action.APPROVE, Action.REJECT])
def test_a_shared_decision_settles_other_calls_of_the_tool(how: Action) -> None:  # TURN-95
    tool = replace(BUY, approval=Approval(remember=True))
    played = asking(calling(("a", "buy"), ("b", "buy")), calling(("c", "buy")), tool=tool)
    played.decide("tr:1:1:tool:1", Settled(how, "ada", "yes"))

    again = replace_play(played).begin().go()

    assert again.parked is None and again.texts[-1] == "assistant: done"
    assert again.tickets["tr:1:1:tool:0"].state == Settled(how, "ada", "yes")
    results = [m.text for m in again.transcript if m.call_id]
    bought, rejected = ["buy b", "buy a", "buy c"], ["not carried out: rejected: yes"] * 3
    assert sorted(results) == sorted(bought if how is Action.APPROVE else rejected)


def test_somebody_who_decides_before_a_decision_is_shared_wins() -> None:  # TURN-95
    tool = replace(BUY, approval=Approval(remember=True))
    played = asking(calling(("a", "buy"), ("b", "buy")), tool=tool)
    played.decide("tr:1:1:tool:0", Settled(Action.APPROVE))
    again = replace_play(played).begin().go(until=protocol.SettleTicket)
    again.decide("tr:1:1:tool:1", Settled(Action.REJECT))

    assert again.go().texts[1:3] == ["tool: buy a", "tool: not carried out: rejected"]


@pytest.mark.parametrize("how", [Action.EDIT, Action.ANSWER, Action.TIMEOUT])
def test_what_is_about_one_call_is_not_shared(how: Action) -> None:
    tool = replace(BUY, approval=Approval(remember=True))
    played = asking(calling(("a", "buy"), ("b", "buy")), tool=tool)
    played.decide("tr:1:1:tool:0", Settled(how, body="{}"))

    again = replace_play(played).begin().go()

    assert again.parked is not None and again.parked.waits_for == ("tr:1:1:tool:1",)


def test_a_tool_is_handed_the_decision_whatever_it_is() -> None:
    tool = replace(BUY, approval=Approval(to_tool=True))
    rejected = Settled(Action.REJECT, body="no")
    played = asking(calling(("a", "buy", '{"n":2}')), tool=tool)
    played.decide("tr:1:1:tool:0", rejected)

    again = replace_play(played).begin().go(until=protocol.RunTool)

    effect = again.take(protocol.RunTool)
    assert (effect.decision, effect.call.arguments) == (rejected, '{"n":2}')


@pytest.mark.parametrize(
    ("others", "word"),
    [((False,), "supersede"), ((True,), "hold"), ((True, False), "supersede")],
)
def test_who_is_asked_says_what_the_next_prompt_does(others: tuple[bool, ...], word: str) -> None:
    tools = [
        replace(BUY, name=f"buy{i}", approval=Approval(others=o)) for i, o in enumerate(others)
    ]
    env = protocol.Environment("m", "be brief", tuple(tools))
    replies = calling(*[(f"c{i}", tool.name) for i, tool in enumerate(tools)])
    played = Play(script(replies, saying("done")), environment=env).begin().go()

    assert played.parked is not None and played.parked.on_input == word


def test_a_stopped_turn_says_what_nobody_decided() -> None:  # TURN-51
    played = asking(calling(("a", "buy"), ("b", "buy")))
    played.decide("tr:1:1:tool:0", Settled(Action.REJECT))
    again = replace_play(played).begin().go(until=protocol.WriteRecord)
    again.feed(protocol.CancelSeen())

    assert again.go().texts[1:] == [
        "tool: not carried out: rejected",
        "tool: not carried out: nobody decided",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_prefix_of_a_turn_with_approvals_ends_like_the_whole(seed: int) -> None:  # TURN-94
    """The journal is cut anywhere, and replayed with what was decided: nothing is noted as changed, nothing runs twice."""
    dice = random.Random(seed)
    replies = (
        calling(("a", "buy"), ("b", "look"), ("c", "buy")),
        calling(("d", "look"), ("e", "buy")),
    )
    played = asking(*replies)
    while played.parked is not None:
        count = dice.choice([1, 2])
        how = [Settled(dice.choice([Action.APPROVE, Action.REJECT])) for _ in range(count)]
        played = decided(played, *how)
    assert played.texts[-1] == "assistant: done"

    for checkpoints in range(played.checkpoints + 1):
        again = cut(played, checkpoints)
        again.tickets = dict(played.tickets)
        again.needs = lambda call: None  # what has no ticket yet would park
        again.begin().go()

        assert again.texts[-1] == "assistant: done"
        assert not [e for e in again.entries if e.kind is EntryKind.NOTE]
        starts = Counter(e.effect_id for e in again.entries if e.kind is EntryKind.START)
        assert max(starts.values(), default=0) <= 1


# -- every clause


def test_every_clause_fires_in_the_explored_models_or_in_a_test() -> None:
    """Every clause of the page is named by a test of this module."""
    page = SPEC.read_text(encoding="utf-8")
    defined = set(re.findall(r"^- \*\*(TURN-\d+)\*\*", page, re.MULTILINE))
    named = re.findall(r"# (.*TURN-.*)", Path(__file__).read_text(encoding="utf-8"))
    played = set(re.findall(r"TURN-\d+", " ".join(named)))

    assert defined - played == set()


def test_slots_know_their_call() -> None:
    assert Slot(ToolCall("c", "pay", "{}"), Running()).call.name == "pay"
    assert Message(Role.TOOL, "x").role == Role.TOOL.value
    assert Tool("t", "", "{}").disposition is Disposition.RERUNNABLE and paid is not None
