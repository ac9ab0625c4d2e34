"""Model usage, added up for each source and model.  Specs: specs/commit.md, COMMIT-12; specs/journal.md, JOURNAL-10."""

from __future__ import annotations

from ..limits import USAGE_COUNT_MAX, USAGE_MAX
from ..outcome import Insert, Update, Write
from ..queries import Each, Get
from ..records import Usage
from ..transcript import UsageDelta
from .validation import validate_id

__all__ = ["count_usage", "usage_queries", "validate_usage"]


def usage_queries(session_id: str, deltas: tuple[UsageDelta, ...]) -> Each[Usage | None]:
    """Return the query of the usage rows to add to."""
    return Each(tuple([Get(Usage, (session_id, d.source, d.model)) for d in deltas]))


def validate_usage(deltas: tuple[UsageDelta, ...]) -> str | None:
    """Return what is wrong with usage, or None."""
    if len(deltas) > USAGE_MAX:
        return f"{len(deltas)} usage records; at most {USAGE_MAX}"
    return next((p for p in map(_validate, deltas) if p), None)


def _validate(usage: UsageDelta) -> str | None:
    counts = (
        usage.requests, usage.input_tokens, usage.output_tokens,
        usage.cached_tokens, usage.reasoning_tokens,
    )  # fmt: skip
    if min(counts) < 0:
        return f"usage below 0: {usage}"
    if max(counts) > USAGE_COUNT_MAX:
        return f"usage above {USAGE_COUNT_MAX}: {usage}"
    return validate_id("usage source", usage.source) or validate_id("usage model", usage.model)


def count_usage(
    session_id: str, deltas: tuple[UsageDelta, ...], known: tuple[Usage | None, ...]
) -> list[Write]:
    """Return the writes that add usage to its rows, of which `known` were read."""
    totals = {(u.source, u.model): u for u in known if u is not None}
    fresh = {(d.source, d.model) for d in deltas} - totals.keys()
    for d in deltas:
        at = (d.source, d.model)
        t = totals.get(at) or Usage(session_id, d.source, d.model)
        totals[at] = Usage(
            t.session_id, t.source, t.model, t.requests + d.requests,
            t.input_tokens + d.input_tokens, t.output_tokens + d.output_tokens,
            t.cached_tokens + d.cached_tokens, t.reasoning_tokens + d.reasoning_tokens,
        )  # fmt: skip
    named = dict.fromkeys((d.source, d.model) for d in deltas)
    return [(Insert if at in fresh else Update)(totals[at]) for at in named]
