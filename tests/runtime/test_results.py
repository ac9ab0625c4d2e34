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


def test_keys_that_are_one_key_in_json_are_refused_with_their_place() -> None:
    """Of two equal keys one would be lost at every replay."""

    def counts() -> dict[str, Any]:
        return {"by id": [{1: "a", "1": "b"}]}

    async def plain(turn: Turn) -> str:
        return repr(await turn.step("counts", counts))

    said = "step counts#1 returned the equal keys 1 and '1' at $.by id[0], which is not JSON"
    assert said in ask(plain).reason


def test_keys_that_differ_in_json_are_legal() -> None:
    from tenure_drivers.runtime.steps import pack

    body, value = pack("x#1", {1: "a", "01": "é", "x": {1: 0, 2.5: 10**30}}, Any)

    assert value == {"1": "a", "01": "é", "x": {"1": 0, "2.5": 10**30}}
    assert body.startswith('{"value":{"1":"a","01":"é"')


def test_a_recorded_null_is_replayed_as_it_was() -> None:
    from tenure_drivers.runtime.steps import unpack

    assert unpack("mean#1", '{"value":null}', float) is None


class ModelRetry(Exception):
    """An exception of a library, with data."""


def test_the_data_of_an_exception_that_passes_is_checked_too() -> None:
    def ask_again() -> None:
        raise ModelRetry({"score": math.nan})

    async def agent(turn: Turn) -> str:
        return repr(await turn.once("ask", ask_again, passes=(ModelRetry,)))

    said = "step ask#1 raised ModelRetry, whose data is not JSON: nan at $.args[0].score"
    assert said in ask(agent).reason
