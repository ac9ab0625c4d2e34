"""Limits of a process: how much of one key may be in progress, and how much may begin in a minute.  Spec: specs/worker.md.

A *use* is a session that a worker runs, or a call of a model.  It has a key for each rule, for example its tenant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

from ..replace import replace

__all__ = ["MINUTE_MS", "Held", "Keys", "Rule", "Usage", "admit"]


MINUTE_MS: Final = 60_000

Keys: TypeAlias = tuple[str | None, ...]  # one for each rule; None: the rule does not apply


@frozen
class Rule:
    """WORKER-21: of one key at most `at_once` are in progress, and `per_minute` begin in a minute; None: any number."""

    at_once: int | None = None
    per_minute: int | None = None


@frozen
class Held:
    """A use in progress, and when it has begun."""

    keys: Keys
    since_ms: int


@frozen
class Usage:
    """What is in progress and what has begun, by rule and key."""

    rules: tuple[Rule, ...]
    keys: Mapping[str, Keys] = field(factory=dict)  # of the uses that wait
    held: Mapping[str, Held] = field(factory=dict)  # those in progress
    begun: Mapping[tuple[int, str], tuple[int, ...]] = field(factory=dict)  # when, by rule and key

    def learn(self, found: Iterable[tuple[str, Keys]]) -> Usage:
        """Return the usage with the keys of uses that wait."""
        return replace(self, keys={**self.keys, **dict(found)})

    def forget(self, waiting: Iterable[str]) -> Usage:
        """Return the usage with the keys of these uses alone."""
        return replace(self, keys={i: self.keys[i] for i in waiting if i in self.keys})

    def in_progress(self) -> Counter[tuple[int, str]]:
        """Return how many are in progress, by rule and key."""
        return Counter([place for use in self.held.values() for place in _places(use.keys)])

    def free_at(self, use: str, now_ms: int, busy: Counter[tuple[int, str]]) -> int | None:
        """Return when it may begin: `now_ms` if it may now; None: only after the end of another one."""
        at_ms = now_ms
        for place in _places(self.keys.get(use, ())):
            rule = self.rules[place[0]]
            if rule.at_once is not None and busy[place] >= rule.at_once:
                return None
            if rule.per_minute is not None:
                times = _recent(self.begun.get(place, ()), now_ms)
                if len(times) >= rule.per_minute:
                    at_ms = max(at_ms, times[-rule.per_minute] + MINUTE_MS)
        return at_ms

    def take(self, use: str, now_ms: int) -> Usage:
        """Return the usage after a use has begun."""
        keys = self.keys.get(use, ())
        begun = {p: times for p, times in self.begun.items() if times[-1] > now_ms - MINUTE_MS}
        for place in self._counted(keys):
            begun[place] = (*_recent(begun.get(place, ()), now_ms), now_ms)
        waiting = {i: k for i, k in self.keys.items() if i != use}
        return replace(self, keys=waiting, held={**self.held, use: Held(keys, now_ms)}, begun=begun)

    def release(self, use: str, now_ms: int, *, in_vain: bool = False) -> Usage:
        """Return the usage after the end of a use.  One that began in vain does not count (WORKER-24)."""
        ended, begun = self.held.get(use, Held((), 0)), dict(self.begun)
        for place in self._counted(ended.keys):
            times = list(_recent(begun.pop(place, ()), now_ms))
            if in_vain and ended.since_ms in times:
                times.remove(ended.since_ms)
            if times:
                begun[place] = tuple(times)
        held = {i: k for i, k in self.held.items() if i != use}
        return replace(self, held=held, begun=begun)

    def _counted(self, keys: Keys) -> list[tuple[int, str]]:
        return [place for place in _places(keys) if self.rules[place[0]].per_minute is not None]


def admit(
    usage: Usage, waiting: Iterable[str], room: int, now_ms: int
) -> tuple[Usage, tuple[str, ...], int | None]:
    """Let at most `room` of the uses that wait begin, in order; one that may not hinders no other (WORKER-22).

    Return the usage, those that begin, and when to look at the others again; None: after the end of one.
    """
    busy, wake_ms = usage.in_progress(), None
    taken: list[str] = []
    for use in waiting:
        at_ms = usage.free_at(use, now_ms, busy)
        if at_ms is None:
            continue
        if at_ms > now_ms:
            wake_ms = at_ms if wake_ms is None else min(wake_ms, at_ms)
        elif len(taken) < room:
            busy.update(_places(usage.keys.get(use, ())))
            usage = usage.take(use, now_ms)
            taken.append(use)
    return usage, tuple(taken), wake_ms


def _places(keys: Keys) -> list[tuple[int, str]]:
    return [(rule, key) for rule, key in enumerate(keys) if key is not None]


def _recent(times: tuple[int, ...], now_ms: int) -> tuple[int, ...]:
    """Return the times of the last minute; they ascend."""
    if not times or times[0] > now_ms - MINUTE_MS:
        return times
    return tuple([at_ms for at_ms in times if at_ms > now_ms - MINUTE_MS])
