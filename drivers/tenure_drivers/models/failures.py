"""Map errors of the SDK to the kinds of the failure table."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from typing import Any, Final

import openai

from tenure.failure import GIVE_UP_AFTER_MS, ErrorKind, Failure

from .words import words_of

__all__ = ["MESSAGE_MAX", "failure_in", "failure_of", "read_retry_after_ms"]


MESSAGE_MAX: Final = 500

# The code in the body is more precise than the status: providers use 400, 403 and 429 for many errors.
CODES: Final = {
    "context_length_exceeded": ErrorKind.CONTEXT_OVERFLOW,
    "exceed_context_size_error": ErrorKind.CONTEXT_OVERFLOW,
    "content_filter": ErrorKind.CONTENT_FILTERED,
    "content_policy_violation": ErrorKind.CONTENT_FILTERED,
    "refusal": ErrorKind.REFUSED_BY_PROVIDER,
    "model_not_found": ErrorKind.MODEL_NOT_FOUND,
    "invalid_model": ErrorKind.MODEL_NOT_FOUND,
    "deploymentnotfound": ErrorKind.MODEL_NOT_FOUND,
    "invalid_api_key": ErrorKind.UNAUTHORISED,
    "authentication_error": ErrorKind.UNAUTHORISED,
    "permission_error": ErrorKind.UNAUTHORISED,
    # Waiting does not help.  After payment the dead letters must be admitted again.
    "insufficient_quota": ErrorKind.UNAUTHORISED,
    "billing_hard_limit_reached": ErrorKind.UNAUTHORISED,
    "rate_limit_exceeded": ErrorKind.RATE_LIMITED,
    "rate_limit_error": ErrorKind.RATE_LIMITED,
    "overloaded": ErrorKind.OVERLOADED,
    "overloaded_error": ErrorKind.OVERLOADED,
    "server_error": ErrorKind.UNAVAILABLE,
    "internal_server_error": ErrorKind.UNAVAILABLE,
    "unknown_url": ErrorKind.INVALID_REQUEST,
    "invalid_request_error": ErrorKind.INVALID_REQUEST,
}
VAGUE_CODES: Final = frozenset(
    {"invalid_request_error", "server_error"}
)  # a status is more precise
STATUSES: Final = {
    401: ErrorKind.UNAUTHORISED,
    402: ErrorKind.UNAUTHORISED,
    403: ErrorKind.UNAUTHORISED,
    404: ErrorKind.MODEL_NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.TRANSIENT,
    410: ErrorKind.MODEL_NOT_FOUND,
    413: ErrorKind.CONTEXT_OVERFLOW,
    425: ErrorKind.TRANSIENT,
    429: ErrorKind.RATE_LIMITED,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
}
# Some servers have no code for an input that is too long, and some have the code of a rate limit.
TOO_LONG: Final = re.compile(
    r"context (length|window|size)|prompt is too long|(too many|maximum number of) tokens"
    r"|maximum prompt length|input token count|request (entity )?(is )?too large|input is too long"
    r"|reduce the length|`?inputs`? tokens",
    re.I,
)
TOO_LARGE: Final = re.compile(r"request too large", re.I)
NO_PAGE: Final = re.compile(r"\b(url|route|path|page|endpoint)\b", re.I)
TOO_LONG_STATUSES: Final = (400, 413, 422, 500, None)
# Of httpx: a loop of redirects, or a redirect to something that is no http URL.  Asking again gives the same answer.
WRONG_SERVER: Final = frozenset({"TooManyRedirects", "UnsupportedProtocol", "InvalidURL"})
# Another protocol (of h11), or a redirect to what is no URL (of httpx).
NO_HTTP: Final = re.compile("illegal status line|_SWITCH_UPGRADE|in location header")
TRANSPORT: Final = frozenset({"h11", "httpcore", "httpcore2", "httpx", "httpx2", "ssl"})


def failure_of(error: Exception) -> Failure | None:
    """Return the failure for an error of the provider or the network; None for any other error, which is a bug."""
    match error:
        case openai.APITimeoutError():
            return Failure(ErrorKind.TIMEOUT, "the model server did not answer in time")
        case openai.APIStatusError():
            return _refused(error)
        case openai.APIConnectionError():
            cause = error.__cause__
            because = f" ({type(cause).__name__}: {cause})" if cause is not None else ""
            if type(cause).__name__ in WRONG_SERVER or NO_HTTP.search(str(cause)):
                message = f"{error.message}{because} (is the base URL right?)"
                return Failure(ErrorKind.INVALID_REQUEST, message)
            return Failure(ErrorKind.UNAVAILABLE, f"{error.message}{because}")
        case openai.APIError():
            return failure_in(
                error.body if isinstance(error.body, dict) else {"message": error.message}
            )
        case openai.OpenAIError():
            return Failure(ErrorKind.TRANSIENT, str(error))
    name = type(error).__name__
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in TRANSPORT:
        kind = ErrorKind.TIMEOUT if "Timeout" in name else ErrorKind.UNAVAILABLE
        return Failure(kind, f"{name}: {error}")
    if isinstance(error, (ValueError, RecursionError)):  # not JSON, not UTF-8
        return Failure(ErrorKind.TRANSIENT, f"malformed data in the reply: {error}")
    return None


def _refused(error: openai.APIStatusError) -> Failure:
    """Return the failure for a status that is not 200, with the server's own words."""
    status, body = error.status_code, error.body or error.response.text
    found = body if isinstance(body, dict) else {}
    words = words_of(body)
    kind = kind_of(status, found, words)
    if status in (404, 405) and _is_wrong_url(found, words):
        kind, words = ErrorKind.INVALID_REQUEST, f"{words} (is the base URL right?)"
    if 300 <= status <= 399:
        there = error.response.headers.get("location", "").partition("?")[0]
        words = f"it redirects to {there!r}, which is not followed (is the base URL right?)"
    head = f"{status} {found.get('code') or found.get('type') or ''}".strip()
    return Failure(kind, f"{head}: {words}", read_retry_after_ms(error.response.headers))


