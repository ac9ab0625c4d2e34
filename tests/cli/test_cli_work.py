"""`tenure work` serves a store until a signal, over deaths of its workers."""

from __future__ import annotations

import signal
from pathlib import Path

from cli_process import finish, kill, start, tenure, until, workers_of

STORE = ("--store", "sqlite:a.db")


def test_work_is_done_until_a_signal_asks_for_the_end(tmp_path: Path) -> None:
    service = start("work", *STORE, "--agent", "echo", "--workers", "2", cwd=tmp_path)
    until(lambda: len(workers_of(service)) == 2, service)

    first = tenure("submit", *STORE, "--wait", "60", "ann", "hello", cwd=tmp_path)
    for pid in workers_of(service):
        kill(pid)
    second = tenure("ask", *STORE, "ann", "are you there?", cwd=tmp_path)
    service.send_signal(signal.SIGTERM)
    ended = finish(service)

    assert (first.code, first.lines[0]["text"]) == (0, "hello")
    assert (second.code, second.out) == (0, "are you there?\n")
    assert ended.code == 0 and ended.out == ""
    assert "2 workers on sqlite:a.db, agent echo" in ended.err
    assert ended.err.count("killed by SIGKILL; starting another") == 2


def test_a_store_that_one_process_opens_cannot_be_served(tmp_path: Path) -> None:
    refused = tenure("work", "--store", "files:f", "--agent", "echo", cwd=tmp_path)
    assert refused.code == 2 and "use sqlite: or postgresql:" in refused.err
    unknown = tenure("work", *STORE, "--agent", "nothing", cwd=tmp_path)
    assert unknown.code == 2 and "--agent" in unknown.err and not (tmp_path / "a.db").exists()
