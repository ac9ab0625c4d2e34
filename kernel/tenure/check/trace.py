"""A path through a world, as text and as a Mermaid sequence diagram."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Line", "Trace"]


@frozen
class Line:
    """One step: who did what, to whom, and what was answered."""

    who: str
    what: str
    answer: str = ""
    to: str = ""  # "": it happened to the one who did it

    def __str__(self) -> str:
        text = f"{self.who}: {self.what}" if self.who else self.what
        return f"{text} -> {self.answer}" if self.answer else text


@frozen
class Trace:
    """A shortest way to a state that breaks a sentence."""

    name: str
    sentence: str
    lines: tuple[Line, ...]

    def text(self) -> str:
        """The trace as lines of text."""
        steps = [f"{n:3}. {line}" for n, line in enumerate(self.lines, 1)]
        return "\n".join([f"{self.name}: broken after {len(steps)} steps:", *steps,
                          f"     NOT: {self.sentence}"])  # fmt: skip

    def mermaid(self) -> str:
        """A sequence diagram, for a page or an issue."""
        out = ["sequenceDiagram"]
        actors = dict.fromkeys(name for line in self.lines for name in (line.who, line.to) if name)
        out += [f"    participant {_word(name)} as {_plain(name)}" for name in actors]
        for line in self.lines:
            who = _word(line.who or "world")
            if not line.to:
                out.append(f"    Note over {who}: {_plain(str(line.what))}")
                continue
            out.append(f"    {who}->>{_word(line.to)}: {_plain(line.what)}")
            if line.answer:
                out.append(f"    {_word(line.to)}-->>{who}: {_plain(line.answer)}")
        over = ",".join(list(map(_word, actors))[:: max(len(actors) - 1, 1)]) or "world"
        out.append(f"    Note over {over}: NOT: {_plain(self.sentence)}")
        return "\n".join(out) + "\n"


def _word(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _plain(text: str) -> str:
    """Mermaid ends a message at these."""
    return text.replace(";", ",").replace("#", "no. ").replace("\n", " ")
