"""`tenure fork` and `tenure import`."""

from __future__ import annotations

import json
from pathlib import Path

from cli_process import prompts, tenure

STORE = ("--store", "sqlite:a.db")
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def test_a_conversation_is_imported_forked_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"messages": MESSAGES}))
    prompts(tmp_path / "c.jsonl", MESSAGES)
    imported = [
        tenure("import", *STORE, "--from", "messages", name, file, "--label", "a=b", cwd=tmp_path)
        for name, file in (("one", "c.json"), ("two", "c.jsonl"), ("one", "c.json"))
    ]
    forked = tenure("fork", *STORE, "one", "three", cwd=tmp_path)
    prompts(tmp_path / "p", [{"session": "three", "text": "and now"}])
    ran = tenure("run", *STORE, "--agent", "echo", "p", cwd=tmp_path)

    assert [each.lines for each in imported] == [
        [{"session": name, "nodes": 2, "pages": 1}] for name in ("one", "two", "one")
    ]
    assert forked.lines == [
        {"session": "three", "origin": "one", "node": "message-2", "nodes": 2, "pages": 1}
    ]
    assert ran.code == 0
    shown = tenure("show", *STORE, "--json", "three", cwd=tmp_path).lines[0]["conversation"]
    assert [each["text"] for each in shown] == ["hi", "hello", "and now", "and now"]
    found = tenure("sessions", *STORE, "--label", "a=b", cwd=tmp_path).lines
    assert [each["session"] for each in found] == ["one", "two"]


def test_what_is_refused_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('[{"role": "ai"}]')
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "lone.json").write_text('[{"role": "tool", "content": "5", "tool_call_id": "x"}]')
    imports = {
        name: tenure("import", *STORE, "--from", "messages", "s", name, cwd=tmp_path)
        for name in ("bad.json", "no.json", "lone.json", "none.json")
    }

    assert {name: ran.code for name, ran in imports.items()} == {
        "bad.json": 2,
        "no.json": 2,
        "lone.json": 1,
        "none.json": 2,
    }
    assert "message 1: role" in imports["bad.json"].err
    assert "IMPORT-8" in imports["lone.json"].err
    assert tenure("fork", *STORE, "nobody", cwd=tmp_path).code == 1
    assert tenure("sessions", *STORE, cwd=tmp_path).lines == []
