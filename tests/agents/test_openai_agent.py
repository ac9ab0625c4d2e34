"""`openai:MODEL` as an agent name."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tenure_drivers.agents.openai import openai_model
from tenure_drivers.agents.registry import UnknownAgent


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize("model", ["gpt-x", "qwen3:8b", "ft:gpt-x:org::id"])
def test_a_model_is_named_after_the_colon(model: str) -> None:
    assert (
        repr(openai_model(f"openai:{model}")) == f"OpenAIModel({model!r}, 'http://127.0.0.1:9/v1/')"
    )


@pytest.mark.parametrize("name", ["openai", "openai:", "openai: x"])
def test_a_name_without_a_model_is_refused(name: str) -> None:
    with pytest.raises(UnknownAgent, match="Write openai:MODEL"):
        openai_model(name)


def test_a_missing_sdk_is_reported_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str, *more: Any) -> None:
        assert name == "openai"

    monkeypatch.setattr(importlib.util, "find_spec", find)

    with pytest.raises(UnknownAgent, match=r"pip install 'tenure\[openai\]'"):
        openai_model("openai:gpt-x")


@pytest.mark.parametrize(
    ("variable", "value"), [("OPENAI_BASE_URL", "nowhere"), ("OPENAI_API_KEY", "a\nb")]
)
def test_an_invalid_environment_variable_is_reported_with_the_agent(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(
        UnknownAgent, match="'openai:gpt-x': (the API key contains|invalid base URL)"
    ):
        openai_model("openai:gpt-x")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OPENAI_BASE_URL", "http://127.0.0.1:99999/v1", "invalid base URL: Port out of range"),
        ("ALL_PROXY", "nonsense://127.0.0.1:1", "Unknown scheme for proxy URL"),
        ("SSL_CERT_FILE", "/nonexistent", "the OpenAI SDK cannot use this environment"),
    ],
)
def test_an_environment_that_cannot_be_used_is_reported(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv(variable, value)

    with pytest.raises(UnknownAgent, match=message):
        openai_model("openai:gpt-x")
