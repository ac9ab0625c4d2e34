"""`tenure explain`: print a clause, the page that defines it, and the scenarios that show it."""

from __future__ import annotations

import difflib
import re
import textwrap
from pathlib import Path
from typing import Final

import click
from attrs import evolve, frozen

from .exit import usage_error
from .invoke import invoke
from .output import write_bytes, write_lines

__all__ = ["Specs"]


PACKAGED: Final = Path(__file__).resolve().parents[1] / "specs"  # in a wheel
CHECKOUT: Final = Path(__file__).resolve().parents[3] / "specs"

WIDTH: Final = 100  # of a printed clause
NAMED: Final = re.compile(r"\b[A-Z]+-\d+\b")
DEFINITION: Final = re.compile(
    r"^- \*\*([A-Z]+-\d+)\*\* (.+?)(?=\n(?:- |\n|#|\|)|\Z)", re.MULTILINE | re.DOTALL
)
TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)


@frozen
class Clause:
    """One numbered rule.  `page` is relative to the specs folder; `section` is the heading above the clause."""

    clause: str
    sentence: str
    page: str
    title: str
    section: str
    scenarios: tuple[str, ...] = ()


@frozen
class Specs:
    """The spec pages in a folder."""

    folder: Path

    def clauses(self) -> list[Clause]:
        """Return every clause in the order of pages and lines, without its scenarios."""
        found = []
        for path in sorted(self.folder.glob("*.md")):
            text = path.read_text(encoding="utf-8")
            title = match[1] if (match := TITLE.search(text)) else path.stem
            for match in DEFINITION.finditer(text):
                sections = re.findall(r"^## (.+)$", text[: match.start()], re.MULTILINE)
                sentence = " ".join(match[2].split())
                section = sections[-1] if sections else ""
                found.append(Clause(match[1], sentence, path.name, title, section))
        return found

    def scenarios(self) -> dict[str, list[str]]:
        """Return the scenario files of each clause that an answer or a comment names, relative to the specs folder."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.folder.glob("scenarios/**/*.txt")):
            for clause in set(NAMED.findall(path.read_text(encoding="utf-8"))):
                found.setdefault(clause, []).append(path.relative_to(self.folder).as_posix())
        return found


def specs() -> Specs:
    """Return the spec pages of this installation.  Raises CliExit if they are missing."""
    for folder in (PACKAGED, CHECKOUT):
        if (folder / "README.md").is_file():
            return Specs(folder)
    raise usage_error(f"the spec pages are missing: expected in {PACKAGED}; reinstall tenure")


def wanted(names: tuple[str, ...], known: list[Clause]) -> list[Clause]:
    """Return the clauses of these ids and families, in the given order.  Raises CliExit for an unknown one."""
    found: list[Clause] = []
    for name in names:
        asked = name.upper()
        matching = [c for c in known if asked in (c.clause, c.clause.rpartition("-")[0])]
        if not matching:
            raise usage_error(unknown(name, known))
        found += [clause for clause in matching if clause not in found]
    return found


def unknown(name: str, known: list[Clause]) -> str:
    """Return the message for an unknown clause, with similar names."""
    ids = [clause.clause for clause in known]
    families = sorted({clause.rpartition("-")[0] for clause in ids})
    close = difflib.get_close_matches(name.upper(), ids + families, n=3)
    near = f"did you mean {' or '.join(close)}?" if close else f"families: {', '.join(families)}"
    return f"no clause {name!r}; {near}"


def text(clause: Clause) -> str:
    """Return a clause as text: id and page, sentence, scenarios."""
    where = f"specs/{clause.page}" + (f", {clause.section}" if clause.section else "")
    sentence = textwrap.wrap(
        clause.sentence, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False
    )
    lines = [f"{clause.clause}  {clause.title}  ({where})", *sentence]
    lines += [f"  scenario: specs/{path}" for path in clause.scenarios]
    return "\n".join(lines) + "\n"


def families(known: list[Clause]) -> str:
    """Return one line per family: name, number of clauses, page."""
    counts: dict[str, list[Clause]] = {}
    for clause in known:
        counts.setdefault(clause.clause.rpartition("-")[0], []).append(clause)
    return "".join(
        f"{family:<12}{len(found):>4}  {found[0].title}  (specs/{found[0].page})\n"
        for family, found in sorted(counts.items())
    )


@click.command()
@click.argument("names", nargs=-1, metavar="[CLAUSE]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per clause.")
def explain(names: tuple[str, ...], as_json: bool) -> None:
    """Print a rule by its id, such as LEASE-5.

    Some messages contain the number of the rule (clause) that caused them.  For each clause this prints its sentence,
    the page that defines it, and the scenarios that name it.  Without CLAUSE, list the families, such as LEASE and RUN.

    \b
    Examples:
      tenure explain LEASE-5          one clause
      tenure explain LEASE            all clauses of a family
      tenure explain LEASE-5 RUN-7    several clauses

    \b
    Exit codes:
      0  printed
      2  no such clause
    """
    invoke(lambda: show(names, as_json))


def show(names: tuple[str, ...], as_json: bool) -> None:
    """Print the families, or the clauses of these names.  Raises CliExit for an unknown name."""
    found = specs()
    known = found.clauses()
    if not names and not as_json:
        write_bytes(families(known).encode())
        return
    scenarios = found.scenarios()
    chosen = [
        evolve(clause, scenarios=tuple(scenarios.get(clause.clause, ())))
        for clause in (wanted(names, known) if names else known)
    ]
    if as_json:
        write_lines([as_object(clause) for clause in chosen])
    else:
        write_bytes("\n".join(map(text, chosen)).encode())


def as_object(clause: Clause) -> dict[str, object]:
    """Return a clause as a JSON object."""
    return {
        "clause": clause.clause,
        "sentence": clause.sentence,
        "page": f"specs/{clause.page}",
        "section": clause.section,
        "scenarios": [f"specs/{path}" for path in clause.scenarios],
    }
