"""What makes a tool, what it tells the model, and what its arguments and results may be."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
from attrs import frozen

from tenure.messages.types import ToolCall
from tenure.turn.protocol import ToolResult
from tenure_drivers import tool
from tenure_drivers.agents.tools import FunctionTool, collect, make


def run(each: Any, arguments: str = "{}") -> ToolResult:
    (made,) = collect([each]).values()
    return asyncio.run(made.run(ToolCall("c", made.name, arguments), "the-key", 1))


def schema_of(each: Any) -> Any:
    (made,) = collect([each]).values()
    return json.loads(made.tool.schema)


# -- what makes a tool


class Shop:
    """A shop."""

    def __init__(self, name: str = "tea") -> None:
        self.name = name

    @tool(once=True)
    def buy(self, cents: int, key: str) -> str:
        """Buy it."""
        return f"{self.name} for {cents} under {key}"

    def plain(self, cents: int) -> str:
        return f"{self.name} for {cents}"

    async def later(self, cents: int) -> str:
        return f"{self.name} for {cents}"

    @tool
    @classmethod
    def create(cls, name: str) -> str:
        return f"{cls.__name__} {name}"

    @staticmethod
    @tool
    def inner(name: str) -> str:
        return name

    @tool
    @staticmethod
    def outer(name: str) -> str:
        return name

    def __call__(self, cents: int) -> str:
        """Call it."""
        return f"{self.name} for {cents}"


CENTS = '{"cents": 5}'
NAME = '{"name": "x"}'


@pytest.mark.parametrize(
    ("each", "arguments", "name", "text"),
    [
        (Shop().buy, CENTS, "buy", "tea for 5 under the-key"),
        (Shop("coffee").buy, CENTS, "buy", "coffee for 5 under the-key"),
        (Shop().plain, CENTS, "plain", "tea for 5"),
        (tool(once=True)(Shop().plain), CENTS, "plain", "tea for 5"),
        (tool(Shop().later), CENTS, "later", "tea for 5"),
        (Shop.create, NAME, "create", "Shop x"),
        (Shop().create, NAME, "create", "Shop x"),
        (Shop.inner, NAME, "inner", "x"),
        (Shop().outer, NAME, "outer", "x"),
        (Shop(), CENTS, "Shop", "tea for 5"),
        (tool(name="shop")(Shop()), CENTS, "shop", "tea for 5"),
        (tool(name="buy_5")(functools.partial(Shop.plain, Shop(), 5)), "{}", "buy_5", "tea for 5"),
        (functools.partial(Shop().plain, cents=5), "{}", "plain", "tea for 5"),
    ],
)
def test_methods_callable_objects_and_partials_make_tools(
    each: Any, arguments: str, name: str, text: str
) -> None:
    assert list(collect([each])) == [name]
    assert (run(each, arguments).text, "self" in schema_of(each)["properties"]) == (text, False)


def test_what_a_partial_has_filled_is_not_offered_to_the_model() -> None:
    each = functools.partial(Shop().plain, cents=5)

    assert schema_of(each)["properties"] == {}
    assert run(each, CENTS).is_error


def test_a_tool_can_still_be_called() -> None:
    assert Shop().buy(5, "k") == "tea for 5 under k"
    made = tool(once=True)(Shop().plain)
    assert isinstance(made, FunctionTool) and made(5) == "tea for 5"


def test_a_method_without_its_object_is_refused() -> None:
    with pytest.raises(TypeError, match=r"tool buy is a method: pass it from its object"):
        collect([Shop.buy])


def test_the_description_is_that_of_the_function() -> None:
    described = [make(each).tool.description for each in (Shop().buy, Shop())]

    assert described == ["Buy it.", "Call it."]
    assert make(functools.partial(Shop().buy, 5), name="x").tool.description == "Buy it."


@pytest.mark.parametrize("name", ["tools.search", "", "two words", "ü", "x" * 65])
def test_a_name_that_no_server_accepts_is_refused(name: str) -> None:
    if name:
        with pytest.raises(ValueError, match="invalid tool name .*expected 1 to 64 letters"):
            tool(name=name)(lambda: 1)
    with pytest.raises(ValueError, match="invalid tool name '<lambda>'"):
        collect([lambda: 1])


# -- its schema


def test_an_unknown_type_is_named_with_tool_and_parameter() -> None:
    def read(path: Path) -> str:
        return ""

    def each(paths: list[Path]) -> str:
        return ""

    with pytest.raises(
        TypeError, match=r"tool read: parameter path: no schema for pathlib.Path; k"
    ):
        make(read)
    with pytest.raises(TypeError, match=r"parameter paths: no schema for list\[pathlib.Path\]; k"):
        make(each)


def test_a_type_hint_that_cannot_be_read_is_reported() -> None:
    def read(path: NoSuchType) -> str:  # type: ignore[name-defined]  # noqa: F821
        return ""

    with pytest.raises(TypeError, match="tool read: its type hints cannot be read: .*NoSuchType"):
        make(read)


def test_annotated_describes_a_parameter() -> None:
    def find(
        plain: Annotated[str, "a text"],
        field: Annotated[int, pydantic.Field(description="a field")] = 1,
        meta: Annotated[str, msgspec.Meta(description="a meta", max_length=3)] = "",
        nothing: Annotated[str, 7] = "",
    ) -> str:
        return plain

    properties = schema_of(find)["properties"]

    assert {name: each.get("description") for name, each in properties.items()} == {
        "plain": "a text",
        "field": "a field",
        "meta": "a meta",
        "nothing": None,
    }
    assert properties["meta"]["maxLength"] == 3
    assert run(find, '{"plain": "x"}').text == "x"


class Station(pydantic.BaseModel):
    name: str


class Trip(pydantic.BaseModel):
    """A trip."""

    to: Station = pydantic.Field(description="where to")
    seats: int = pydantic.Field(gt=0)


def test_pydantic_models_are_arguments_and_results() -> None:
    def book(trip: Trip, others: list[Trip] = [], way: Trip | None = None) -> Trip:  # noqa: B006
        assert isinstance(trip, Trip) and all(isinstance(each, Trip) for each in others)
        return trip

    schema = schema_of(book)
    trip = '{"to": {"name": "Paris"}, "seats": 2}'

    assert schema["$defs"]["Trip_Station"]["properties"]["name"]["type"] == "string"
    assert schema["properties"]["trip"]["properties"]["to"]["$ref"] == "#/$defs/Trip_Station"
    assert "$defs" not in schema["properties"]["trip"]
    assert run(book, f'{{"trip": {trip}, "others": [{trip}]}}').text == json.dumps(
        json.loads(trip), separators=(",", ":")
    )
    wrong = run(book, '{"trip": {"to": {"name": "Paris"}, "seats": 0}}')
    assert wrong.text.startswith("invalid arguments: ") and "greater than 0" in wrong.text


SCHEMA = {
    "type": "object",
    "properties": {"from": {"type": "string"}, "to": {"type": "string"}},
    "required": ["from"],
}


def test_a_plain_schema_is_used_as_it_is() -> None:
    @tool(name="trip", schema=SCHEMA)
    def trip(key: str, **given: Any) -> str:
        return f"{given} {key}"

    assert schema_of(trip) == SCHEMA
    assert run(trip, '{"from": "Berlin"}').text == "{'from': 'Berlin'} the-key"
    assert run(trip, "[]").is_error

    @tool(schema=SCHEMA)
    def narrow(to: str) -> str:
        return to

    assert run(narrow, '{"from": "Berlin"}').text.startswith("invalid arguments: ")
    with pytest.raises(ValueError, match='the schema must have "type": "object"'):
        make(narrow, schema={"type": "string"})
    with pytest.raises(ValueError, match="the schema is not JSON"):
        make(narrow, schema={"type": "object", "default": object()})


# -- its arguments


def test_null_is_legal_where_the_default_is_none() -> None:
    def find(q: str = None, n: int | None = None, m: int = 1) -> str:  # type: ignore[assignment]
        return repr((q, n, m))

    assert run(find, '{"q": null, "n": null}').text == "(None, None, 1)"
    assert run(find, '{"q": "x"}').text == "('x', None, 1)"
    assert run(find, '{"m": null}').is_error
    assert schema_of(find)["properties"]["q"] == {"type": "string", "default": None}


# -- its results


@frozen
class Mean:
    values: tuple[float, ...]
    by_name: dict[str, float]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "nan at $"),
        ([1.0, None, -math.inf], "-inf at $[2]"),
        ({"rows": [{"mean": math.inf}]}, "inf at $.rows[0].mean"),
        (Mean((1.0,), {"a": math.nan}), "nan at $.by_name.a"),
        ({"a": {2: "x", "2": "y"}}, "the equal keys 2 and '2' at $.a"),
    ],
)
def test_a_value_that_is_not_json_is_refused_with_its_place(value: Any, place: str) -> None:
    result = run(tool(name="mean")(lambda: value))

    assert result.is_error and not result.retryable
    assert result.text == f"the tool returned {place}, which is not JSON"


def test_none_inside_a_result_is_legal() -> None:
    assert run(tool(name="mean")(lambda: {"a": None, "b": 1.5})).text == '{"a":null,"b":1.5}'
