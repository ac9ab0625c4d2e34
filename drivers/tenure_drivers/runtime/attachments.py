"""Attachments of sessions: stores their bytes, reads them, and deletes those of scraps.  Spec: specs/attachment.md."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from tenure.commands import ClaimScraps, DropScraps, Intend, NewAttachment, Open
from tenure.machines.lease import Fence
from tenure.messages.types import Attachment as MessageAttachment
from tenure.outcome import Refusal, Refused
from tenure.queries import Command, Question
from tenure.questions.attachments import HeldAttachments, Scraps, ScrapSessions
from tenure.records import Attachment

from ..blobs.base import BlobStore, digest_of
from ..stores.base import Store, wall_clock_ms
from .clock import new_id
from .errors import CommandRefused, describe
from .retry import retry

__all__ = [
    "SCHEME",
    "AttachmentFiles",
    "NoBlobStore",
    "Patient",
    "ScrapCollector",
    "attachment_id_of",
    "id_in_turn",
    "ids_of",
]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

SCHEME: Final = "attachment:"  # of the URI of an attachment in a message
DELETE_WITHIN_S: Final = (
    60.0  # after a claim, of which the kernel keeps others out five times as long
)
LOOK_EVERY_S: Final = 60.0
PATIENCE_MS: Final = 30_000
RETRY_S: Final = (0.05, 1.0)  # the first pause while bytes are being deleted, and the longest

log = logging.getLogger("tenure")


class NoBlobStore(RuntimeError):
    """Attachments need a store of bytes, and none was given."""

    def __init__(self) -> None:
        super().__init__("no store of bytes: pass blobs=open_blobs(...) to Runtime or Client")


class Commands(Protocol):
    """Executes commands and answers questions: a client or a store."""

    def execute(self, command: Command[V, O], /) -> Awaitable[O | Refused]: ...
    def ask(self, question: Question[A], /) -> Awaitable[A]: ...


def attachment_id_of(uri: str) -> str | None:
    """Return the id of the attachment that a URI names; None: it names something else."""
    return uri.removeprefix(SCHEME) if uri.startswith(SCHEME) else None


def ids_of(named: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of attachments that are named by their URIs or ids."""
    return tuple([attachment_id_of(each) or each for each in named])


def id_in_turn(run_id: str, turn: int, effect_id: str, digest: str) -> str:
    """Return the id of an attachment that a step stores: the same when the step is repeated with the same bytes."""
    words = f"{run_id} {turn} {effect_id} {digest}"
    return hashlib.sha256(words.encode()).hexdigest()[:32]


