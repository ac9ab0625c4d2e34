"""A profile that is written with a command: by Open and Admit for a new session, by Amend at any time.  Spec: specs/profile.md."""

from __future__ import annotations

from typing import ClassVar, Final

from attrs import astuple, field, frozen

from ..limits import LABEL_CHARACTERS_MAX, LABELS_MAX, PROFILE_BYTES_MAX
from ..outcome import Drop, Insert, Update
from ..records import Child, Fork, Label, Profile, Relation, Root
from ..replace import replace
from .transaction import Transaction
from .validation import size_of, validate_id, validate_text

__all__ = [
    "NewProfile",
    "change_profile",
    "create_profile",
    "hash_profile",
    "validate_change",
    "validate_profile",
]


NODE_CHARACTERS_MAX: Final = 1_000  # of the id of a node, which contains the id of its run


@frozen
class NewProfile:
    """A profile as it is submitted.

    `labels`: at most 16 names with a value each, in any order.  `data`: opaque text, at most 16,384 bytes.
    """

    since: ClassVar = 2
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    relation: Relation = Root()
    data: str | None = field(
        default=None,
        repr=lambda d: repr(d) if d is None or len(d) < 80 else f"<{len(d)} characters>",
    )


def hash_profile(new: NewProfile) -> list[object]:
    """Return the parts of a profile that enter a digest."""
    relation = [new.relation.__class__.__name__.lower(), *astuple(new.relation)]
    return [new.name, sorted(new.labels), relation, new.data]


def validate_profile(new: NewProfile, session_id: str) -> str | None:
    """PROFILE-3: return which limit the profile of this session violates, or None."""
    names = [name for name, _ in new.labels]
    if len(names) > LABELS_MAX:
        return f"{len(names)} labels; at most {LABELS_MAX}"
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return f"label {twice}: given twice; each name has one value"
    for name, value in new.labels:
        problem = validate_id("label", name) or validate_text(
            f"value of label {name}", value, LABEL_CHARACTERS_MAX
        )
        if problem is None and "=" in name:
            problem = f"label {name!r}: expected a name without ="
        if problem is not None:
            return problem
    if new.name is not None and (problem := validate_text("name", new.name, LABEL_CHARACTERS_MAX)):
        return problem
    if new.data is not None:
        if (size := size_of(new.data)) > PROFILE_BYTES_MAX:
            return f"data of {size} bytes; at most {PROFILE_BYTES_MAX}"
        if problem := validate_text("data", new.data, PROFILE_BYTES_MAX):
            return problem
    return _validate_relation(new.relation, session_id)


def _validate_relation(relation: Relation, session_id: str) -> str | None:
    match relation:
        case Child(parent=other) | Fork(origin=other) if other == session_id:
            return f"relation {relation}: a session does not come from itself"
        case Child(parent, cause):
            return validate_id("parent", parent) or validate_text(
                "cause", cause, LABEL_CHARACTERS_MAX
            )
        case Fork(origin, node):
            return validate_id("origin", origin) or (
                None if node is None else validate_text("node", node, NODE_CHARACTERS_MAX)
            )
        case _:
            return None


def create_profile(tx: Transaction, new: NewProfile) -> None:
    """PROFILE-1, PROFILE-5: write the profile and the labels of a session that has none."""
    profile = Profile(
        tx.session.session_id, new.relation, tx.now_ms, tuple(sorted(new.labels)), new.name, new.data
    )  # fmt: skip
    tx.write(Insert(profile))
    _write_labels(tx, profile, {})


def validate_change(new: NewProfile, session_id: str, old: Profile | None) -> str | None:
    """PROFILE-4: return why a profile cannot take the place of another one, or None."""
    if problem := validate_profile(new, session_id):
        return problem
    if old is None or new.relation in (Root(), old.relation):
        return None
    return f"relation {new.relation}: that of the session is {old.relation}, and never changes"


def change_profile(tx: Transaction, new: NewProfile, old: Profile | None) -> None:
    """PROFILE-4: replace name, labels and data; the relation and the time of creation stay."""
    if old is None:
        create_profile(tx, new)
        return
    profile = replace(old, name=new.name, labels=tuple(sorted(new.labels)), data=new.data)
    tx.write(Update(profile))
    _write_labels(tx, profile, dict(old.labels))


def _write_labels(tx: Transaction, profile: Profile, before: dict[str, str]) -> None:
    """PROFILE-5: write the rows of labels that differ."""
    for name, value in profile.labels:
        row = Label(profile.session_id, name, value, profile.created_at_ms)
        if name not in before:
            tx.write(Insert(row))
        elif before[name] != value:
            tx.write(Update(row))
    for name in sorted(before.keys() - dict(profile.labels).keys()):
        tx.write(Drop(Label, (profile.session_id, name)))
