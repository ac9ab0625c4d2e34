"""Remove secrets from messages for people: failures, logs, output.

It knows two kinds: values that are secret (of environment variables, keys, passwords in URLs), and a few exact patterns.
What a model or a transcript gets is never changed.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections import OrderedDict
from typing import Final
from urllib.parse import quote, unquote, urlsplit

__all__ = ["REMOVED", "know_password_of", "know_secret", "without_secrets"]


REMOVED: Final = "[removed]"
SECRET_MIN: Final = 8  # characters of a known value
KNOWN_MAX: Final = 1_000

_NAME = (
    r"(?:password|passwd|pwd|passphrase|secret|token|credentials?"
    r"|(?:api|access|private|secret)[_-]?key)"
)
# A text in quotes, which may be escaped; without its end, the rest of the line.
_QUOTED = (
    r"(?:\"(?:[^\"\\\n]|\\.)*(?:\"|$|(?=\n))|'(?:[^'\\\n]|\\.)*(?:'|$|(?=\n))"
    r"|\\+[\"'].*?(?:\\+[\"']|$|(?=\n)))"
)
_VALUE = r"(?![\w.]+\(|=|\[removed)[^\s&;,\"'()\]}\\]+"  # not a call in a line of source
_WORDS = (
    "(?:a|an|cannot|denied|empty|expected|expired|field|invalid|is|it|missing|must|no|none|not|null|required"
    "|should|str|string|text|the|unknown|wrong)"
)
_ENVIRONMENT = re.compile(rf"^(?!(?:OLD)?PWD$).*{_NAME}$", re.IGNORECASE)  # PWD is a folder
_BASIC = re.compile(r"\b(basic\s+)([A-Za-z0-9+/_-]{4,}={0,2})", re.IGNORECASE)
_PATTERNS: Final = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        # name=value, name = value and 'name': 'value', also in JSON inside JSON; the name stays
        (rf"({_NAME}=)(?:{_QUOTED}|[^\s&;,\"')\]}}]+)", re.I, rf"\1{REMOVED}"),
        (rf"({_NAME}\s*=\s+|{_NAME}\s+=\s*)(?:{_QUOTED}|{_VALUE})", re.I, rf"\1{REMOVED}"),
        (rf"({_NAME}\\*[\"']\s*[:=]\s*)(?:{_QUOTED}|(?=\S*\d|\S{{16}}){_VALUE})", re.I, rf"\1{REMOVED}"),
        # name: value, where the value or the name is no ordinary word
        (rf"({_NAME}\s*:\s*)(?:{_QUOTED}|(?=\S*\d|\S{{16}}){_VALUE})", re.I, rf"\1{REMOVED}"),
        (rf"(\b\w{{1,60}}[_-]{_NAME}\s*:\s+)(?!{_WORDS}\b){_VALUE}", re.I, rf"\1{REMOVED}"),
        # cookies, and the signatures of URLs and requests
        (rf"(\bcookie\\*[\"']?\s*:\s*)(?:{_QUOTED}|[^\s=;]+=[^\r\n]*)", re.I, rf"\1{REMOVED}"),
        (r"([?&](?:sig|X-(?:Amz|Goog)-Credential)=)[^&\s\"'<>)]+", re.I, rf"\1{REMOVED}"),
        (r"(\b(?:[\w-]{1,40}-)?signature=)[\w%+/=.~-]{8,}", re.I, rf"\1{REMOVED}"),
        # an Authorization header, and its value alone
        (
            r"(\bauthorization[\"']?\s*:\s*[\"']?)(?:bearer|basic|token|digest|apikey)\s+[^\s\"']+",
            re.I, rf"\1{REMOVED}",
        ),
        (r"(\bbearer\s+)(?=\S*\d)[\w.~+/=-]{6,}", re.I, rf"\1{REMOVED}"),
        # user:password@host, in any URL
        (r"://(?:[^/\s:@]*:[^/\s]*|[^/\s?#]+)@", 0, REMOVED),
        # JSON web tokens, and keys with a prefix of their issuer
        (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", 0, REMOVED),
        (r"\bsk-(?=[\w-]{0,99}\d)[\w-]{16,300}(?:[+/=]+[\w+/=-]*)?", 0, REMOVED),
        (r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,})", 0, REMOVED),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}|\bxox[abeprs]-[\w-]{10,}", 0, REMOVED),
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|$)", 0, REMOVED),
    )
)  # fmt: skip

_known: OrderedDict[str, None] = OrderedDict()  # the newest last


def know_secret(value: str) -> None:
    """Remember a value that is secret.  A value that is short or an ordinary word is not remembered."""
    for secret in {value, quote(value, safe="")}:
        if _is_secret(secret):
            _known[secret] = None
            _known.move_to_end(secret)
    while len(_known) > KNOWN_MAX:
        _known.popitem(last=False)


def know_password_of(url: str) -> None:
    """Remember the password in a URL, if it has one."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return
    if password:
        know_secret(password)
        know_secret(unquote(password))


def without_secrets(text: str) -> str:
    """Return a text with every secret in it removed."""
    for secret in sorted([*_known, *_environment()], key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _BASIC.sub(_basic, text)


def _environment() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if _ENVIRONMENT.search(name) and _is_secret(value)
    ]


def _is_secret(value: str) -> bool:
    word = value.isalpha() and (value.islower() or value.isupper() or value.istitle())
    return len(value) >= SECRET_MIN and not word and "\n" not in value


def _basic(found: re.Match[str]) -> str:
    """Remove what `Basic` introduces if it is the base64 of `user:password`."""
    try:
        decoded = base64.b64decode(found[2], altchars=b"-_" if set(found[2]) & set("-_") else None)
    except (binascii.Error, ValueError):
        return found[0]
    return f"{found[1]}{REMOVED}" if b":" in decoded else found[0]
