"""Results of steps that are not JSON."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import Any

import pytest

from tenure.questions.core import InputStatus
from tenure_drivers import Report, Runtime, Turn, open_store

WAIT_S = 30


def ask(agent: Any, text: str = "go") -> InputStatus:
    async def main() -> InputStatus:
        async with aclosing(open_store("memory:")) as store, Runtime(store, agent) as runtime:
            return await (await runtime.submit("s", text)).ended(WAIT_S)

    return asyncio.run(main())


def mean() -> float:
    return math.nan


def rows() -> dict[str, Any]:
    return {"rows": [{"mean": 1.5}, {"mean": -math.inf}], "none": None}


def test_a_step_that_returns_nan_fails_and_names_the_place() -> None:
    async def plain(turn: Turn) -> str:
        return repr(await turn.step("mean", mean))

    async def once(turn: Turn) -> str:
        return repr(await turn.once("rows", rows))

    first, second = ask(plain), ask(once)

    said = "invalid_request: IllegalResult: step mean#1 returned nan at $, which is not JSON"
    assert (first.termination, first.reason) == ("error", said)
    assert "step rows#1 returned -inf at $.rows[1].mean, which is not JSON" in second.reason


def test_what_a_probe_reports_is_checked_too() -> None:
    from tenure_drivers.runtime.steps import pack

    with pytest.raises(Exception, match=r"step x#1 returned inf at \$\[0\], which is not JSON"):
        pack("x#1", Report([math.inf]).value, Any)
    assert pack("x#1", {"a": None}, Any) == ('{"value":{"a":null}}', {"a": None})


def test_a_recorded_null_is_replayed_as_it_was() -> None:
    from tenure_drivers.runtime.steps import unpack

    assert unpack("mean#1", '{"value":null}', float) is None
