"""`tenure`: the command line.  It reads arguments and shows answers; the kernel decides."""

from __future__ import annotations

import importlib
import importlib.metadata
from importlib.util import find_spec
from typing import ClassVar, Final

import click

from .invoke import invoke, invoke_async

STORE_HELP: Final = (
    "sqlite:PATH, files:FOLDER, postgresql://HOST/DATABASE, or memory: (gone with the process)."
)
AGENT_HELP: Final = "echo | ledger:FILE | flaky:N | script:FILE | openai:MODEL | module:attribute."


class Lazy(click.Group):
    """A group that imports some of its commands only when they are wanted."""

    later: ClassVar = {
        "check": "tenure_drivers.cli.check",
        "demo": "tenure_drivers.demo.command",
        "explain": "tenure_drivers.cli.explain",
        "store": "tenure_drivers.cli.store",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = [name for name, module in self.later.items() if find_spec(module)]
        return [*super().list_commands(ctx), *found]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.later:
            return super().get_command(ctx, name)
        if find_spec(self.later[name]) is None:
            return None
        module = importlib.import_module(self.later[name])
        command: click.Command = getattr(module, name)
        return command


def version() -> str:
    return importlib.metadata.version("tenure")


@click.group(
    cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version(), prog_name="tenure")
def tenure() -> None:
    """Durable agent sessions: every input is answered once, in order, whatever dies.

    \b
    A file of prompts, answered by three processes that may be killed at will:
      printf '%s\\n' '{"session":"ann","text":"hello"}' '{"session":"ann","text":"again"}' > prompts.jsonl
      tenure run --store sqlite:agent.db --agent echo --workers 3 prompts.jsonl
    Look at what is stored while it works, or afterwards:
      tenure inspect --store sqlite:agent.db
      tenure inspect --store sqlite:agent.db ann
      tenure events --store sqlite:agent.db ann --follow
      tenure show --store sqlite:agent.db ann
    Prove the rules to yourself, and read one that a message names:
      tenure check
      tenure explain LEASE-5
    """


@tenure.command()
@click.option("--store", required=True, metavar="URL", help=STORE_HELP)
@click.option("--agent", required=True, metavar="AGENT", help=AGENT_HELP)
@click.option(
    "--workers", default=1, type=click.IntRange(1, 256), show_default=True, help="OS processes."
)
@click.option(
    "--ordered/--no-ordered",
    default=True,
    show_default=True,
    help="Whether what is behind a prompt that waits for its retry waits too.",
)
@click.option("--name", default="", help="Goes into the keys: another name does the file again.")
@click.option("--wait", is_flag=True, help="Wait for lines that are delayed.")
@click.option(
    "--patience",
    default=30.0,
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    show_default=True,
    help="How long the store may be away before it counts as lost.",
)
@click.argument("file", default="-", metavar="[FILE|-]")
def run(
    store: str,
    agent: str,
    workers: int,
    ordered: bool,
    name: str,
    wait: bool,
    patience: float,
    file: str,
) -> None:
    """Work a file of prompts until every one of them has ended.

    \b
    Each line of FILE (or standard input) is one prompt, a JSON object:
      {"session": "ann", "text": "hello"}
      {"session": "ann", "text": "again", "key": "2", "priority": 0, "available_at_ms": 1767225600000}
    session          whose conversation it belongs to; a session's prompts are worked in order
    text             what the agent gets, up to 10,000,000 bytes
    key              by which it is known again; without one it is made of --name, the line and how
                     many equal lines stand before it, so a file that grows is continued
    priority         0 to 1000000: 0 comes first, 128 is the default
    available_at_ms  not before this time (milliseconds since 1970)

    \b
    All lines are checked first; if one is bad, all bad ones are named and nothing is admitted.
    Then one JSON line is printed for each prompt, in the order of the file, once it and all before
    it have ended:
      {"line", "session", "key", "input_id", "run_id", "ended", "termination", "text", "failures"}
    Run again on the same file and store, after kill -9 too, and it finishes what is left and prints
    the same lines.

    \b
    Agents:
      echo              answers the text
      ledger:FILE       appends "input_id text" to FILE, exactly once, then answers the text
      flaky:N           fails N times, then answers the text
      script:FILE       a model without a server: each line of the text is a reply, which may call
                        tools: add 2 3 & append paid; FILE takes the lines that are appended
      openai:MODEL      a chat with a model: OPENAI_API_KEY, OPENAI_BASE_URL for another server
      module:attribute  your own: async def attribute(turn) -> str

    \b
    Example:
      tenure run --store sqlite:agent.db --agent ledger:ledger.txt --workers 3 prompts.jsonl

    \b
    Exit codes:
      0        all consumed
      1        something was not: dead-lettered, abandoned, withdrawn, refused, or could not be printed
      2        unusable input: every bad line is named, nothing was admitted
      3        some are delayed or wait, the earliest is named on standard error
      4        the store was lost, cannot be read or is of a newer release, or no worker can be started
      130 143  Ctrl-C or SIGTERM: what was under way is finished; a second one stops at once
      141      nobody reads standard output
    """
    from .run.command import Job, main

    job = Job(store, agent, file, workers, ordered, name, wait, patience)
    invoke(lambda: main(job))


@tenure.command()
@click.option("--store", required=True, metavar="URL", help="As of tenure run; it is only read.")
@click.option("--json", "as_json", is_flag=True, help="JSON: a line a session, or one object.")
@click.option(
    "--tail", default=20, type=click.IntRange(0), show_default=True, help="Of the transcript."
)
@click.argument("session", required=False)
def inspect(store: str, session: str | None, as_json: bool, tail: int) -> None:
    """Show all sessions of a store, or one in full.

    \b
    Without SESSION: phase, who holds the lease and for how long, the open run, how many inputs have
    not ended, when something can be done next, the transcript's revision.
    With SESSION: also its inbox in order, unfinished runs and their journals, dead letters, the end
    of the transcript, usage.
    Nothing is written, and a file that is not there is not made; others may work it meanwhile.
    Without SESSION the others are shown where a session cannot be read, which is named.

    \b
    Example:
      tenure inspect --store sqlite:agent.db ann --json | jq .inbox

    \b
    Exit codes: 0 shown, 1 but for sessions that cannot be read, 2 no such store or session, 4 the store
    or the one session cannot be read, or is of a newer release.
    """
    from .inspect import command as inspect_command

    invoke_async(inspect_command.inspect(store, session, tail, as_json))


@tenure.command()
@click.option("--store", required=True, metavar="URL", help="As of tenure run; it is only read.")
@click.option("--markdown", "form", flag_value="markdown", help="Markdown, on any output.")
@click.option("--json", "form", flag_value="json", help="One JSON object, with nothing cut.")
@click.option(
    "--limit", default=200, type=click.IntRange(1), show_default=True,
    help="Messages, from the end.",
)  # fmt: skip
@click.argument("session")
def show(store: str, session: str, form: str | None, limit: int) -> None:
    """Print the conversation of a session: what was said, and what became of it.

    \b
      > prompt 0193...        what came in, with its kind and id
        add 2 and 3
      assistant               what was answered
        [reasoning: 40 characters]
        * add {"numbers": [2, 3]}
          = 5                 the result of this call;  ! an error, cancelled, or outcome unknown
        it is 5
      -- run 0193... ended cancelled

    \b
    In its place stands what was withdrawn, abandoned or is a dead letter, and how runs ended that did
    not finish; behind it what a turn under way has written but not committed, with calls that wait
    for their results; last the inbox.  Long texts are cut; --json has all of it, reasoning too.
    Nothing is written, and a file that is not there is not made; others may work it meanwhile.

    \b
    Examples:
      tenure show --store sqlite:agent.db ann
      tenure show --store sqlite:agent.db ann --markdown > ann.md
      tenure show --store sqlite:agent.db ann --json | jq '.conversation[].calls'

    \b
    Exit codes: 0 shown, 2 no such store or session, 4 the store cannot be read.
    """
    from .show import command as show_command

    invoke_async(show_command.show(store, session, limit, form or "text"))


@tenure.command()
@click.option("--store", required=True, metavar="URL", help="As of tenure run; it is only read.")
@click.option("--after", default=0, type=click.IntRange(0), help="Events above this number.")
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.argument("session")
def events(store: str, session: str, after: int, follow: bool, as_json: bool) -> None:
    """Print what happened in a session, numbered without gaps.

    \b
    Example:
      tenure events --store sqlite:agent.db ann --after 10 --follow --json

    \b
    Exit codes: 0 shown, 2 no such store or session, 4 the store cannot be read, 130 Ctrl-C.
    """
    from .inspect import command as inspect_command

    invoke_async(inspect_command.events(store, session, after, follow, as_json))


def main() -> None:
    tenure(prog_name="tenure")