class Patient:
    """Executes commands on a store again if their outcome is unknown or the store is unavailable, for 30 s."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """Execute a command that may be repeated."""
        return await retry(lambda: self.store.execute(command), patience_ms=PATIENCE_MS)

    async def ask(self, question: Question[A], /) -> A:
        """Answer a question."""
        return await self.store.ask(question)


class AttachmentFiles:
    """The attachments of sessions in one store of records and one of bytes."""

    def __init__(self, commands: Commands, blobs: BlobStore) -> None:
        self.commands, self.blobs = commands, blobs

    async def store(
        self,
        session_id: str,
        data: bytes | Path,
        media_type: str,
        name: str = "",
        *,
        make_id: Callable[[str], str] = lambda digest: new_id(),
        fence: Fence | None = None,
        run_id: str | None = None,
    ) -> MessageAttachment:
        """ATTACH-50: announce an attachment, store its bytes, and return how a message refers to it.

        `make_id` makes its id from the digest of the bytes.  Raises CommandRefused, OSError and what the store of bytes
        raises; then the intent ages.
        """
        digest, size = await asyncio.to_thread(digest_of, data)
        new = NewAttachment(make_id(digest), digest, size, media_type)
        await self._intend(Intend(session_id, (new,), fence, run_id))
        await self.blobs.put(session_id, digest, data)
        return MessageAttachment(SCHEME + new.attachment_id, media_type, name)

    async def _intend(self, command: Intend) -> None:
        """Announce; while the same bytes are being deleted, delete them too if nobody does, and try again (ATTACH-8)."""
        pause_s, longest_s = RETRY_S
        while True:
            answer = await self.commands.execute(command)
            if not isinstance(answer, Refused):
                return
            match answer.reason:
                case Refusal.UNKNOWN_SESSION if command.fence is None:
                    await self.commands.execute(Open(command.session_id))
                case Refusal.DELETING:
                    await ScrapCollector(self.commands, self.blobs).collect(command.session_id)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, longest_s)
                case _:
                    raise CommandRefused("attach", answer)

    async def read(self, session_id: str, named: str) -> bytes | None:
        """ATTACH-52: return the bytes of an attachment, named by its id or URI; None: the session does not hold it."""
        attachment_id = attachment_id_of(named) or named
        found = await self.commands.ask(HeldAttachments(session_id, (attachment_id,)))
        if not found:
            return None
        return await self.blobs.get(session_id, found[0].digest)


class ScrapCollector:
    """ATTACH-51, ATTACH-53: deletes the bytes of scraps, of all sessions.  `start` begins, `stop` ends."""

    def __init__(
        self, commands: Commands, blobs: BlobStore, *, every_s: float = LOOK_EVERY_S
    ) -> None:
        self.commands, self.blobs, self.every_s = commands, blobs, every_s
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last_failure = ""

    def start(self) -> None:
        """Look now, when `notice` is called, and regularly."""
        self._task = asyncio.create_task(self._run())

    def notice(self) -> None:
        """Look soon: there may be new scraps."""
        self._wake.set()

    async def stop(self) -> None:
        """Stop.  What is claimed is found by another process after the claim has run out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.collect_all()
                self._last_failure = ""
            except Exception as error:
                self._log_once(f"cannot delete the bytes of attachments: {describe(error)}")
            try:
                await asyncio.wait_for(self._wake.wait(), self.every_s)
            except TimeoutError:
                pass

    def _log_once(self, failure: str) -> None:
        if failure != self._last_failure:  # looks are repeated
            log.warning("%s", failure)
        self._last_failure = failure

    async def collect_all(self) -> int:
        """Delete the bytes of all scraps that nobody has claimed.  Return how many scraps are gone.

        A session that fails is passed over; the first error is raised at the end.
        """
        count, failed = 0, None
        after: tuple[int, str] | tuple[()] = ()
        while True:
            page = await self.commands.ask(ScrapSessions(after))
            for session in page:
                try:
                    count += await self.collect(session.session_id)
                except Exception as error:
                    failed = failed or error
            if not page:
                if failed is not None:
                    raise failed
                return count
            last = page[-1]
            assert last.scraps_since_ms is not None
            after = (last.scraps_since_ms, last.session_id)

    async def collect(self, session_id: str) -> int:
        """Delete the bytes of the scraps of a session.  Return how many scraps are gone."""
        count = 0
        while True:
            found = await self.commands.ask(Scraps(session_id, wall_clock_ms()))
            gone = await self._delete(session_id, found) if found else 0
            count += gone
            if gone == 0:
                return count

    async def _delete(self, session_id: str, scraps: Sequence[Attachment]) -> int:
        """Claim scraps, delete their bytes while the claim certainly holds, and drop them."""
        loop, claim_id = asyncio.get_running_loop(), new_id()
        until_s = loop.time() + DELETE_WITHIN_S
        pairs = tuple([(row.attachment_id, row.digest) for row in scraps])
        claimed: Any = await self.commands.execute(ClaimScraps(session_id, claim_id, pairs))
        if isinstance(claimed, Refused):
            raise CommandRefused("claim", claimed)
        digests = dict(pairs)
        deleted: list[str] = []
        try:
            async with asyncio.timeout_at(until_s):
                for attachment_id in claimed.attachment_ids:
                    await self.blobs.delete(session_id, digests[attachment_id])
                    deleted.append(attachment_id)
        finally:
            if deleted:
                await self.commands.execute(DropScraps(session_id, claim_id, tuple(deleted)))
        void = await self.commands.ask(Scraps(session_id, wall_clock_ms()))
        left = {row.attachment_id for row in void}
        return sum(name not in left for name, _ in pairs)