def _is_wrong_url(body: Mapping[Any, Any], words: str) -> bool:
    """True if a page was not found; False if a model was not found."""
    if "model" in words.lower():
        return False
    return "message" not in body or NO_PAGE.search(words) is not None


def failure_in(body: object) -> Failure:
    """Return the failure for an error body that was sent with status 200."""
    found: dict[Any, Any] = body if isinstance(body, dict) else {"message": body}
    code, message = found.get("code"), words_of(body)
    status = (
        int(code) if isinstance(code, (int, str)) and re.fullmatch(r"[45]\d\d", str(code)) else None
    )
    kind = kind_of(status, found, message)
    return Failure(kind, f"{code or found.get('type') or 'error'}: {message}")


def kind_of(status: int | None, body: Mapping[Any, Any], message: str) -> ErrorKind:
    """Return the kind of an error: by message if the input is too long, then by code, then by status."""
    codes = [str(body.get(name) or "").lower() for name in ("code", "type")]
    if status in TOO_LONG_STATUSES and TOO_LONG.search(message):
        return ErrorKind.CONTEXT_OVERFLOW
    if status == 429 and TOO_LARGE.search(message):  # larger than what may be sent in a minute
        return ErrorKind.CONTEXT_OVERFLOW
    for code in codes:
        if code in CODES and not (status and code in VAGUE_CODES):
            return CODES[code]
    if status is None:
        return next((CODES[code] for code in codes if code in CODES), ErrorKind.TRANSIENT)
    if status in STATUSES:
        return STATUSES[status]
    return ErrorKind.UNAVAILABLE if 500 <= status <= 599 else ErrorKind.INVALID_REQUEST


def read_retry_after_ms(headers: Mapping[str, str]) -> int:
    """Return how long to wait, at most the time after which a run is given up.

    A date is compared with the server's `Date` header, so that clocks may differ.
    """
    found = _number(headers.get("retry-after-ms"))
    if found is None:
        found = _seconds(headers.get("retry-after"), headers.get("date"))
        found = None if found is None else found * 1000
    return min(max(int(found or 0), 0), GIVE_UP_AFTER_MS)


def _seconds(after: str | None, now: str | None) -> float | None:
    if after is None or (found := _number(after)) is not None:
        return None if after is None else found
    try:
        then = email.utils.parsedate_to_datetime(after)
        since = email.utils.parsedate_to_datetime(now) if now else email.utils.localtime()
        return (then - since).total_seconds()
    except (TypeError, ValueError, OverflowError):  # no date, or only one of them has a time zone
        return None


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e12 else None  # excludes NaN
