"""What a subscription starts: the command that is sent for an occurrence.  Spec: specs/trigger.md."""

from __future__ import annotations

import json
from typing import TypeAlias

from attrs import frozen

from ...limits import OCCURRENCE_BYTES_MAX
from ...records import Child, Subscription
from ...transcript import hash_parts, hash_text
from ...trigger_records import Starts, StartsJob
from ..admit import Admit, validate_input
from ..encoding import encode
from ..jobs.register import Register
from ..profile import NewProfile
from ..sendable import uuid_of
from ..submission import NewInput
from ..validation import size_of, validate_id, validate_text

__all__ = ["OccurrenceFacts", "command_for", "digest_of", "id_for", "validate_starts"]


Starting: TypeAlias = Admit | Register


@frozen
class OccurrenceFacts:
    """What has occurred, for the commands that it leads to."""

    trigger_id: str
    source: str
    key_value: str
    at_ms: int
    recorded_at_ms: int
    body: str


def id_for(facts: OccurrenceFacts, row: Subscription) -> str:
    """TRIGGER-33: return the id of what an occurrence starts for a subscription as it is now.

    It begins with the time at which the occurrence is stored, so whoever prunes knows its age (RETENTION-4).
    """
    state = row.state
    words = hash_parts(
        facts.trigger_id, facts.source, facts.key_value, row.subscription_id,
        state.incarnation, state.revision,
    )  # fmt: skip
    return uuid_of(words, facts.recorded_at_ms)


def command_for(
    facts: OccurrenceFacts, subscription_id: str, starts: Starts, text: str | None, started_id: str
) -> Starting:
    """TRIGGER-34, TRIGGER-35: return the command that registers the job or admits the input."""
    given = facts.body if text is None else _filled(text, facts)
    if isinstance(starts, StartsJob):
        return Register(
            started_id, starts.runner, given, starts.disposition, origin=facts.trigger_id,
            registered_by=facts.trigger_id, wake_target=starts.wake_target, retry=starts.retry,
        )  # fmt: skip
    origin = {
        "trigger": facts.trigger_id,
        "subscription": subscription_id,
        "source": facts.source,
        "key": facts.key_value,
        "at_ms": facts.at_ms,
    }
    new = NewInput(
        started_id, starts.kind, given, "trigger", supersession_key=starts.supersession_key,
        policy=starts.policy, origin=json.dumps(origin, separators=(",", ":")),
    )  # fmt: skip
    if starts.to is not None:
        return Admit(starts.to, (new,))
    profile = NewProfile(relation=Child(facts.trigger_id, facts.key_value))
    return Admit(started_id, (new,), profile=profile)


def _filled(text: str, facts: OccurrenceFacts) -> str:
    """Return a text with the key and the body of an occurrence in their places."""
    parts = [part.replace("{key}", facts.key_value) for part in text.split("{body}")]
    return facts.body.join(parts)


def digest_of(starts: Starts, text: str | None) -> str:
    """TRIGGER-11: return the digest by which the same subscription is recognised."""
    return hash_parts(encode(starts), None if text is None else hash_text(text))


def validate_starts(
    trigger_id: str, subscription_id: str, starts: Starts, text: str | None, now_ms: int
) -> str | None:
    """TRIGGER-21: return what would be refused of everything that a subscription starts, or None."""
    if problem := validate_id("subscription_id", subscription_id):
        return problem
    if text is not None:
        if (size := size_of(text)) > OCCURRENCE_BYTES_MAX:
            return f"text of {size} bytes; at most {OCCURRENCE_BYTES_MAX}"
        if problem := validate_text("text", text, OCCURRENCE_BYTES_MAX):
            return problem
    example = OccurrenceFacts(trigger_id, "example", "0", now_ms, now_ms, "")
    made = command_for(example, subscription_id, starts, text, "example")
    if isinstance(made, Register):
        return made.problem(now_ms)
    (new,) = made.inputs
    policy = new.rules()
    if policy is None:
        return f"kind {new.kind!r} has no policy: expected one of tenure's kinds, or a policy"
    if problem := validate_id("to", made.session_id):
        return problem
    if text == "" and not policy.may_be_empty:
        return "text '': expected a text, or None for the body of the occurrence"
    return validate_input(new, policy, now_ms)
