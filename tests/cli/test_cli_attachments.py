"""`tenure store check --blobs` compares attachments with their bytes; `tenure show` names them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import prompts
from cli_process import tenure as process

from tenure_drivers import Runtime
from tenure_drivers.blobs.base import digest_of
from tenure_drivers.blobs.folder import FolderStore
from tenure_drivers.cli.main import tenure
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.registry import open_store

Run = Callable[..., tuple[int, str, str]]
PICTURE, LOST = b"a picture", b"lost"


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            tenure.main(list(words), prog_name="tenure")
        out, err = capfd.readouterr()
        return int(str(left.value.code or 0)), out, err

    return call


async def agent(turn: Turn) -> str:
    await turn.attach(PICTURE, "image/png")
    await turn.attach(LOST, "image/png")
    return "done"


async def fill(folder: Path) -> None:
    store, blobs = open_store(f"sqlite:{folder / 'a.db'}"), FolderStore(folder / "bytes")
    async with Runtime(store, agent, blobs=blobs) as runtime:
        made = await runtime.attach("s", b"a plan", "text/plain", "plan.txt")
        await runtime.run("s", "draw", 20, attachments=[made])
    await store.aclose()


async def change(folder: Path) -> None:
    blobs = FolderStore(folder / "bytes")
    await blobs.delete("s", digest_of(LOST)[0])
    await blobs.put("s", digest_of(b"late")[0], b"late")
    await blobs.put("t", digest_of(b"other")[0], b"other")


def test_check_compares_attachments_and_bytes(tmp_path: Path, run: Run) -> None:
    asyncio.run(fill(tmp_path))
    url, blobs = f"sqlite:{tmp_path / 'a.db'}", f"folder:{tmp_path / 'bytes'}"
    command = ("store", "check", "--store", url, "--blobs")
    assert run(*command, blobs)[:2] == (0, "")

    asyncio.run(change(tmp_path))
    code, out, err = run(*command, blobs)

    assert code == 1 and "1 session checked, 3 violations" in err
    first, second, third = out.splitlines()
    assert first.startswith("s: attachment ") and first.endswith(digest_of(LOST)[0])
    assert second == f"s: bytes of no attachment: digest {digest_of(b'late')[0]}"
    assert third.startswith("bytes of no session: key ")
    assert "2 violations" in run(*command, blobs, "s")[2]  # others belong to sessions not asked for


def test_check_says_which_bytes_it_cannot_list(tmp_path: Path, run: Run) -> None:
    asyncio.run(fill(tmp_path))
    url = f"sqlite:{tmp_path / 'a.db'}"

    code, _, err = run("store", "check", "--store", url, "--blobs", "nothing:")
    assert code == 2 and "nothing: cannot list what it holds" in err

    code, _, err = run("store", "check", "--store", url, "--blobs", "nowhere")
    assert code == 2 and "unknown URL of attachments 'nowhere'" in err


def test_show_names_the_attachments_of_a_prompt(tmp_path: Path, run: Run) -> None:
    asyncio.run(fill(tmp_path))

    code, out, _ = run("show", "--store", f"sqlite:{tmp_path / 'a.db'}", "s")

    assert code == 0 and "[plan.txt (text/plain)]" in out


@pytest.mark.parametrize("store", ["sqlite:a.db", "files:a"])
def test_agents_of_tenure_run_attach(tmp_path: Path, store: str) -> None:
    """In worker processes, and in the process of the command line for a store that supports one process only."""
    (tmp_path / "drawing.py").write_text(DRAWING)
    prompts(tmp_path / "p", [{"session": "s", "text": "draw"}])
    words = ("run", "--store", store, "--agent", "drawing:agent")

    done = process(*words, "--blobs", "folder:bytes", "p", cwd=tmp_path)

    assert done.code == 0, done.err
    assert done.lines[0]["text"] == "folder"
    stored = [path for path in (tmp_path / "bytes").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in stored] == [PICTURE]
    wrong = process(*words, "--blobs", "tape:1", "p", cwd=tmp_path)
    assert wrong.code == 2
    assert "--blobs: unknown URL of attachments 'tape:1'" in wrong.err


DRAWING = """
import os

async def agent(turn):
    await turn.attach(b"a picture", "image/png")
    return os.environ.get("TENURE_WORKER_BLOBS", "folder")  # which workers do not pass on
"""
