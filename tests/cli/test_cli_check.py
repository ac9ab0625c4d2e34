"""`tenure check`: the examples of its help, its list of systems and its errors."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cli_process import tenure

from tenure.check import names


def examples(tmp_path: Path) -> list[list[str]]:
    """Return the examples of the help that name a system or an option."""
    lines = tenure("check", "--help", cwd=tmp_path).out.splitlines()
    found = [shlex.split(line) for line in lines if line.startswith("    tenure check")]
    assert found[0] == ["tenure", "check"]  # all systems: tests/check/test_explorer.py
    return [words[1:] for words in found[1:]]


def test_the_examples_of_the_help_work(tmp_path: Path) -> None:
    for arguments in examples(tmp_path):
        ran = tenure(*arguments, cwd=tmp_path)

        assert (ran.code, ran.out != "") == (0, True), (arguments, ran.err)


def test_a_system_has_one_line_and_the_properties_follow(tmp_path: Path) -> None:
    ran = tenure("check", "slots", cwd=tmp_path)

    first, _, heading, *properties = ran.out.splitlines()
    assert first.split()[:4] == ["ok", "slots", "975", "states"]
    assert heading == "No property is violated in 975 states.  The properties are:"
    assert "  - a once step runs at most once" in properties


@pytest.mark.parametrize("deep", [False, True])
def test_the_list_describes_each_system(deep: bool, tmp_path: Path) -> None:
    ran = tenure("check", "--list", *["--deep"] * deep, cwd=tmp_path)

    listed = [line.split(maxsplit=1) for line in ran.out.splitlines()]
    assert tuple(name for name, _ in listed) == names(deep)


def test_an_unknown_system_is_named(tmp_path: Path) -> None:
    ran = tenure("check", "leese", cwd=tmp_path)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("tenure check: unknown system leese; expected lease, failure, ")
