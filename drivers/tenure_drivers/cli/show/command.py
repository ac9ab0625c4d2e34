"""`tenure show`: a conversation as text, Markdown or JSON on standard output."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from tenure.questions.conversation import LoadConversation

from ..exit import no_session, stop_if_no_session, unreadable_if_it_fails, usage_error
from ..moments import moment
from ..open_store import open_read_only
from ..output import printable, write_bytes, write_lines, write_text
from .conversation import as_json

__all__ = ["show"]


CHARACTERS_MAX: Final = 4_000  # of one text
RESULT_MAX: Final = 1_000
ARGUMENTS_MAX: Final = 400
STYLES: Final = {
    "head": "dim", "input": "bold cyan", "said": "", "call": "yellow", "result": "dim",
    "error": "red", "reasoning": "dim italic", "end": "bold red", "open": "bold yellow",
}  # fmt: skip
AUDIENCES: Final = {"model": "(only the model reads it)", "nobody": "(it only starts a turn)"}
Item: TypeAlias = dict[str, Any]
Lines: TypeAlias = Iterator[tuple[str, str]]


async def show(
    url: str, session_id: str, limit: int, form: str, before: tuple[int, str] | None = None
) -> None:
    """Print the last `limit` nodes of a conversation, or those before a position.

    `form` is text, markdown or json.  Raises CliExit.
    """
    async with open_read_only(url) as store:
        seen = await store.ask(LoadConversation(session_id, before, limit))
    if seen is None:
        raise usage_error(no_session(session_id, url))
    stop_if_no_session(session_id, seen.session.kind)
    with unreadable_if_it_fails(session_id):
        found = as_json(seen)
        if form == "json":
            write_lines([found])
        elif form == "markdown":
            _write(markdown(found))
        elif sys.stdout.isatty():
            _write_styled(text(found))
        else:
            _write(line for _, line in text(found))


def _write(lines: Iterable[str]) -> None:
    write_text(line.rstrip() for line in lines)


def _write_styled(lines: Lines) -> None:
    from rich.console import Console  # imported here: rich takes a third of the start-up time
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    with console.capture() as shown:
        for style, line in lines:
            console.print(Text(line, style=STYLES[style]))
    write_bytes(shown.get().encode("utf-8", "backslashreplace"))


# -- parts of a line


def clean(given: str) -> str:
    """Escape control characters, so that a text cannot send commands to the terminal."""
    return printable(given.replace("\r\n", "\n"))


def cut(given: str, most: int = CHARACTERS_MAX) -> str:
    """Return a clean text of at most `most` characters, with a note if it was cut."""
    if len(given) <= most:
        return clean(given)
    return f"{clean(given[:most])} [cut: {len(given)} characters; --json prints all]"


def arguments(call: Item) -> str:
    """Return the arguments of a tool call as JSON text."""
    given = call["arguments"]
    plain = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return cut(plain, ARGUMENTS_MAX)


def outcome(call: Item) -> tuple[str, str]:
    """Return the style and the text of a call's result."""
    result = call["result"]
    if result is None:
        return "open", call.get("state", "no result")
    words = cut(result["text"], RESULT_MAX) + "".join(
        f"\n[{_named(a)}]" for a in result["attachments"]
    )
    return ("error" if result["is_error"] else "result"), words


def _named(attachment: Item) -> str:
    return clean(f"{attachment['name'] or attachment['uri']} ({attachment['media_type']})")


def stop_note(item: Item) -> str:
    """Return a note for a message that was stopped; empty for any other."""
    return " (stopped before the end)" if item["stopped"] else ""


def origin(item: Item) -> str:
    """Return the kind, id and source of an input, and who reads it if not everybody."""
    words = [item["input_kind"], item["input_id"]]
    if item["source"] not in ("api", "file"):
        words.append(f"from {item['source']}")
    words.append(AUDIENCES.get(item["audience"], ""))
    return clean(" ".join(words).rstrip())


def ended(item: Item) -> str:
    """Return how an input ended that no message shows."""
    word = item["ended"].replace("_", " ")
    return clean(word if item["detail"] == item["ended"] else f"{word} ({item['detail']})")


def ending(item: Item) -> str:
    """Return how a run ended that did not finish."""
    reason = f": {item['reason']}" if item["reason"] else ""
    return clean(f"run {item['run_id']} ended {item['termination']}{reason}")


def due(item: Item) -> str:
    """Return the status of an input, when it is due, and the run that it is for."""
    whom = f", for run {item['target_run']}" if item["target_run"] else ""
    until = f", due {moment(item['due_at_ms'])}" if item["due_at_ms"] else ""
    return f"{item['status']}{until}{whom}"


def state(found: Item) -> str:
    """Return the head line of a session."""
    words = [f"session {clean(found['session'])}", found["phase"], f"revision {found['revision']}"]
    if found["open_run"]:
        words.append(f"run {found['open_run']} {found['run_state']}")
    if found["erased"] is not None:
        words.append("its texts were erased" if found["erased"] else "its texts are being erased")
    return ", ".join(words)


def open_run(found: Item) -> str:
    """Return the line above the output of an unfinished turn."""
    failed = f" after {found['failures']} failures" if found["failures"] else ""
    return f"run {found['open_run']} is {found['run_state']}{failed}; not committed yet:"


def question(item: Item) -> str:
    """Return an open ticket: what is asked and how to decide it, or what is awaited, and until when."""
    until = f", until {moment(item['deadline_ms'])}" if item["deadline_ms"] else ""
    if not item["offers"]:
        return clean(f"{item['awaits'] or 'a ' + item['kind']}{until}")
    offers = ", ".join(item["offers"])
    return clean(
        f"asks: {cut(item['prompt'], RESULT_MAX)} (ticket {item['ticket']}: {offers}{until})"
    )


