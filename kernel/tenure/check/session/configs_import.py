"""The system of a session that is imported: three pages, out of order, twice, wrong, and given up."""

from __future__ import annotations

from typing import Final

from ... import commands as c
from ...imports import digest_of_page, promise
from ...replace import replace
from ...transcript import Role
from . import operators as o
from .pieces import DELAYED, PLAIN, PROMPT, clauses
from .states import ModelConfig

__all__ = ["ALL", "IMPORT"]


ASKED: Final = c.ImportNode("a", Role.USER, "add 2 and 3", 1)
CALLED: Final = c.ImportNode("b", Role.ASSISTANT, "add", 2, ("x",))
FOUND: Final = c.ImportNode("c", Role.TOOL, "5", 3, ("x",))
TOLD: Final = c.ImportNode("d", Role.ASSISTANT, "it is 5", 4)
PAGES: Final = ((ASKED, CALLED), (FOUND, ASKED), (TOLD,))
WRONG: Final = replace(FOUND, body="6")


IMPORT: Final = ModelConfig(
    "import",
    "a session that is imported in three pages, which come out of order, twice and wrong; it is given up",
    (PROMPT, DELAYED),
    PLAIN,
    (
        *[o.import_page(number, nodes) for number, nodes in enumerate(PAGES, 1)],
        o.import_page(1, (), "an empty page, called"),
        o.import_page(2, (WRONG,), "a wrong page"),
        o.import_page(2, (FOUND, WRONG), "a page with two nodes of one id, called"),
        o.import_page(3, (replace(TOLD, body="it is 6"),), "a wrong page"),
        o.import_page(3, (CALLED, replace(CALLED, node_id="e")), "a page with open calls, called"),
        o.interrupt(1),
        o.destroy(),
    ),
    workers=1,
    lose=False,
    probes=True,
    importing=promise(map(digest_of_page, PAGES)),
    expects=clauses("IMPORT-1,3,4,5,6,7,8,9,10,11 PHASE-18 PROFILE-3"),
    ends=("consumed", "abandoned", "superseded"),
)
ALL: Final = (IMPORT,)
