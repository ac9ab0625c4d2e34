"""`openai:MODEL`: a chat with any server of the chat-completions protocol.

The server is OPENAI_BASE_URL, or OpenAI's own; the key is OPENAI_API_KEY.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from ..redaction import without_secrets
from .base import Agent, UnknownAgent

if TYPE_CHECKING:
    from ..models.openai import OpenAIModel

__all__ = ["openai_agent", "openai_model"]


def openai_model(name: str, **options: Any) -> OpenAIModel:
    """Return the client for `openai:MODEL`.  Raises UnknownAgent, which says what is missing."""
    _, _, model = name.partition(":")
    if not model or model != model.strip():
        raise UnknownAgent(f"invalid agent {name!r}: the model is missing. Write openai:MODEL")
    if importlib.util.find_spec("openai") is None:
        raise UnknownAgent(f"agent {name!r} needs the OpenAI SDK: pip install 'tenure[openai]'")
    from ..models.openai import OpenAIModel

    try:
        return OpenAIModel(model, **options)
    except ValueError as error:
        raise UnknownAgent(f"invalid agent {name!r}: {error}") from error
    except (
        Exception
    ) as error:  # of the SDK: proxies and certificates of the environment that cannot be used
        why = without_secrets(f"{type(error).__name__}: {error}")
        raise UnknownAgent(
            f"agent {name!r}: the OpenAI SDK cannot use this environment "
            f"(proxies, SSL_CERT_FILE): {why}"
        ) from error


def openai_agent(name: str, **options: Any) -> Agent:
    """Return the agent for `openai:MODEL`.  `options` are those of ChatAgent.  Raises UnknownAgent."""
    model = openai_model(name)
    chat: Any = importlib.import_module(".chat", __package__)
    agent: Agent = chat.ChatAgent(model, **options)
    return agent
