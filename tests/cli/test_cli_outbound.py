"""`tenure outbound`: what could not be delivered is listed, and a person sends it again."""

from __future__ import annotations

from pathlib import Path

from cli_process import prompts, tenure

STORE = ("--store", "sqlite:a.db")
AGENT = """
async def agent(turn):
    if turn.session_id == "bob":
        return f"heard {turn.text}"
    await turn.send("bob", turn.text)
    return "told"
"""


def test_what_bob_could_not_get_is_sent_again(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(AGENT)

    def run(session: str, text: str) -> None:
        prompts(tmp_path / "p", [{"session": session, "key": text.replace(" ", "-"), "text": text}])
        ran = tenure("run", *STORE, "--agent", "mine:agent", "p", cwd=tmp_path)
        assert ran.code == 0, ran.err

    run("bob", "hello")
    assert tenure("retire", *STORE, "bob", cwd=tmp_path).code == 0
    run("ann", "a secret")
    run("ann", "more")
    (first, second) = tenure("outbound", *STORE, cwd=tmp_path).lines
    assert first == {
        **{"session": "ann", "number": 1, "to": "bob", "peer": None, "command": "Admit"},
        **{"status": "undeliverable", "due_at_ms": None, "attempts": 1, "error": None},
        **{"refusal": "phase (INBOX-3)", "detail": "input 0: retired", "at_ms": first["at_ms"]},
    }
    assert tenure("outbound", *STORE, "ann", cwd=tmp_path).lines == [first, second]

    assert tenure("reopen", *STORE, "bob", cwd=tmp_path).code == 0
    again = tenure("outbound", *STORE, "ann", "--retry", "1", cwd=tmp_path)
    assert (again.code, again.lines) == (0, [{"session": "ann", "number": 3}]), again.err
    (kept, sent) = tenure("outbound", *STORE, "ann", cwd=tmp_path).lines
    assert (kept["number"], sent["number"], sent["status"]) == (2, 3, "due")
    missing = tenure("outbound", *STORE, "bob", "--retry", "7", cwd=tmp_path)
    assert missing.code == 1 and "no. 7: unknown_outbound" in missing.err, missing.err
    run("bob", "go on")

    shown = tenure("show", *STORE, "bob", cwd=tmp_path)
    assert "a secret" in shown.out, shown.out
    assert [e["number"] for e in tenure("outbound", *STORE, "ann", cwd=tmp_path).lines] == [2]
