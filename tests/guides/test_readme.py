"""The README's example is run as it stands, in a folder of its own."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from cli_process import TENURE
from paths import ROOT, SUPPORT
from pg_server import drop, shared
from psycopg.conninfo import conninfo_to_dict

README = ROOT / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def run(source: str, folder: pathlib.Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example_charges_once_and_answers_the_same_when_it_is_run_again(
    tmp_path: pathlib.Path,
) -> None:
    example, _ = blocks("python")

    first, second = run(example, tmp_path), run(example, tmp_path)

    assert first[0].startswith("charging 42 under ")
    assert first[1:] == ["one ticket: charged 42"]
    assert second == ["one ticket: charged 42"]


def test_the_chat_agent_calls_its_once_tool_once(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("openai")
    _, example = blocks("python")
    server = subprocess.Popen(
        [sys.executable, SUPPORT / "model_server.py", "--seed", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert server.stdout is not None
            there = {
                "OPENAI_BASE_URL": server.stdout.readline().strip(),
                "OPENAI_API_KEY": "sk-readme-0123456789",
            }

            first, second = run(example, tmp_path, **there), run(example, tmp_path, **there)
        finally:
            server.kill()

    assert re.fullmatch(r"charging \d under .+:1:tool:0", first[0])  # the server's model chose so
    assert first[1].endswith(": One ticket for 42 dollars, please.")
    assert second == first[1:]


@pytest.mark.postgres
def test_whoever_runs_the_line_joins_in(tmp_path: pathlib.Path) -> None:
    """On many machines, which differ in nothing that counts from many processes that share no folder."""
    (line,) = re.findall(
        r"^    (tenure run --store postgresql://\S+ .*?)   ", README.read_text(), re.M
    )
    database, schema = conninfo_to_dict(shared()), f"readme_{os.getpid()}"
    host = str(database["host"]).replace("/", "%2F")
    url = (
        f"postgresql://{database['user']}@/{database['dbname']}?host={host}&tenure_schema={schema}"
    )
    prompts = [json.dumps({"session": f"s{at % 5}", "text": f"hello {at}"}) for at in range(30)]
    words = (
        line.replace("postgresql://me@db/agents", url)
        .replace("mine:agent", "echo")
        .replace(" 8 ", " 2 ")
        .split()
    )
    machines = []
    try:
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "prompts.jsonl").write_text("\n".join(prompts))
            command = [*TENURE, *words[1:]]
            machines.append(
                subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            )
        said = [machine.communicate(timeout=90)[0] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
        drop(shared(), schema)

    assert [machine.returncode for machine in machines] == [0, 0]
    assert said[0] == said[1] and len(said[0].splitlines()) == len(prompts)


@pytest.mark.parametrize("folder", ["kernel/tenure", "drivers/tenure_drivers", "specs", "tests"])
def test_the_map_names_folders_that_exist(folder: str) -> None:
    assert f"`{folder}/`" in README.read_text()
    assert (README.parent / folder).is_dir()