def failure(item: Item) -> str | None:
    """Return the line about the last reported failure of a run, if there is one."""
    last = item["last_failure"]
    if last is None:
        return None
    message = cut(last["message"], RESULT_MAX).replace("\n", " ")
    return f"attempt {last['attempt']} failed: {last['kind']}: {message}".rstrip(": ")


# -- as text


def text(found: Item) -> Lines:
    """Yield the conversation as (style, line)."""
    yield "head", state(found)
    if found["more_before"]:
        yield "head", f"... (what was before: --before {clean(found['before'])})"
    begun = False
    for item in found["conversation"]:
        if item.get("open") and not begun:
            begun = True
            yield "open", ""
            yield "open", f"-- {open_run(found)}"
            for one in found["tickets"]:
                yield "open", f"-- {question(one)}"
            if failed := failure(found):
                yield "error", f"-- {failed}"
        yield "said", ""
        yield from _text_of(item)
    if found["inbox"]:
        yield "said", ""
        yield "head", f"in the inbox: {len(found['inbox'])}"
        for item in found["inbox"]:
            yield "input", f"> {origin(item)}: {due(item)}"
            yield from _indented("said", cut(item["text"]))
            if failed := failure(item):
                yield "error", f"  ! {failed}"


def _text_of(item: Item) -> Lines:
    match item["kind"]:
        case "input":
            how = f": {ended(item)}" if "ended" in item else ""
            yield ("end" if how else "input"), f"> {origin(item)}{how}"
            yield from _indented("said", cut(item["text"]))
            for one in item["attachments"]:
                yield "result", f"  [{_named(one)}]"
        case "end":
            yield "end", f"-- {ending(item)}"
        case "compaction":
            yield "head", "-- summary of the earlier conversation:"
            yield from _indented("said", cut(item["text"]))
        case _:
            yield from _message(item)


def _message(item: Item) -> Lines:
    about = f" (answers {', '.join(item['answers'])})" if item["answers"] else ""
    yield "head", clean(f"{item['role']}{about}{stop_note(item)}")
    if item["reasoning"]:
        yield "reasoning", f"  [reasoning: {len(item['reasoning'])} characters]"
    if item["text"]:
        yield from _indented("error" if item["is_error"] else "said", cut(item["text"]))
    if item["refusal"]:
        yield from _indented("error", f"[refused] {cut(item['refusal'])}")
    for call in item["calls"]:
        yield "call", clean(f"  * {call['name']} {arguments(call)}")
        style, words = outcome(call)
        sign = {"open": "...", "error": "!"}.get(style, "=")
        for number, line in enumerate(words.split("\n")):
            yield style, f"    {sign if not number else ' ' * len(sign)} {line}"


def _indented(style: str, words: str) -> Lines:
    for line in words.split("\n"):
        yield style, f"  {line}"


# -- as Markdown


def markdown(found: Item) -> Iterator[str]:
    """Yield the conversation as Markdown."""
    yield f"# Session {clean(found['session'])}"
    yield ""
    yield state(found)
    if found["more_before"]:
        yield f"\n*What was before: `--before {clean(found['before'])}`*"
    begun = False
    for item in found["conversation"]:
        if item.get("open") and not begun:
            begun = True
            yield ""
            yield f"---\n\n*{open_run(found)}*"
            for one in found["tickets"]:
                yield f"\n*{question(one)}*"
            if failed := failure(found):
                yield f"\n**{failed}**"
        yield ""
        yield from _markdown_of(item)
    if found["inbox"]:
        yield "\n## In the inbox\n"
        for item in found["inbox"]:
            yield f"- `{origin(item)}` {due(item)}\n\n{_fenced(cut(item['text']), '  ')}"
            if failed := failure(item):
                yield f"\n  **{failed}**"


def _markdown_of(item: Item) -> Iterator[str]:
    match item["kind"]:
        case "input":
            how = f" - **{ended(item)}**" if "ended" in item else ""
            yield f"### {origin(item)}{how}\n"
            yield "\n".join(f"> {line}".rstrip() for line in cut(item["text"]).split("\n"))
            for one in item["attachments"]:
                yield f"\n> attached: {_named(one)}"
        case "end":
            yield f"**{ending(item)}**"
        case "compaction":
            yield f"### Summary of the earlier conversation\n\n{cut(item['text'])}"
        case _:
            yield f"### {item['role']}{stop_note(item)}"
            yield from _markdown_message(item)


def _markdown_message(item: Item) -> Iterator[str]:
    if item["reasoning"]:
        yield "\n<details><summary>reasoning</summary>\n"
        yield _fenced(cut(item["reasoning"]))
        yield "\n</details>"
    if item["text"]:
        yield f"\n{_fenced(cut(item['text'])) if item['answers'] else cut(item['text'])}"
    if item["refusal"]:
        yield f"\n**refused:** {cut(item['refusal'])}"
    for call in item["calls"]:
        style, words = outcome(call)
        failed = {"error": " - **failed**", "open": f" - **{words}**"}.get(style, "")
        given = arguments(call).replace("`", "'")
        yield f"\n- **{clean(call['name'])}** `{given}`{failed}"
        if style != "open":
            yield f"\n{_fenced(words, '  ')}"


def _fenced(words: str, indent: str = "") -> str:
    """Return a code block whose fence is longer than any fence inside it."""
    longest = max((len(run) for run in re.findall("`{3,}", words)), default=2)
    fence = "`" * (longest + 1)
    return "\n".join(f"{indent}{line}" for line in (fence, *words.split("\n"), fence))
