"""What `tenure run` cannot use is named, with the value in it, and nothing is admitted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from cli_process import (
    HELLO,
    RUN,
    prompts,
    tenure,
)

# -- bad input

BAD: dict[str, tuple[bytes, str]] = {
    "not json": (b"nope", "not JSON: Expecting value: line 1 column 1 (char 0): 'nope'"),
    "cut off": (b'{"session":"a","te', "not JSON"),
    "a list": (b'["a"]', "not a JSON object: '[\"a\"]'"),
    "no session": (b'{"text":"a"}', "field 'session' is missing"),
    "no text": (b'{"session":"a"}', "field 'text' is missing"),
    "an unknown field": (b'{"session":"a","text":"b","when":1}', "unknown field 'when'"),
    "a field twice": (b'{"session":"a","text":"b","text":"c"}', "duplicate field 'text'"),
    "text of another type": (b'{"session":"a","text":7}', "text is not a string: 7"),
    "a null key": (b'{"session":"a","text":"b","key":null}', "key is not a string: None"),
    "a bool": (b'{"session":"a","text":"b","priority":true}', "priority is not an integer: True"),
    "a fraction": (b'{"session":"a","text":"b","priority":1.0}', "priority is not an integer: 1.0"),
    "a large number": (b'{"session":"a","text":"b","priority":9' + b"9" * 5000 + b"}", "not JSON"),
    "NaN": (b'{"session":"a","text":NaN}', "not JSON: NaN is not JSON"),
    "a blank session": (b'{"session":" ","text":"b"}', "session is blank: ' '"),
    "blanks in a session": (b'{"session":"a b","text":"b"}', "session_id 'a b'"),
    "a long session": (b'{"session":"' + b"a" * 201 + b'","text":"b"}', "1 to 200 printable"),
    "an empty key": (b'{"session":"a","text":"b","key":""}', "key ''"),
    "priority below 0": (
        b'{"session":"a","text":"b","priority":-1}',
        "priority -1: expected 0 to 1000000",
    ),
    "time in seconds": (
        b'{"session":"a","text":"b","available_at_ms":1767225600}',
        "such as 1767225600000",
    ),
    "time below 0": (b'{"session":"a","text":"b","available_at_ms":-5}', "available_at_ms -5"),
    "NUL": (b'{"session":"a","text":"b\\u0000"}', "NUL character at 1"),
    "a lone surrogate": (b'{"session":"a","text":"\\ud800"}', "lone surrogate at 0"),
    "not UTF-8": (b'{"session":"a","text":"\xff"}', "not UTF-8: invalid start byte at byte 24"),
    "too deep": (b"[" * 100_000, "nested too deeply"),
    "too long": (
        b'{"session":"a","text":"' + b"x" * 10_000_001 + b'"}',
        "payload of 10000001 bytes; at most 10000000",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named_and_nothing_is_admitted(tmp_path: Path, name: str) -> None:
    raw, reason = BAD[name]
    good = json.dumps(HELLO).encode()
    (tmp_path / "p").write_bytes(good + b"\n\n" + raw + b"\n" + good + b"\n")

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("tenure run: line 3: ") and reason in ran.err, ran.err
    assert ran.last == "tenure run: 1 bad line; nothing was admitted"
    assert len(ran.err) < 1000
    assert not (tmp_path / "a.db").exists()


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\n".join(raw for raw, _ in BAD.values()))

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert ran.code == 2
    for number, (_, reason) in enumerate(BAD.values(), 1):
        assert f"line {number}: " in ran.err and reason in ran.err


def test_one_key_with_two_contents_in_the_file_is_bad(tmp_path: Path) -> None:
    lines = [{**HELLO, "key": "k"}, {**HELLO, "key": "k", "text": "other"}, {**HELLO, "key": "j"}]
    prompts(tmp_path / "p", lines)

    ran = tenure(*RUN, "echo", "p", cwd=tmp_path)

    assert ran.code == 2
    assert "line 2: key 'k' has other content in line 1 of this file" in ran.err


def test_a_key_with_other_content_in_the_store_is_bad(tmp_path: Path) -> None:
    prompts(tmp_path / "p", [{**HELLO, "key": "k"}])
    first = tenure(*RUN, "echo", "p", cwd=tmp_path)
    lines = [{"session": "ann", "text": f"{i}", "key": f"n{i}"} for i in range(300)]
    prompts(tmp_path / "q", [*lines, {**HELLO, "key": "k", "text": "other"}])

    ran = tenure(*RUN, "echo", "q", cwd=tmp_path)
    shown = tenure("inspect", "--store", "sqlite:a.db", "ann", "--json", cwd=tmp_path)

    known = first.lines[0]["input_id"]
    assert (ran.code, ran.out) == (2, "")
    assert f"line 301: key 'k' has other content in the store: input {known}" in ran.err
    assert len(shown.lines[0]["transcript"]) == 1 and shown.lines[0]["inbox"] == []


USELESS: dict[str, tuple[tuple[str, ...], str]] = {
    "scheme": (
        ("--store", "redis:x", "--agent", "echo", "p"),
        "unknown store URL 'redis:x'; expected memory:",
    ),
    "a long name": (
        ("--store", f"sqlite:{'x' * 300}", "--agent", "echo", "p"),
        "File name too long",
    ),
    "no path": (
        ("--store", "sqlite:", "--agent", "echo", "p"),
        "invalid store URL 'sqlite:': the path is missing",
    ),
    "in memory": (
        ("--store", "sqlite::memory:", "--agent", "echo", "p"),
        "invalid store URL 'sqlite::memory:': for a store in memory write memory:",
    ),
    "in memory, as SQLAlchemy writes it": (
        ("--store", "sqlite:///:memory:", "--agent", "echo", "p"),
        "for a store in memory write memory:",
    ),
    "in memory, as a URI": (
        ("--store", "sqlite:file:a?mode=memory", "--agent", "echo", "p"),
        "a URI of SQLite is not taken, write sqlite:PATH",
    ),
    "two slashes": (
        ("--store", "sqlite://a.db", "--agent", "echo", "p"),
        "invalid store URL 'sqlite://a.db': write sqlite:a.db for a path in this folder, or sqlite:/a.db",
    ),
    "three slashes": (
        ("--store", "sqlite:///a.db", "--agent", "echo", "p"),
        "invalid store URL 'sqlite:///a.db': write sqlite:a.db for a path in this folder, or sqlite:/a.db",
    ),
    "a folder with two slashes": (
        ("--store", "files://a/b", "--agent", "echo", "p"),
        "invalid store URL 'files://a/b': write files:a/b for a path in this folder, or files:/a/b",
    ),
    "UTF-16": ((*RUN[1:], "echo", "wide"), "wide is UTF-16 text: convert it to UTF-8"),
    "gzip": ((*RUN[1:], "echo", "packed"), "packed is compressed by gzip: decompress it first"),
    "a store": ((*RUN[1:], "echo", "base"), "base is an SQLite database, not text"),
    "folder": (("--store", "sqlite:no/a.db", "--agent", "echo", "p"), "there is no folder"),
    "folder of a folder": (("--store", "files:no/a", "--agent", "echo", "p"), "there is no folder"),
    "a folder": (("--store", "sqlite:.", "--agent", "echo", "p"), "is a folder"),
    "agent": ((*RUN[1:], "nope", "p"), "unknown agent 'nope': expected echo, ledger:FILE, flaky"),
    "module": ((*RUN[1:], "nope:x", "p"), "no module 'nope'"),
    "attribute": ((*RUN[1:], "json:nope", "p"), "module json has no attribute 'nope'"),
    "no turn": ((*RUN[1:], "json:dumps", "p"), "expected an async function, not"),
    "ledger": ((*RUN[1:], "ledger:no/l", "p"), "cannot write no/l: No such file"),
    "flaky": ((*RUN[1:], "flaky:many", "p"), "'many' is not a number"),
    "no file": ((*RUN[1:], "echo", "none"), "none: No such file or directory"),
    "unreadable": ((*RUN[1:], "echo", "."), ".: Is a directory"),
    "empty": ((*RUN[1:], "echo", "empty"), "empty is empty: a JSON line for each prompt"),
    "blank": ((*RUN[1:], "echo", "blank"), "blank is empty: a JSON line for each prompt"),
}


@pytest.mark.parametrize("name", USELESS)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    arguments, reason = USELESS[name]
    prompts(tmp_path / "p", [HELLO])
    (tmp_path / "wide").write_bytes('{"session": "a"}\n'.encode("utf-16"))
    (tmp_path / "packed").write_bytes(gzip.compress(b"{}", mtime=0))
    (tmp_path / "base").write_bytes(b"SQLite format 3\0" + bytes(84))
    (tmp_path / "empty").touch()
    (tmp_path / "blank").write_text("\n  \n")

    ran = tenure("run", *arguments, cwd=tmp_path)

    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert reason in ran.err
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize("option", ["--grace", "--patience"])
def test_a_time_that_is_no_number_is_refused(tmp_path: Path, option: str) -> None:
    prompts(tmp_path / "p", [HELLO])

    ran = tenure(*RUN, "echo", option, "nan", "p", cwd=tmp_path)

    assert ran.code == 2 and "'nan' is not a number of seconds" in ran.last
