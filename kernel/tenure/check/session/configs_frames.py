"""The systems of one session with states and frames."""

from __future__ import annotations

from typing import Final

from . import operators as o
from .pieces import PLAIN, PROMPT, QUEUED, clauses, extended
from .states import ModelConfig

__all__ = ["ALL", "BLOBS", "FRAMES"]


BLOBS: Final = ModelConfig(
    "blobs",
    "equal and different states in three frames, and an environment; a turn and changes at rest",
    (PROMPT,),
    {
        "idle": ("begin", "acquire"),
        "begun": ("environment a", "commit, state b"),
        "reported": ("commit",),
        "closing": ("commit as cancelled",),
        "editing": (
            *("amend, a twice", "amend, state b", "amend, no states"),
            *("amend, open f", "amend, open g empty", "amend, first"),
        ),
        "amended": ("release session",),
    },
    workers=1,
    lose=False,
    crash=False,
    lapse=False,
    expects=clauses("FRAME-2,3,4"),
)
FRAMES: Final = ModelConfig(
    "frames",
    "a frame is opened with a hand-off, left and entered again; a rollback, crashes, lost answers",
    (PROMPT, QUEUED),
    extended(
        PLAIN,
        begun=("commit, open f", "commit, first", "commit, state b"),
    ),
    (o.roll_back(),),
    workers=1,
    expects=clauses("COMMIT-24 FRAME-2,3,4"),
    ends=("consumed", "superseded"),
)

ALL: Final = (FRAMES, BLOBS)
