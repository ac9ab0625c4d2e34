"""Build the documentation site into a new folder: python .ci/docs.py FOLDER.

The site has the pages of `specs/` and one page for each public module.
Every warning is an error.  Zensical 0.0.73 checks links between pages of `specs/` only, and prints warnings
about docstrings without counting them.  So this script reads what it prints and checks every local link of the
finished site, those to scenarios, pictures and generated pages included.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
ROOTS = {"tenure": ROOT / "kernel", "tenure_drivers": ROOT / "drivers"}
PUBLIC = (
    "tenure",
    "tenure.commands",
    "tenure.questions",
    "tenure.messages",
    "tenure.queries",
    "tenure.indexes",
    "tenure.failure",
    "tenure.transcript",
    "tenure.machines.lease",
    "tenure.worker.machine",
    "tenure.worker.protocol",
    "tenure.runner.machine",
    "tenure.runner.protocol",
    "tenure.job_runner.machine",
    "tenure.job_runner.protocol",
    "tenure.turn.machine",
    "tenure.turn.protocol",
    "tenure.turn_end",
    "tenure.check",
    "tenure.check.scenario.player",
    "tenure_drivers",
    "tenure_drivers.models.openai",
    "tenure_drivers.runtime.clock",
    "tenure_drivers.stores.base",
    "tenure_drivers.stores.field_types",
    "tenure_drivers.stores.hint_bus",
    "tenure_drivers.testing.agreement",
    "tenure_drivers.testing.conformance",
)
EXPECTED = re.compile(r"Build started|No issues found|Build finished in .*|")


class Page(HTMLParser):
    """The anchors, the links and the number of diagrams of one HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.diagrams = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.anchors.add(value)
            elif name in {"href", "src"} and value:
                self.links.add(value)
            elif (tag, name, value) == ("pre", "class", "mermaid"):
                self.diagrams += 1


def write_api_pages(folder: Path) -> None:
    """Write a page for each public module, and an index of the pages."""
    folder.mkdir()
    index = ["# API reference", "", "Modules that are not listed here may change at any time.", ""]
    for module in PUBLIC:
        (folder / f"{module}.md").write_text(f"# {module}\n\n::: {module}\n", encoding="utf-8")
        index.append(f"- [`{module}`]({module}.md)")
    (folder / "README.md").write_text("\n".join([*index, ""]), encoding="utf-8")


def stage(folder: Path) -> None:
    """Lay out a source folder: the configuration, the specs, the API pages, and links to the code."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / ".mkdocs.yml", folder / "mkdocs.yml")
    shutil.copytree(ROOT / "specs", folder / "specs")
    write_api_pages(folder / "specs" / "api")
    for source in ROOTS.values():
        (folder / source.name).symlink_to(source)


def warnings_of(output: str) -> list[str]:
    """Return the lines of a build's output that say anything but that it went well."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    if plain.rstrip().endswith("Aborted because --strict flag is set"):
        plain = plain.partition("Traceback")[0]  # the warnings before it say all
    return [line for line in plain.splitlines() if not EXPECTED.fullmatch(line.strip())]


def broken_links(site: Path) -> Iterator[str]:
    """Yield each local link of the site that leads to no file, or to no anchor of its page."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
                yield f"{path.relative_to(site)}: {link} leads nowhere"


def missing_diagrams(site: Path) -> Iterator[str]:
    """Yield each page of the specs whose Mermaid diagrams do not all arrive in the site."""
    for source in sorted((ROOT / "specs").rglob("*.md")):
        here = source.relative_to(ROOT / "specs").with_suffix("")
        here = here.parent if here.name == "README" else here
        expected = len(re.findall(r"^```mermaid$", source.read_text(encoding="utf-8"), re.M))
        if (found := Page(site / here / "index.html").diagrams) != expected:
            yield f"specs/{here}: {found} of {expected} diagrams"


def main(folder: Path) -> None:
    stage(folder)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    site = folder / "site"
    wrong = warnings_of(built.stdout)
    if built.returncode == 0:
        wrong += [*broken_links(site), *missing_diagrams(site)]
    if wrong or built.returncode != 0:
        sys.exit("\n".join([*wrong, f"the documentation has problems (exit {built.returncode})"]))
    print(f"{len(list(site.rglob('*.html')))} pages in {site}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
