"""A path through a system, as text and as a Mermaid sequence diagram."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Line", "Trace"]


@frozen
class Line:
    """One step: the actor, its action, the answer, and the receiver."""

    who: str
    what: str
    answer: str = ""
    to: str = ""  # "": the actor itself

    def __str__(self) -> str:
        text = f"{self.who}: {self.what}" if self.who else self.what
        return f"{text} -> {self.answer}" if self.answer else text


@frozen
class Trace:
    """A shortest path to a state that violates a property."""

    name: str
    violated: str  # the name of the property
    lines: tuple[Line, ...]

    def text(self) -> str:
        """Return the trace as lines of text."""
        steps = [f"{n:3}. {line}" for n, line in enumerate(self.lines, 1)]
        return "\n".join([f"{self.name}: property violated after {len(steps)} steps:", *steps,
                          f"     violated: {self.violated}"])  # fmt: skip

    def mermaid(self) -> str:
        """Return a Mermaid sequence diagram."""
        out = ["sequenceDiagram"]
        actors = dict.fromkeys(name for line in self.lines for name in (line.who, line.to) if name)
        out += [f"    participant {_word(name)} as {_plain(name)}" for name in actors]
        for line in self.lines:
            who = _word(line.who or "system")
            if not line.to:
                out.append(f"    Note over {who}: {_plain(str(line.what))}")
                continue
            out.append(f"    {who}->>{_word(line.to)}: {_plain(line.what)}")
            if line.answer:
                out.append(f"    {_word(line.to)}-->>{who}: {_plain(line.answer)}")
        over = ",".join(list(map(_word, actors))[:: max(len(actors) - 1, 1)]) or "system"
        out.append(f"    Note over {over}: violated: {_plain(self.violated)}")
        return "\n".join(out) + "\n"


def _word(name: str) -> str:
    """Return an identifier for Mermaid."""
    return "".join(c if c.isalnum() else "_" for c in name)


def _plain(text: str) -> str:
    """Replace the characters that end a message in Mermaid."""
    return text.replace(";", ",").replace("#", "no. ").replace("\n", " ")
