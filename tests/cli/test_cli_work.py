"""`tenure work` serves a store until a signal, over deaths of its workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
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


JOBS = """
from tenure_drivers import job

@job(disposition="rerunnable", events={"waits": None})
async def guided(work, name):
    await work.emit("waits")
    return [name, await work.wait_signal("go")]
"""
REGISTER = """
import asyncio
from mine import guided
from tenure_drivers import Client, Process, open_store

async def main():
    store = open_store("sqlite:a.db")
    client = Client(store)
    await client.start_job(guided, "ann", job_id="g", origin="ann")
    await client.start_job(Process(["sleep", "1000"]), job_id="p")
    await store.aclose()

asyncio.run(main())
"""


def test_a_worker_executes_jobs_which_are_listed_signalled_and_cancelled(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(JOBS)
    (tmp_path / "register.py").write_text(REGISTER)
    names = ("--jobs", "mine:guided", "--jobs", "process")
    service = start("work", *STORE, "--agent", "echo", *names, cwd=tmp_path)
    until((tmp_path / "a.db").exists, service)
    subprocess.run([sys.executable, "register.py"], cwd=tmp_path, check=True)

    def status_of(job_id: str) -> str:
        (found, *_) = tenure("job", *STORE, job_id, cwd=tmp_path).lines
        return str(found["status"])

    until(lambda: status_of("p") == "started", service)
    listed = {line["job"]: line for line in tenure("ps", *STORE, cwd=tmp_path).lines}
    assert set(listed) == {"g", "p"}
    assert listed["p"]["pid"] and listed["p"]["disposition"] == "owner_bound"
    of_session = tenure("ps", *STORE, "--session", "ann", cwd=tmp_path).lines
    assert [line["job"] for line in of_session] == ["g"]

    refused = tenure("signal", *STORE, "g", "go", '{"fast": NaN}', cwd=tmp_path)
    assert refused.code == 2 and refused.err.endswith("nan at $.fast is not JSON\n")
    told = tenure("signal", *STORE, "g", "go", '{"fast": true}', "--id", "1", cwd=tmp_path)
    assert told.lines == [{"job": "g", "signal": "go", "number": 1}]
    until(lambda: status_of("g") == "completed", service)
    done, event = tenure("job", *STORE, "g", "--events", cwd=tmp_path).lines
    assert json.loads(done["output"]) == ["ann", {"fast": True}]
    assert (event["seq"], event["type"]) == (1, "waits")

    asked = tenure("cancel-job", *STORE, "p", "--by", "ada", cwd=tmp_path)
    assert asked.lines == [{"job": "p", "asked": "cancel", "ended": False}]
    until(lambda: status_of("p") == "cancelled", service)
    again = tenure("abandon", *STORE, "p", cwd=tmp_path)
    assert again.code == 1 and "it has ended already: cancelled" in again.err
    assert tenure("ps", *STORE, cwd=tmp_path).lines == []
    every = tenure("ps", *STORE, "--all", "--limit", "1", cwd=tmp_path).lines
    assert [line.get("job") for line in every] == ["p", None]

    service.send_signal(signal.SIGTERM)
    assert finish(service).code == 0


def test_unknown_jobs_are_refused(tmp_path: Path) -> None:
    for name in ("nothing", "nothing:here"):
        refused = tenure("work", *STORE, "--agent", "echo", "--jobs", name, cwd=tmp_path)
        assert refused.code == 2 and "--jobs: unknown job" in refused.err
