"""Long tool results in a request, and the policies for a request that does not fit the context."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenure.messages.types import Message, Tool, ToolCall
from tenure.transcript import Role
from tenure.turn.shortening import drop_turns, limit_results, shorten, shorten_results, size_of


def turn(text: str, result: str, call_id: str = "c", name: str = "look") -> tuple[Message, ...]:
    return (
        Message(Role.USER, text),
        Message(Role.ASSISTANT, calls=(ToolCall(call_id, name, "{}"),)),
        Message(Role.TOOL, result, call_id=call_id),
        Message(Role.ASSISTANT, "done"),
    )


LINES = "".join(f"{n:04}\n" for n in range(1_000))  # 5,000 characters


def test_a_long_result_is_sent_as_its_beginning_and_its_end() -> None:  # CHAT-21
    (_, _, result, _) = limit_results(turn("go", LINES), (), 100)

    note = "\n[cut: 100 of 5000 characters are shown]\n"
    assert result.text == LINES[:75] + note + LINES[-25:]


def test_each_tool_has_its_limit() -> None:  # CHAT-21
    tools = (Tool("log", "", "{}", result_max=1_000), Tool("look", "", "{}"))
    said = (*turn("a", LINES, "1", "log"), *turn("b", LINES, "2"), *turn("c", LINES, "3", "gone"))

    sent = [m.text for m in limit_results(said, tools, 10_000) if m.role is Role.TOOL]

    assert [len(text) < 1_100 for text in sent] == [True, False, False]


def test_a_result_is_not_cut_where_the_note_would_make_it_longer() -> None:  # CHAT-21
    said = turn("go", "x" * 101)

    assert limit_results(said, (), 100) == said


def test_the_oldest_results_are_shortened_first() -> None:  # CHAT-22
    said = (*turn("a", LINES, "1"), *turn("b", LINES, "2"), *turn("c", LINES, "3"))

    sent = shorten_results(said, 11_000)

    assert [len(m.text) == 5_000 for m in sent if m.role is Role.TOOL] == [False, True, True]
    assert "of 5000 characters" in sent[2].text


def test_a_single_result_is_shortened_too() -> None:  # CHAT-22
    assert size_of(shorten(turn("go", "x" * 300_000), 150_000)) < 400


def test_the_oldest_turns_are_dropped_next() -> None:  # CHAT-22
    said = (*turn("a" * 900, "1"), *turn("b" * 900, "2"), *turn("c" * 900, "3"))

    sent = shorten(said, 1_000)

    note = "[earlier messages of this conversation were left out to fit the context]\n"
    assert sent == (Message(Role.USER, note + "c" * 900), *said[9:])


def test_the_last_turn_is_kept() -> None:  # CHAT-22
    said = turn("a" * 900, "1")

    assert drop_turns(said, 10) == said


results = st.lists(st.integers(0, 2_000), max_size=6)


@given(results, st.integers(0, 10_000))
def test_a_shortened_request_keeps_every_call_with_its_result(
    sizes: list[int], budget: int
) -> None:
    said = tuple(m for at, n in enumerate(sizes) for m in turn(f"{at}", "x" * n, f"c{at}"))

    for policy in (shorten, shorten_results, drop_turns):
        sent = policy(said, budget)
        calls = [call.call_id for m in sent for call in m.calls]
        assert [m.call_id for m in sent if m.role is Role.TOOL] == calls
        assert sent[-1:] == said[-1:]
        assert size_of(said) > budget or sent == said
