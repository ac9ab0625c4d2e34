"""Steps over a journal: what a turn and a job have in common.  Spec: specs/journal.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tenure.commands import NewEntry
from tenure.records import JournalEntry
from tenure.steps import (
    StepAction,
    effect_id_of,
    once_action,
    report,
    start_mark,
    step_action,
    unknown,
    validate_name,
    validate_version,
    version_note,
)

from .errors import IllegalResult, StepOutcomeUnknown
from .steps import (
    Passes,
    Report,
    call,
    pack,
    pack_outcome,
    pack_raised,
    result_type,
    takes_key,
    unpack,
    validate_passes,
    version_of,
)
from .user_code import log

__all__ = ["Probe", "Steps"]


Probe = Callable[[str], Any]


class Steps(ABC):
    """Calls the functions of steps, records their results, and replays them.

    A step has a name and the number of its use (`search#2`).  So every attempt must ask for the steps of one name in the
    same order.  Steps with one name that run at the same time are numbered in the order of their calls.
    """

    _uses: Counter[str]
    _journal: dict[str, JournalEntry]
    _noted: set[str]
    _unread: set[str]

    @abstractmethod
    async def may_begin(self) -> None:
        """Return if an effect may begin.  Raises if the work has to end."""

    @abstractmethod
    async def _write(self, entry: NewEntry) -> None:
        """Write an entry of the journal."""

    @abstractmethod
    def _key_of(self, effect_id: str) -> str:
        """Return the idempotency key of a once step."""

    @abstractmethod
    def _named(self) -> str:
        """Name the work in a message."""

    async def step(
        self,
        name: str,
        f: Callable[..., Any],
        *args: Any,
        passes: Passes = (),
        version: str | int | None = None,
        **kw: Any,
    ) -> Any:
        """Call `f` and record its result.  If the journal has a result, return it without a call.

        `f` may run again after it or its process was interrupted.  A sync `f` runs in a thread.

        An exception of a type in `passes` is a result too: it is recorded, and raised again at every replay with its
        type and data.  `version` names the version of `f`: a warning and a note in the journal say once that a recorded
        result is of another version.  The old result is used.
        """
        version = self._checked(passes, version)
        effect_id, type_ = self._next(name), result_type(f)
        entry = self._read(effect_id)
        if entry is not None and step_action(entry) is StepAction.REPLAY:
            return await self._replay(entry, type_, passes, version)
        await self.may_begin()
        try:
            body, value = pack(effect_id, await call(f, args, kw), type_, version)
        except Exception as error:
            packed = pack_raised(effect_id, error, passes, version)
            if packed is None:
                raise
            await self._write(report(effect_id, packed[0]))
            raise packed[1] from error
        await self._write(report(effect_id, body))
        return value

    async def once(
        self,
        name: str,
        f: Callable[..., Any],
        *args: Any,
        probe: Probe | None = None,
        passes: Passes = (),
        version: str | int | None = None,
    ) -> Any:
        """Call `f` at most once, even if processes crash.  A parameter `key` of `f` receives an idempotency key.

        If `f` was started before a crash and there is no result, `probe(key)` returns a `Report(value)` or None.

        Raises StepFailed if `f` raised, and StepOutcomeUnknown if the probe returned None or is missing.  Both are
        raised again at every replay.  `passes` and `version` as in `step`.
        """
        version = self._checked(passes, version)
        effect_id, type_ = self._next(name), result_type(f)
        key = self._key_of(effect_id)
        entry = self._read(effect_id)
        match once_action(entry):
            case StepAction.MARK:
                await self._write(start_mark(effect_id))
                await self.may_begin()  # the mark may have taken longer than the lease lasts
                kw = {"key": key} if takes_key(f) else {}
                return await self._call_once(effect_id, call(f, args, kw), type_, passes, version)
            case StepAction.PROBE:
                return await self._probe(effect_id, key, probe, type_, version)
            case StepAction.UNKNOWN:
                raise StepOutcomeUnknown(effect_id)
        assert entry is not None
        return await self._replay(entry, type_, passes, version)

    async def _call_once(
        self,
        effect_id: str,
        work: Awaitable[Any],
        type_: Any,
        passes: Passes,
        version: str | None,
    ) -> Any:
        try:
            body, value = pack(effect_id, await work, type_, version)
        except Exception as error:
            body, raised = pack_outcome(effect_id, error, passes, version)
            await self._write(report(effect_id, body))
            raise raised from error
        await self._write(report(effect_id, body))
        return value

    async def _replay(
        self, entry: JournalEntry, type_: Any, passes: Passes, version: str | None
    ) -> Any:
        effect_id = entry.effect_id
        if version is not None:
            note = version_note(self._noted, effect_id, version_of(entry.body), version)
            if note is not None:
                log.warning("%s: %s. The old result is used", self._named(), note.body)
                self._noted.add(note.effect_id)
                await self._write(note)
        return unpack(effect_id, entry.body, type_, passes)

    async def _probe(
        self, effect_id: str, key: str, probe: Probe | None, type_: Any, version: str | None
    ) -> Any:
        await self.may_begin()
        found = None if probe is None else await call(probe, (key,), {})
        if found is None:
            await self._write(unknown(effect_id))
            raise StepOutcomeUnknown(effect_id)
        if not isinstance(found, Report):
            message = f"the probe of step {effect_id} returned {type(found).__name__}"
            raise IllegalResult(f"{message}, expected Report or None")
        body, value = pack(effect_id, found.value, type_, version)
        await self._write(report(effect_id, body))
        return value

    def _checked(self, passes: Passes, version: str | int | None) -> str | None:
        """Return the version as text.  Raises TypeError or ValueError for an invalid option of a step."""
        validate_passes(passes)
        problem = validate_version(version)
        if problem is not None:
            raise ValueError(problem)
        return None if version is None else str(version)

    def _next(self, name: str) -> str:
        problem = validate_name(name)
        if problem is not None:
            raise ValueError(problem)
        self._uses[name] += 1
        return effect_id_of(name, self._uses[name])

    def _read(self, effect_id: str) -> JournalEntry | None:
        self._unread.discard(effect_id)
        return self._journal.get(effect_id)
