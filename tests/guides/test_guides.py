"""Every code block of the README and of the guides is run, in the order of its page, in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from guide_blocks import Block, Malformed, agrees, blocks_of, run_page, typed
from paths import ROOT, SPECS, SUPPORT
from pg_server import drop, needed, shared
from psycopg.conninfo import conninfo_to_dict

GUIDES = sorted((SPECS / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *GUIDES]
POSTGRES = "postgresql://me@db/agents"  # stands in a page for the reader's server
KEY = "sk-guides-0123456789"


def name_of(page: Path) -> str:
    return page.stem


@contextmanager
def model_server() -> Iterator[dict[str, str]]:
    """The environment that leads to a model on loopback."""
    command = [sys.executable, str(SUPPORT / "model_server.py"), "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield {"OPENAI_BASE_URL": server.stdout.readline().strip(), "OPENAI_API_KEY": KEY}
        finally:
            server.kill()


@contextmanager
def postgres(name: str) -> Iterator[str]:
    """The URL of a schema on the tests' server, in the place of the page's."""
    needed()
    database, schema = conninfo_to_dict(shared()), f"guide_{name.replace('-', '_')}_{os.getpid()}"
    host = str(database["host"]).replace("/", "%2F")
    try:
        yield (
            f"postgresql://{database['user']}@/{database['dbname']}"
            f"?host={host}&tenure_schema={schema}"
        )
    finally:
        drop(shared(), schema)


def _marks(page: Path) -> list[pytest.MarkDecorator]:
    text = page.read_text(encoding="utf-8")
    return [pytest.mark.postgres] if POSTGRES in text else []


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=_marks(page), id=name_of(page)) for page in PAGES]
)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if "openai" in text and importlib.util.find_spec("openai") is None:
        pytest.skip("openai is not installed: install the extra 'test'")
    with model_server() as environment:
        if POSTGRES not in text:
            count = run_page(page, tmp_path, environment, {})
        else:
            with postgres(name_of(page)) as url:
                count = run_page(page, tmp_path, environment, {POSTGRES: url})

    assert count > 0 or not _of_code(page)


def _of_code(page: Path) -> list[Block]:
    return [b for b in blocks_of(page.read_text(encoding="utf-8")) if b.language != "mermaid"]


def test_there_is_a_guide_for_each_line_of_the_readme() -> None:
    linked = re.findall(r"\(specs/guides/([a-z-]+\.md)\)", (ROOT / "README.md").read_text())

    assert sorted(set(linked)) == [page.name for page in GUIDES]


@pytest.mark.parametrize("page", [*PAGES, *sorted(SPECS.glob("*.md"))], ids=name_of)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if ":" not in link and not (page.parent / link).exists()]

    assert broken == []


@pytest.mark.parametrize("page", [*PAGES, *sorted(SPECS.glob("*.md"))], ids=name_of)
def test_a_path_that_a_page_names_exists(page: Path) -> None:
    """Diagrams and prose name files of the checkout; they move."""
    named = re.findall(r"\b(?:kernel|drivers|tests|specs)/[\w./-]*[\w/]", page.read_text())
    missing = [path for path in named if not (ROOT / path).exists()]

    assert missing == []


# -- the blocks themselves: a block that would not be run must be noticed


@pytest.mark.parametrize(
    "page",
    [
        "```ini\n[unit]\n```\n",
        "```\nls\n```\n",
        "    indented = 1\n",
        "- a list:\n\n  ```sh\n  ls\n  ```\n",
        "~~~sh\nls\n~~~\n",
        "```sh\nls\n",
    ],
)
def test_a_block_that_nothing_runs_is_refused(page: str) -> None:
    with pytest.raises(Malformed):
        blocks_of(page)


def test_a_block_is_saved_run_or_left_out_with_a_reason() -> None:
    page = (
        "Save this as `a.py`:\n\n```python\nx = 1\n```\n\n"
        "*Not run by the tests: it needs\nroot.*\n\n```sh\nreboot\n```\n\n```sh\nls\n```\n"
    )

    saved, left_out, run = blocks_of(page)

    assert (saved.name, saved.reason) == ("a.py", None)
    assert (left_out.name, left_out.reason) == (None, "it needs root")
    assert (run.name, run.reason) == (None, None)


def test_a_console_is_commands_and_what_they_print() -> None:
    (block,) = blocks_of("```console\n$ echo a \\\n> b\na b\n$ true\n```\n")

    first, second = typed(block)

    assert (first.command, first.expected) == ("echo a \\\nb", ("a b",))
    assert (second.command, second.expected) == ("true", ())


def test_dots_stand_for_text_and_for_lines() -> None:
    assert agrees(("a ... c", "...", "z"), "a b c\nd\ne\nz\n")
    assert agrees(("a", "..."), "a\n")
    assert agrees((), "\n")
    assert not agrees(("a",), "a\nb\n")
    assert not agrees(("a ... c",), "a b d\n")
    assert not agrees((), "a\n")


@pytest.mark.parametrize(
    "block",
    [
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ false\n```\n",
        "```sh\nfalse\n```\n",
        "```python\nprint(1)\n```\n",
        "```python\nraise SystemExit(1)\n```\n",
    ],
)
def test_a_block_that_is_wrong_fails(block: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(block)

    with pytest.raises(AssertionError):
        run_page(page, tmp_path, {}, {})


def test_a_shell_keeps_its_variables_and_jobs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nNAME=ann\nsleep 60 &\n```\n\n"
        "```console\n$ echo $NAME\nann\n$ kill -9 $!\n$ false\n$ echo $?\n1\n```\n"
    )

    assert run_page(page, tmp_path, {}, {}) == 2
