"""Functions of other packages that their documentation does not promise: where we use them, and what was checked."""

from __future__ import annotations

import importlib.metadata
import sys

import attrs
import pytest
from attrs import define, frozen
from hypothesis import given
from hypothesis import strategies as st
from paths import DRIVERS, KERNEL

from tenure import transcript
from tenure.replace import replace

BORROWED = {  # a name, and the one module that may use it
    "c_make_encoder": "kernel/tenure/transcript.py",
    "__dictoffset__": "kernel/tenure/replace.py",
    "psycopg.generators": "drivers/tenure_drivers/stores/postgres/pipeline.py",
}
PSYCOPG_CHECKED = ("3.2", "3.3")

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("name", BORROWED)
def test_a_borrowed_name_is_used_in_one_module(name: str) -> None:
    using = [
        path.relative_to(KERNEL.parent.parent).as_posix()
        for root in (KERNEL, DRIVERS)
        for path in root.rglob("*.py")
        if name in path.read_text(encoding="utf-8")
    ]

    assert using == [BORROWED[name]]


@given(VALUES)
def test_the_encoder_of_json_in_c_writes_what_the_public_one_writes(value: object) -> None:
    """`json.encoder.c_make_encoder`, read in CPython 3.11; on any other version this test is the check."""
    assert transcript._canonical(value) == transcript._plain(value)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython has the encoder in C")
def test_the_encoder_in_c_is_there() -> None:
    assert transcript._chunks is not None


@frozen
class Narrow:
    a: int
    b: str


@frozen(slots=False)
class Wide:
    a: int
    b: str


@define
class OneField:
    a: int


def test_dictoffset_tells_slots_from_a_dict() -> None:
    """`type.__dictoffset__`, read in CPython 3.11; on any other version this test is the check."""
    assert (Narrow.__dictoffset__, bool(Wide.__dictoffset__)) == (0, True)


@pytest.mark.parametrize("record", (Narrow(1, "x"), Wide(1, "x"), OneField(1)))
def test_replace_gives_what_evolve_gives(record: Narrow | Wide | OneField) -> None:
    changed = replace(record, a=2)

    assert changed == attrs.evolve(record, a=2)
    assert changed != record
    assert changed.__class__ is record.__class__


def test_psycopg_is_a_version_whose_generators_were_read() -> None:
    """`psycopg.generators.pipeline_communicate`, `send` and `fetch_many`."""
    pytest.importorskip("psycopg")
    installed = importlib.metadata.version("psycopg")

    assert installed.startswith(tuple(f"{version}." for version in PSYCOPG_CHECKED)), (
        f"psycopg {installed} is installed, {PSYCOPG_CHECKED} were checked: compare psycopg/generators.py with "
        f"{BORROWED['psycopg.generators']}, run tests/stores/test_postgres.py, and add the version here"
    )
