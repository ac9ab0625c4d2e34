"""Every example in the help of a command runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
from cli_process import HELLO, prompts, tenure

from tenure_drivers.cli.main import tenure as program

EXAMPLE = re.compile(r"^ +tenure (.+)$", re.MULTILINE)
SERVER = re.compile(r"postgresql://[\w@/?=]+")  # no server is there: the example runs on a file
SERVICE = "work "  # never ends; tests/cli/test_cli_work.py runs it
ALL_MODELS = "check"  # takes long; tests/check/test_explorer.py checks every model


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context := click.Context(command)):
            child = command.get_command(context, name)
            assert child is not None, name
            yield from commands(child)


def examples() -> list[str]:
    """The examples, without what a pipe or an explanation adds; those that write a store come first."""
    found = [
        re.split(r" \| | {2,}", line)[0].strip()
        for command in commands(program)
        for line in EXAMPLE.findall(command.help or "")
    ]
    return sorted(dict.fromkeys(found), key=lambda line: not line.startswith(("run ", "demo ")))


def test_every_example_of_a_help_text_runs(tmp_path: Path) -> None:
    prompts(tmp_path / "prompts.jsonl", [HELLO])
    prompts(tmp_path / "conversation.json", [{"role": "user", "content": "hello"}])
    ran = []
    for line in examples():
        if line == ALL_MODELS or line.startswith(SERVICE):
            continue
        line, _, redirected = line.partition(" > ")
        store = "sqlite:copy.db" if "store import" in line else "sqlite:agent.db"
        words = shlex.split(SERVER.sub(store, line))
        if words[0] == "ask":  # nobody works on the store
            words += ["--within", "0"]
        done = tenure(*[word for word in words if word != "--follow"], cwd=tmp_path)
        if redirected:
            (tmp_path / redirected).write_text(done.out, encoding="utf-8")
        if words[0] == "decide":  # its ticket is made up
            assert done.code == 1 and "there is no ticket" in done.err, (line, done.err)
        elif words[0] in ("job", "signal", "cancel-job", "abandon"):  # likewise its job
            assert done.code == 1 and "the store has no" in done.err, (line, done.err)
        elif words[0] == "ask":
            assert done.code == 3 and "was withdrawn" in done.err, (line, done.err)
        else:
            assert done.code == 0, (line, done.err)
        ran.append(words[0])

    assert set(ran) == {
        "run", "submit", "ask", "steer", "inspect", "show", "events", "store", "check", "explain",
        "interrupt", "dead", "tickets", "decide", "sessions", "destroy", "fork", "import",
        "ps", "job", "signal", "cancel-job", "abandon", "drain", "outbound", "triggers",
    }  # fmt: skip
