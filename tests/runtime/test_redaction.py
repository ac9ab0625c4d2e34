"""Secrets are removed from messages for people; ordinary words stay, and what a model gets is never changed."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tenure.messages.types import ToolCall
from tenure_drivers.agents.tools import make
from tenure_drivers.redaction import know_password_of, know_secret, without_secrets
from tenure_drivers.runtime.errors import TurnFailed, describe, failure_of

BASIC = base64.b64encode(b"user:pass").decode()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token < in JSON at position 0",
        "password authentication failed for user bob",
        "maximum context length is 8192 tokens, you sent 9001 tokens",
        "max_tokens=8192 is too large",
        "the token was not accepted",
        "bearer authentication failed",
        "basic authentication is not allowed; basic knowledge helps",
        "authorization: denied for user bob",
        "invalid api-key: it must be a text",
        "secret santa; password: required",
        "client_secret: required; access_token: must not be empty",
        "if password == other: token = read_token(password)",
        "cookie: one biscuit; design=flat&signed=yes",
        "'password' is a field, \"token\" another",
        "task-management and sk-learn-contrib-packages",
        "see https://example.org/@user and mail bob@example.org",
        "no route to http://127.0.0.1:8000/v1/chat/completions",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=[removed] psql"),
        ("OPENAI_API_KEY=abc is wrong", "OPENAI_API_KEY=[removed] is wrong"),
        ("host=x password='a b' user=y", "host=x password=[removed] user=y"),
        ("?token=abc&x=1", "?token=[removed]&x=1"),
        ("""{"api_key": "abc", "n": 1}""", """{"api_key": [removed], "n": 1}"""),
        ("{'password': 'a', 'n': 1}", "{'password': [removed], 'n': 1}"),
        ("password = hunter2 and more", "password = [removed] and more"),
        ("password= 'a b', x", "password= [removed], x"),
        ("client_secret: hunter, x", "client_secret: [removed], x"),
        ("password: hunter2", "password: [removed]"),
        (r"{\"password\": \"hunter 2\", \"n\": 1}", r"{\"password\": [removed], \"n\": 1}"),
        (r"{\\\"token\\\": \\\"abc\\\"}", r"{\\\"token\\\": [removed]}"),
        (r'{"password": "a\"b", "n": 1}', '{"password": [removed], "n": 1}'),
        ('{"password": "hunter 2', '{"password": [removed]'),
        ("password='hunter 2\nnext line", "password=[removed]\nnext line"),
        ("Cookie: session=abc; id=7\nHost: x", "Cookie: [removed]\nHost: x"),
        ("Set-Cookie: id=a3fWa; Secure", "Set-Cookie: [removed]"),
        ("{'cookie': 'id=a3fWa', 'n': 1}", "{'cookie': [removed], 'n': 1}"),
        (
            "?X-Amz-Credential=AK/1&X-Amz-Signature=0a1b2c3d4e",
            "?X-Amz-Credential=[removed]&X-Amz-Signature=[removed]",
        ),
        ("https://b/c?sv=1&sig=ab%2Bcd%3D&se=2", "https://b/c?sv=1&sig=[removed]&se=2"),
        ("/x?Expires=1&Signature=abcdEFGH~1", "/x?Expires=1&Signature=[removed]"),
        ("Authorization: Bearer abc", "Authorization: [removed]"),
        ("'authorization': 'Bearer abc'}", "'authorization': '[removed]'}"),
        ("bearer abc123 was refused", "bearer [removed] was refused"),
        (f"Basic {BASIC} was refused", "Basic [removed] was refused"),
        (f"jwt {JWT} expired", "jwt [removed] expired"),
        ("x-api-key: 0123456789", "x-api-key: [removed]"),
        ("key sk-proj-0123456789abcdef", "key [removed]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345 failed", "[removed] failed"),
        ("AKIA0123456789ABCDEF failed", "[removed] failed"),
        ("postgresql://me:se@cret@host/db", "postgresql[removed]host/db"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "[removed]"),
    ],
)
def test_secrets_are_removed(text: str, clean: str) -> None:
    assert without_secrets(text) == clean


def test_known_values_are_removed_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_KEY", "abcd-1234")
    monkeypatch.setenv("SHOP_TOKEN_COUNT", "of-no-interest-7")
    know_secret("given+to/us9")
    know_password_of("postgresql://me:p%40ss-word9@host/db")

    text = "abcd-1234 given+to/us9 given%2Bto%2Fus9 p@ss-word9 of-no-interest-7"

    assert without_secrets(text) == "[removed] [removed] [removed] [removed] of-no-interest-7"


def test_a_short_value_or_a_word_is_not_taken_for_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "postgres")
    know_secret("short1")
    know_secret("")

    assert without_secrets("the postgres server, short1") == "the postgres server, short1"


def test_the_current_folder_is_not_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/srv/shop-2")
    monkeypatch.setenv("OLDPWD", "/srv/shop-1")
    monkeypatch.setenv("SHOP_PWD", "hunter-2-hunter")

    assert without_secrets("/srv/shop-2 /srv/shop-1") == "/srv/shop-2 /srv/shop-1"
    assert without_secrets("hunter-2-hunter") == "[removed]"


def test_failures_are_told_without_secrets() -> None:
    error = ValueError("PGPASSWORD=hunter2")

    assert describe(error) == "ValueError: PGPASSWORD=[removed]"
    assert failure_of(error, 0).message == "ValueError: PGPASSWORD=[removed]"
    assert failure_of(TurnFailed("timeout", str(error)), 0).message == "PGPASSWORD=[removed]"


def test_what_the_model_gets_is_not_changed() -> None:
    texts = ["Unexpected token < in JSON at position 0", "PGPASSWORD=hunter2"]

    def parse(n: int) -> str:
        raise ValueError(texts[n])

    async def run(n: int) -> str:
        return (await make(parse).run(ToolCall("c", "parse", f'{{"n": {n}}}'), "k", 1)).text

    assert [asyncio.run(run(n)) for n in (0, 1)] == [f"ValueError: {text}" for text in texts]
