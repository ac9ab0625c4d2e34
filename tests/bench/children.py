"""Measuring in processes of their own: one window for all of them, and what they write, looked at from outside."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .measure import Missing, Sample
from .window import MARK

TESTS = Path(__file__).resolve().parent.parent
SUPPORT = TESTS / "support"
PATIENCE_S = 90.0
WARM_S = 0.3


class Child:
    """A process that talks in lines of JSON.  Dies with the block that it is made in."""

    def __init__(self, python: str, module: str, words: Mapping[str, Any]) -> None:
        self.name = module.rsplit(".", 1)[-1]
        self._errors = tempfile.TemporaryFile("w+")
        path = os.pathsep.join((str(TESTS), str(SUPPORT)))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [python, "-m", module, json.dumps(words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, env=environment,
        )  # fmt: skip
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                self._lines.put(json.loads(line[len(MARK) :]))
        self._lines.put(None)

    def hear(self, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        try:
            said = self._lines.get(timeout=patience_s)
        except queue.Empty:
            raise RuntimeError(f"{self.name} said nothing for {patience_s:.0f} s") from None
        if said is None:
            raise RuntimeError(f"{self.name} ended: {self._last_words()}")
        if "missing" in said:
            raise Missing(said["missing"])
        return said

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `hear` says why it is gone
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()

    def written(self) -> int:
        """Bytes this process has made the kernel write, as the kernel counts them: pages it made dirty."""
        try:
            text = Path(f"/proc/{self.process.pid}/io").read_text()
        except OSError:
            return 0
        counts = dict(line.split(": ") for line in text.splitlines())
        return int(counts["write_bytes"])

    def _last_words(self) -> str:
        self.process.wait(10)
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return (lines[-1] if lines else f"exit code {self.process.returncode}")[:300]

    def close(self) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reading.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


@contextlib.contextmanager
def children(
    python: str, module: str, wordings: Sequence[Mapping[str, Any]]
) -> Iterator[list[Child]]:
    made: list[Child] = []
    try:
        for words in wordings:
            made.append(Child(python, module, words))
        yield made
    finally:
        for child in made:
            child.close()


def together(
    python: str,
    module: str,
    wordings: Sequence[Mapping[str, Any]],
    seconds: float,
    warm_s: float = WARM_S,
    written: Callable[[], int] | None = None,
) -> Sample:
    """Let these processes work in one window.  `written` counts bytes elsewhere than in the processes themselves."""
    with children(python, module, wordings) as working:
        for child in working:
            child.hear()
        count = written or (lambda: sum(child.written() for child in working))
        before = count()
        begin = time.monotonic() + warm_s
        for child in working:
            child.tell(f"{begin!r} {begin + seconds!r}")
        said = [child.hear(PATIENCE_S + seconds) for child in working]
        wrote = count() - before
        for child in working:
            child.tell("bye")
    items, all_items = sum(s["items"] for s in said), sum(s["all_items"] for s in said)
    commits = sum(s.get("commits", 0) for s in said)
    taken = tuple([ms for s in said for ms in s["taken_ms"]])
    return Sample(
        items,
        seconds,
        taken,
        wrote / all_items if wrote and all_items else None,
        commits / all_items if commits and all_items else None,
    )
