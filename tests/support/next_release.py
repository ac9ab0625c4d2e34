"""The sources of a made-up next release: a copy of these sources with the edits that specs/schema.md describes.

It adds a record (`Bookmark`), a column (`Input.note`) and an ignorable one (`Input.mood`), two indexes, a command, a field of a command, a member and a
class, and it changes the meaning of a column: `usage.requests` counts thousandths of a request.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from paths import DRIVERS, KERNEL

from tenure.release import RELEASE

__all__ = ["NEXT", "environment", "make_next_release"]


NEXT = RELEASE + 1

COMMAND = '''"""Bookmark: name a place of a session."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from ..indexes import BOOKMARKS
from ..outcome import Decided, Insert, Refused
from ..queries import Command, First, Get, Question, Reads, read
from ..records import Bookmark, Input, Session


@frozen
class BookmarkView:
    session: Session | None
    bookmark: Bookmark | None
    all: tuple[Bookmark, ...]


@frozen
class SetBookmark(Command[BookmarkView, int]):
    """Answers how many bookmarks the session has now."""

    since: ClassVar = {next}
    session_id: str
    name: str
    note: str | None = None

    def reads(self) -> Reads[BookmarkView]:
        s = self.session_id
        return read(
            BookmarkView,
            Get(Session, (s,)),
            Get(Bookmark, (s, self.name)),
            First(BOOKMARKS, (s,), 100),
        )

    def decide(self, view: BookmarkView, now_ms: int) -> Decided[int] | Refused:
        if view.bookmark is not None:
            return Decided(len(view.all), "SCHEMA-3", replayed=True)
        made = Insert(Bookmark(self.session_id, self.name, self.note))
        return Decided(len(view.all) + 1, "SCHEMA-3", (made,))


@frozen
class Bookmarks(Question[tuple[Bookmark, ...]]):
    """The bookmarks of a session with a note, in their order, read along an index of the next release."""

    session_id: str

    def steps(self):
        found = yield First(BOOKMARKS, (self.session_id,), 100)
        return found


@frozen
class Notes(Question[tuple[Input, ...]]):
    """The inputs of a session that have a note."""

    session_id: str

    def steps(self):
        from ..indexes import NOTES

        found = yield First(NOTES, (self.session_id,), 100)
        return found
'''

RECORD = '''@frozen
class Bookmark(Record):
    """A place in a session."""

    key: ClassVar = ("session_id", "name")
    since: ClassVar = {next}
    session_id: str
    name: str
    note: str | None


RECORDS: Final'''

Edit = tuple[str, str, str]  # file, the text there, the text instead


def edits() -> list[Edit]:
    """Return the edits, each at a place that occurs once."""
    n = NEXT
    return [
        ("tenure/release.py", f"RELEASE: Final = {RELEASE}\n", f"RELEASE: Final = {n}\n"),
        # a record, with an index
        ("tenure/records.py", "RECORDS: Final", RECORD.replace("{next}", str(n))),
        (
            "tenure/records.py",
            "    Usage,\n    Blob,\n",
            "    Usage,\n    Blob,\n    Bookmark,\n",
        ),
        (
            "tenure/indexes.py",
            "from .records import (\n",
            "from .records import (\n    Bookmark,\n",
        ),
        (
            "tenure/indexes.py",
            "DECLARED: Final",
            f'BOOKMARKS: Final = Index("bookmark_note", Bookmark, ("session_id", "note"), since={n})\n'
            f'NOTES: Final = Index("input_note", Input, ("session_id", "note"), since={n})\n'
            "DECLARED: Final",
        ),
        ("tenure/indexes.py", "    USAGES,\n", "    USAGES,\n    BOOKMARKS,\n    NOTES,\n"),
        # a column, and the field of a command that fills it
        (
            "tenure/records.py",
            '    added: ClassVar = {"retry_of": 2, "origin": 2, "parent": 2, "resolution": 2, "pruned": 2}\n',
            f'    ignorable: ClassVar = ("mood",)\n'
            f'    added: ClassVar = {{"note": {n}, "mood": {n}, "retry_of": 2, "origin": 2, "parent": 2, "resolution": 2, "pruned": 2}}\n',
        ),
        (
            "tenure/records.py",
            '    payload: str = field(repr=lambda p: repr(p) if len(p) < 80 else f"<{len(p)} characters>")\n',
            "    payload: str\n    note: str | None = None\n    mood: str | None = None\n",
        ),
        (
            "tenure/commands/submission.py",
            '    added: ClassVar = {\n        "target": 2,\n',
            '    ignorable: ClassVar = ("mood",)\n'
            f'    added: ClassVar = {{\n        "note": {n},\n        "mood": {n},\n        "target": 2,\n',
        ),
        (
            "tenure/commands/submission.py",
            "    policy: Policy | None = None",
            "    note: str | None = None\n    mood: str | None = None\n    policy: Policy | None = None",
        ),
        (
            "tenure/commands/admit.py",
            "policy, tx.now_ms, new.payload,\n",
            "policy, tx.now_ms, new.payload, new.note, new.mood,\n",
        ),
        # another meaning of a column
        (
            "tenure/records.py",
            '    """The usage of one model by one source, added up."""\n',
            "    version: ClassVar = 2\n",
        ),
        ("tenure/commands/usage.py", "t.requests + d.requests", "t.requests + 1000 * d.requests"),
        (
            "tenure/upgrades.py",
            "CHANGES: Final[tuple[Change, ...]] = ()",
            "CHANGES: Final[tuple[Change, ...]] = (\n"
            f'    Change("usage", 2, {n}, lambda r: {{**r, "requests": r["requests"] * 1000}},\n'
            '        lambda r: {**r, "requests": r["requests"] // 1000}),\n)',
        ),
        # a member of an enumeration
        (
            "tenure/journal_records.py",
            '    NOTE = "note"  # a message for people; also appended as an event\n',
            '    NOTE = "note"\n    REMARK = "remark"\n',
        ),
        ("tenure/journal_records.py", '{"TAKEN": 2', f'{{"REMARK": {n}, "TAKEN": 2'),
    ]


def make_next_release(folder: Path) -> Path:
    """Write the sources of the next release into a folder, and return it."""
    for source in (KERNEL, DRIVERS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=ignored)
    (folder / "tenure/commands/bookmark.py").write_text(COMMAND.replace("{next}", str(NEXT)))
    for name, old, new in edits():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name}: {old!r} occurs {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def environment(sources: Path | None) -> dict[str, str]:
    """Return the environment of a process of the next release; None: of this one."""
    if sources is None:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": str(sources)}
