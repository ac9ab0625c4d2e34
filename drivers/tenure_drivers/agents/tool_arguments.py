"""The arguments of a tool: their JSON schema from a signature, and their values from JSON.

Known types are those of msgspec, and pydantic models; pydantic itself is not imported.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Optional

import msgspec
from attrs import frozen

from tenure.messages.codec import to_json

__all__ = ["GIVEN", "Arguments", "arguments_of", "encode_model", "innermost"]


GIVEN: Final = ("key", "attempt")  # parameters that the runtime fills, not the model
OWNERS: Final = ("self", "cls")
KNOWN: Final = (
    "str, int, float, bool, None, bytes, list, dict, tuple, set, Literal, Enum, date and time types, UUID, Decimal,"
    " dataclasses, TypedDict, NamedTuple, and attrs, msgspec and pydantic models"
)


@frozen(eq=False)
class Arguments:
    """What a model fills in.

    `type` is what JSON is decoded to: a msgspec Struct, or a dict for a schema that was given as it is.  `schema` is its
    JSON schema.  `given` names the parameters that the runtime fills.  `unbound`: the first parameter is the object of a
    method.
    """

    type: Any
    schema: str
    given: frozenset[str]
    unbound: bool = False

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the arguments; None for a schema that was given as it is."""
        if not (isinstance(self.type, type) and issubclass(self.type, msgspec.Struct)):
            return None
        return tuple([field.name for field in msgspec.structs.fields(self.type)])

    def read(self, text: str) -> dict[str, Any]:
        """Return the values by name.  Raises msgspec.MsgspecError for what the schema does not allow."""
        text = text if text.strip() else "{}"
        found = msgspec.json.decode(text, type=self.type, dec_hook=_decode_model)
        return found if isinstance(found, dict) else msgspec.structs.asdict(found)


def arguments_of(
    name: str,
    function: Callable[..., Any],
    schema: Mapping[str, Any] | None,
    given: Sequence[str] = GIVEN,
) -> Arguments:
    """Return the arguments of a tool.  `given`: the parameters that the runtime fills.

    Raises TypeError for a parameter without a schema.
    """
    parameters, unbound = _parameters(function)
    filled = [p for p in parameters if p.name not in given]
    given_names = frozenset([p.name for p in parameters if p.name in given])
    if schema is not None:
        return Arguments(dict[str, Any], _given_schema(name, schema), given_names, unbound)
    try:
        hints = typing.get_type_hints(innermost(function), include_extras=True)
    except Exception as error:
        raise TypeError(f"tool {name}: its type hints cannot be read: {error}") from error
    read: list[Any] = []
    shown: list[Any] = []
    for parameter in filled:
        hint = _described(hints.get(parameter.name, Any))
        _check(name, parameter, hint)
        default = () if parameter.default is parameter.empty else (parameter.default,)
        shown.append((parameter.name, hint, *default))
        # the schema says that null is the default, so a model may send it
        accepted = Optional[hint] if default == (None,) else hint  # noqa: UP045 - a hint may be a text
        read.append((parameter.name, accepted, *default))
    struct = _struct(name, read)
    return Arguments(struct, _schema(_struct(name, shown)), given_names, unbound)


def innermost(function: Any) -> Any:
    """Return the function that a partial or a callable object calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _parameters(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], bool]:
    """Return the parameters that a call has to fill, and whether the object of a method is still missing.

    What a partial has filled by name is left out: the model must not change it.
    """
    parameters = list(inspect.signature(function).parameters.values())
    unbound = bool(parameters) and parameters[0].name in OWNERS
    filled = function.keywords.keys() if isinstance(function, functools.partial) else ()
    return [p for p in parameters[unbound:] if p.name not in filled], unbound


def _check(name: str, parameter: inspect.Parameter, hint: Any) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"tool {name}: *{parameter.name} has no schema. Name each parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise TypeError(f"tool {name}: {parameter.name} is positional-only. Allow a keyword")
    try:
        msgspec.json.schema(hint, schema_hook=_model_schema)
    except Exception as error:
        text = f"tool {name}: parameter {parameter.name}: no schema for {_shown(hint)}"
        raise TypeError(f"{text}; known are {KNOWN}") from error


def _shown(hint: Any) -> str:
    return f"{hint.__module__}.{hint.__qualname__}" if isinstance(hint, type) else str(hint)


def _described(hint: Any) -> Any:
    """Return a hint whose description is one that msgspec knows: a text, `Field(description=...)` or `Doc(...)`."""
    if typing.get_origin(hint) is not Annotated:
        return hint
    base, *extras = typing.get_args(hint)
    found = [_meta(extra) for extra in extras]
    return Annotated[(base, *found)]


def _meta(extra: Any) -> Any:
    if isinstance(extra, msgspec.Meta):
        return extra
    for text in (extra, getattr(extra, "description", None), getattr(extra, "documentation", None)):
        if isinstance(text, str):
            return msgspec.Meta(description=text)
    return extra


def _struct(name: str, fields: list[Any]) -> Any:
    named = "".join(c for c in name.title() if c.isalnum()) or "Arguments"
    return msgspec.defstruct(named, fields, kw_only=True, forbid_unknown_fields=True)


# -- schemas


def _given_schema(name: str, schema: Mapping[str, Any]) -> str:
    if schema.get("type") != "object":
        raise ValueError(f'tool {name}: the schema must have "type": "object"')
    try:
        return to_json(dict(schema))
    except (TypeError, ValueError) as error:
        raise ValueError(f"tool {name}: the schema is not JSON: {error}") from error


def _schema(arguments: Any) -> str:
    schema = msgspec.json.schema(arguments, schema_hook=_model_schema)
    definitions = schema.pop("$defs", {})
    inner = definitions.pop(schema["$ref"].rpartition("/")[2])
    inner.pop("title", None)
    for part in (inner, *list(definitions.values())):
        _hoist(part, definitions)
    if definitions:
        inner["$defs"] = definitions
    return to_json(inner)


def _hoist(part: Any, definitions: dict[str, Any]) -> None:
    """Move the definitions of pydantic models to the top, where their references point to."""
    if isinstance(part, dict):
        definitions.update(part.pop("$defs", {}))
        for each in part.values():
            _hoist(each, definitions)
    elif isinstance(part, list):
        for each in part:
            _hoist(each, definitions)


def _is_model(type_: Any) -> bool:
    return hasattr(type_, "model_json_schema") and hasattr(type_, "model_validate")


def _model_schema(type_: Any) -> dict[str, Any]:
    if not _is_model(type_):
        raise NotImplementedError
    prefix = f"{type_.__name__}_"
    found: dict[str, Any] = type_.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    if "$defs" in found:
        found["$defs"] = {prefix + name: each for name, each in found["$defs"].items()}
    return found


def _decode_model(type_: Any, value: Any) -> Any:
    if not _is_model(type_):
        raise NotImplementedError(f"no values of {type_}")
    return type_.model_validate(value)


def encode_model(value: Any) -> Any:
    """Return a pydantic model as JSON values.  Raises NotImplementedError for any other value."""
    if not hasattr(value, "model_dump"):
        raise NotImplementedError(f"{type(value).__name__} is not JSON")
    return value.model_dump(mode="json")
