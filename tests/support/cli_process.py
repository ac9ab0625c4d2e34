"""`tenure` as a real process, for the tests of the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

TENURE = (sys.executable, "-P", "-c", "from tenure_cli import main; main()")
DEADLINE_S = 120.0
RUN = ("run", "--store", "sqlite:a.db", "--agent")
HELLO: Mapping[str, object] = {"session": "ann", "text": "hello"}
QUIET = {"TERM": "dumb", "COLUMNS": "200"}


@frozen
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1] if self.err else ""


def start(*arguments: object, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.Popen(
        [*TENURE, *map(str, arguments)],
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | QUIET,
        **options,
    )


FAILED = re.compile(r": (attempt \d+|tool \S+) failed: ")
CHAINED = ("The above exception was", "During handling of the above exception")


def own_tracebacks(err: str) -> list[int]:
    """Return the lines with a traceback that is not the logged failure of agent code."""
    lines = [line for line in err.splitlines() if line]
    before = dict(enumerate(lines, 1))
    starts = [at for at, line in enumerate(lines) if "Traceback" in line]
    return [
        at
        for at in starts
        if not FAILED.search(before.get(at, "")) and not before.get(at, "").startswith(CHAINED)
    ]


def finish(process: subprocess.Popen[str], text: str | None = None) -> Ran:
    out, err = process.communicate(text, timeout=DEADLINE_S)
    assert own_tracebacks(err) == [], err
    return Ran(process.returncode, out, err)


def tenure(*arguments: object, cwd: Path, text: str | None = None, **options: Any) -> Ran:
    if text is not None:
        options["stdin"] = subprocess.PIPE
    return finish(start(*arguments, cwd=cwd, **options), text)


def prompts(path: Path, lines: Iterable[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Poll until it is true; the deadline only ends a test that hangs."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        if process is not None and process.poll() is not None and not true():
            raise AssertionError(f"it ended with {process.returncode}: {finish(process).err}")
        if time.monotonic() > end:
            raise AssertionError("it did not become true")
        time.sleep(0.01)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    try:
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def some(number: int, sessions: int) -> Iterator[Mapping[str, object]]:
    for i in range(number):
        yield {"session": f"s{i % sessions}", "text": f"prompt {i}"}
