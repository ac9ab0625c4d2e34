"""What the README says beyond its code blocks, which `test_guides` runs."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest
from cli_process import TENURE
from guide_blocks import blocks_of
from paths import ROOT
from pg_server import drop, shared
from psycopg.conninfo import conninfo_to_dict

README = ROOT / "README.md"
TEST_COMMAND = "pytest"


@pytest.mark.postgres
def test_whoever_runs_the_line_joins_in(tmp_path: pathlib.Path) -> None:
    """On many machines, which differ in nothing that counts from many processes that share no folder."""
    (line,) = re.findall(r"^\$ (tenure run --store 'postgresql://.*)$", README.read_text(), re.M)
    database, schema = conninfo_to_dict(shared()), f"readme_{os.getpid()}"
    host = str(database["host"]).replace("/", "%2F")
    url = (
        f"postgresql://{database['user']}@/{database['dbname']}?host={host}&tenure_schema={schema}"
    )
    prompts = [json.dumps({"session": f"s{at % 5}", "text": f"hello {at}"}) for at in range(30)]
    words = shlex.split(line.replace("postgresql://me@db/agents", url))
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


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    commands = [
        line.split("#")[0].strip()
        for block in blocks_of(README.read_text())
        if block.language == "sh"
        for line in block.text.splitlines()
    ]
    shown = [c.removeprefix("uv run ").removeprefix(".venv/bin/") for c in commands]
    run = re.findall(r"^run (pytest\b.*?)(?: 2>&1.*)?$", (ROOT / ".ci" / "run").read_text(), re.M)

    assert [c for c in shown if c.startswith(TEST_COMMAND)] == [TEST_COMMAND, TEST_COMMAND]
    assert run == [TEST_COMMAND]


@pytest.mark.parametrize("folder", ["kernel/tenure", "drivers/tenure_drivers", "specs", "tests"])
def test_the_map_names_folders_that_exist(folder: str) -> None:
    assert f"`{folder}/`" in README.read_text()
    assert (README.parent / folder).is_dir()
