"""Read the code blocks of a guide, and run them as its reader would: in one folder, in one shell.

Save a block         "Save this as `NAME`" in the paragraph before a block makes it the file NAME.
Run a program        a ```python block without a name is run as a program; it must succeed and print nothing.
Type commands        ```console: lines after `$ ` are typed (`> ` goes on); the other lines are what is printed.
                     In them `...` stands for any text, and a line of `...` for any lines.
                     ```sh: each line is typed, and what it prints is not compared.
A command must succeed, unless the next one of the block is `echo $?`.
A diagram            ```mermaid is not run.
Leave a block out    the paragraph before it is "*Not run by the tests: REASON.*", in sight of the reader.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

NAMED = re.compile(r"\b[Ss]ave (?:\w+ )+as `([^`\s]+)`")
NOT_RUN = re.compile(r"^\*Not run by the tests: (.+)\.\*$", re.DOTALL)
JOB_ENDED = re.compile(r"^bash: line \d+: +\d+ (?:Killed|Terminated) .*\n?", re.MULTILINE)
LANGUAGES = ("python", "console", "sh")
TIMEOUT_S = 200.0


class Malformed(Exception):
    """A block that nothing would run, and that does not say why."""


@frozen
class Block:
    language: str
    text: str
    line: int  # of the opening fence
    name: str | None = None  # the file to save it as
    reason: str | None = None  # why it is not run


@frozen
class Typed:
    command: str
    expected: tuple[str, ...] | None  # None: not compared


def blocks_of(page: str) -> tuple[Block, ...]:
    """Return every code block.  Raises Malformed for one that would be left out in silence."""
    found: list[Block] = []
    paragraph: list[str] = []  # the last one
    ended = False
    lines = iter(enumerate(page.splitlines(), 1))
    for at, line in lines:
        fence = re.match(r"( *)(`{3,}|~{3,})(.*)$", line)
        if fence is not None:
            if fence[1] or fence[2] != "```":
                raise Malformed(f"line {at}: a code block begins with ``` at the margin")
            found.append(_block(fence[3], at, " ".join(paragraph), lines))
            paragraph = []
        elif not line.strip():
            ended = True
        elif line.startswith("    ") and (ended or not paragraph):
            raise Malformed(f"line {at}: an indented code block is not run; put it between ```")
        else:
            paragraph = [line.strip()] if ended else [*paragraph, line.strip()]
            ended = False
    return tuple(found)


def _block(info: str, at: int, paragraph: str, lines: Iterator[tuple[int, str]]) -> Block:
    inside: list[str] = []
    for _, line in lines:
        if line == "```":
            break
        inside.append(line)
    else:
        raise Malformed(f"line {at}: the block does not end")
    named, left_out = NAMED.search(paragraph), NOT_RUN.match(paragraph)
    name = named[1] if named else None
    reason = left_out[1] if left_out else None
    if info == "mermaid" or name is not None or reason is not None or info in LANGUAGES:
        return Block(info, "\n".join(inside) + "\n", at, name, reason)
    raise Malformed(
        f"line {at}: a block of {info or 'no language'!r} is not run and does not say why"
    )


def typed(block: Block) -> tuple[Typed, ...]:
    """Return the commands of a shell block, with what they print."""
    lines = block.text.splitlines()
    if block.language == "sh":
        return tuple(Typed(command, None) for command in _joined(lines))
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            command, printed = found[-1]
            found[-1] = (f"{command}\n{line[2:]}", printed)
        elif found:
            found[-1][1].append(line)
        else:
            raise Malformed(f"line {block.line}: a console begins with a command: `$ ...`")
    return tuple(Typed(command, tuple(printed)) for command, printed in found)


def _joined(lines: list[str]) -> list[str]:
    """Without comments; a line that ends in a backslash goes on."""
    text = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    return [command for command in re.split(r"(?<!\\)\n", text) if command]


def agrees(expected: tuple[str, ...], printed: str) -> bool:
    """Does the output look like what the page shows?"""
    while expected and not expected[-1].strip():
        expected = expected[:-1]
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pieces = [re.escape(piece) for piece in line.rstrip().split("...")]
            pattern += "[^\n]*?".join(pieces) + r"[ ]*\n"
    text = printed.rstrip("\n") + "\n" if printed.strip() else ""
    return re.fullmatch(pattern, text) is not None


# -- a shell


def _terminal() -> dict[str, str]:
    scripts = Path(sys.executable).parent  # `python`, `tenure`
    return {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error::DeprecationWarning",
        "TERM": "dumb",
        "COLUMNS": "200",
        "LC_ALL": "C.UTF-8",
    }


class Shell:
    """One bash, as the terminal of the reader: folder, variables and background jobs stay from block to block."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._mark = f"done-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env={**os.environ, **_terminal(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def type(self, command: str) -> tuple[int, str]:
        """Run a command; return its exit code and what it printed."""
        assert self._process.stdin is not None
        mark = f"__code=$?; printf '\\n%s %d\\n' {self._mark} $__code; (exit $__code)\n"
        self._process.stdin.write(f"{command}\n{mark}".encode())
        self._process.stdin.flush()
        printed = self._until_mark(command)
        text, _, rest = printed.rpartition(f"\n{self._mark} ")
        return int(rest.splitlines()[0]), JOB_ENDED.sub("", text)

    def _until_mark(self, command: str) -> str:
        assert self._process.stdout is not None
        end, said = time.monotonic() + TIMEOUT_S, b""
        marked = re.compile(rb"\n" + self._mark.encode() + rb" \d+\n")
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while marked.search(said) is None:
                if not selector.select(max(end - time.monotonic(), 0)):
                    raise AssertionError(f"{command!r} did not end; it printed:\n{said.decode()}")
                piece = os.read(self._process.stdout.fileno(), 65536)
                if not piece:
                    raise AssertionError(
                        f"{command!r} ended the shell; it printed:\n{said.decode()}"
                    )
                said += piece
        return said.decode().rstrip("\n")

    def close(self) -> None:
        """End the shell and what it has left running."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


# -- a page


def run_page(
    page: Path, folder: Path, environment: Mapping[str, str], stands_for: Mapping[str, str]
) -> int:
    """Run all blocks of a page in its order; return how many.  `stands_for`: names of the page, and what is there."""
    count = 0
    shell = Shell(folder, environment)
    try:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            if block.reason is not None or block.language == "mermaid":
                continue
            text = block.text
            for name, there in stands_for.items():
                text = text.replace(name, there)
            _run(Block(block.language, text, block.line, block.name), shell, page, stands_for)
            count += 1
    finally:
        shell.close()
    return count


def _run(block: Block, shell: Shell, page: Path, stands_for: Mapping[str, str]) -> None:
    where = f"{page.name}:{block.line}"
    if block.name is not None:
        (shell.folder / block.name).write_text(block.text, encoding="utf-8")
        return
    if block.language == "python":
        program = shell.folder / f"block_{block.line}.py"
        program.write_text(block.text, encoding="utf-8")
        code, printed = shell.type(f"python {program.name}")
        assert (code, printed.strip()) == (0, ""), f"{where}: exit code {code}\n{printed}"
        return
    commands = typed(block)
    for at, each in enumerate(commands):
        code, printed = shell.type(each.command)
        following = commands[at + 1].command if at + 1 < len(commands) else ""
        shown = f"{where}: $ {each.command}\nexit code {code}\n{printed}"
        assert code == 0 or following == "echo $?", shown
        assert each.expected is None or agrees(each.expected, printed), (
            f"{shown}\n-- expected:\n" + "\n".join(each.expected)
        )
