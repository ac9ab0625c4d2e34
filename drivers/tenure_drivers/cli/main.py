"""`tenure`: the root of the command line, and the commands run, inspect, show and events.

A command parses its arguments and prints answers.  Every decision is the kernel's.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterator
from importlib.util import find_spec
from keyword import iskeyword
from typing import Any, ClassVar, Final

import click

from tenure.release import RELEASE

from .exit import Exit
from .invoke import code_of, invoke, invoke_async
from .limits import check_threads, raise_limit_of_open_files
from .options import FOR_WORKERS, READ_HELP, position
from .output import open_standard_streams

__all__ = []


SESSION_COMMANDS: Final = (
    *("interrupt", "cancel", "withdraw", "replace", "reorder", "dead", "retry"),
    *("retire", "stop", "reset", "reopen", "destroy"),
)


JOB_COMMANDS: Final = ("ps", "job", "signal", "cancel-job", "abandon", "drain")


SECTIONS: Final = {  # of `tenure --help`
    "Work": ("run", "work", "submit", "ask", "steer"),
    "Approvals": ("tickets", "decide"),
    "Jobs and triggers": (*JOB_COMMANDS, "triggers"),
    "Begin with a conversation": ("fork", "import"),
    "Look": ("inspect", "sessions", "show", "events", "dead", "outbound"),
    "Change a session": tuple([name for name in SESSION_COMMANDS if name != "dead"]),
    "Stores and rules": ("store", "check", "explain", "demo"),
}


@contextlib.contextmanager
def interrupts_end_the_process() -> Iterator[None]:
    """Exit after Ctrl-C outside the body of a command too; click would print "Aborted!" and exit with 1."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(Exit.INTERRUPTED) from None


class Lazy(click.Group):
    """A command group that imports some of its commands on first use, which keeps `tenure --help` fast."""

    later: ClassVar = {
        "ask": "tenure_drivers.cli.submit",
        "check": "tenure_drivers.cli.check",
        "decide": "tenure_drivers.cli.tickets",
        "demo": "tenure_drivers.demo.command",
        "explain": "tenure_drivers.cli.explain",
        "fork": "tenure_drivers.cli.importing",
        "import": "tenure_drivers.cli.importing",
        "outbound": "tenure_drivers.cli.outbound",
        "steer": "tenure_drivers.cli.submit",
        "store": "tenure_drivers.cli.store.command",
        "submit": "tenure_drivers.cli.submit",
        **dict.fromkeys(JOB_COMMANDS, "tenure_drivers.cli.jobs"),
        **dict.fromkeys(SESSION_COMMANDS, "tenure_drivers.cli.session"),
        "sessions": "tenure_drivers.cli.sessions",
        "tickets": "tenure_drivers.cli.tickets",
        "triggers": "tenure_drivers.cli.triggers",
        "work": "tenure_drivers.cli.run.service",
    }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with interrupts_end_the_process():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with interrupts_end_the_process():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = [name for name, module in self.later.items() if find_spec(module)]
        return [*super().list_commands(ctx), *found]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by what they are for; those of no section come last."""
        names = self.list_commands(ctx)
        listed = {name for section in SECTIONS.values() for name in section}
        rest = tuple([name for name in names if name not in listed])
        for title, section in {**SECTIONS, "More": rest}.items():
            commands = [(n, self.get_command(ctx, n)) for n in section if n in names]
            rows = [(n, c.get_short_help_str(120)) for n, c in commands if c is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.later:
            return super().get_command(ctx, name)
        if find_spec(self.later[name]) is None:
            return None
        module = importlib.import_module(self.later[name])
        command: click.Command = getattr(
            module, f"{name}_" if iskeyword(name) else name.replace("-", "_")
        )
        return command


def version() -> str:
    """Return the version of the installed package."""
    return importlib.metadata.version("tenure")


@click.group(
    cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(
    version(),
    prog_name="tenure",
    message=f"%(prog)s, version %(version)s; works on stores in which release {RELEASE - 1} or {RELEASE} is active",
)
def tenure() -> None:
    """Durable agent sessions: a stored input is not lost and ends at most once, even if processes crash.

    \b
    Process a file of prompts with three worker processes.  Any of them may be killed at any time:
      printf '%s\\n' '{"session":"ann","text":"hello"}' '{"session":"ann","text":"again"}' > prompts.jsonl
      tenure run --store sqlite:agent.db --agent echo --workers 3 prompts.jsonl
    Look at the stored sessions, during the run or afterwards:
      tenure inspect --store sqlite:agent.db
      tenure inspect --store sqlite:agent.db ann
      tenure show --store sqlite:agent.db ann
      tenure events --store sqlite:agent.db ann --follow
    List the questions to people, and decide on one:
      tenure tickets --store sqlite:agent.db
      tenure decide --store sqlite:agent.db ann TICKET approve --by ada
    Check the rules in every state of small systems; print a rule whose number is in a message:
      tenure check
      tenure explain LEASE-5
    """


@tenure.command()
@FOR_WORKERS
@click.option(
    "--ordered/--no-ordered",
    default=True,
    show_default=True,
    help="Keep order within a session: a prompt waiting for a retry blocks the prompts after it.",
)
@click.option(
    "--name",
    default="",
    help="Included in generated keys.  Use a new name to process the same file again.",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for prompts with a future available_at_ms, and for questions that have a time limit.",
)
@click.argument("file", default="-", metavar="[FILE|-]")
def run(**options: Any) -> None:
    """Process a file of prompts and wait until all have ended.

    \b
    Each line of FILE (default: standard input) is one prompt, a JSON object:
      {"session": "ann", "text": "hello"}
      {"session": "ann", "text": "again", "key": "2", "priority": 0, "available_at_ms": 1767225600000}
    session          its prompts are processed one by one: by priority, then in the order of the file
    text             the input of the agent, up to 10,000,000 bytes
    key              idempotency key; default: made from --name, the content of the line and a counter
                     for equal lines, so only new lines are processed when you run a file again
    priority         0 (first) to 1000000 (last), default 128
    available_at_ms  earliest time to start, in milliseconds since 1970

    \b
    All lines are checked first.  If any is invalid, all invalid ones are reported and none is admitted.
    Prints one JSON line for each prompt, in the order of the file, when it and all before it have ended:
      {"line", "session", "key", "input_id", "run_id", "ended", "termination", "text", "failures"}
    ended            consumed (a run used it), dead_lettered, abandoned, withdrawn, superseded, refused
    termination      how the run ended: finished, error, cancelled, ...
    text, failures   the answer; failed attempts since the run last recorded something
    After a crash, run the command again: it processes what is left and prints the same lines.

    \b
    Agents:
      echo              replies with the text
      ledger:FILE       appends "input_id text" to FILE exactly once, then replies with the text
      flaky:N           fails N times, then replies with the text
      script:FILE       a test model without a server: each line of the prompt is one of its replies, and
                        may call tools (add 2 3 & append paid); the tool append writes to FILE, and so
                        does buy, after an approval
      openai:MODEL      a chat with a model; reads OPENAI_API_KEY, and OPENAI_BASE_URL for another server
      module:attribute  your own agent: async def attribute(turn) -> str

    \b
    Example:
      tenure run --store sqlite:agent.db --agent ledger:ledger.txt --workers 3 prompts.jsonl

    \b
    Exit codes:
      0        all prompts succeeded: each was consumed by a run that finished
      1        a prompt was not consumed, or its run did not finish (it was stopped or cancelled, or ended
               in error), or output could not be written
      2        invalid arguments or lines; every invalid line is reported, nothing was admitted
      3        some prompts are delayed or wait in their session; standard error names the earliest
      4        store unavailable, unreadable, or of a newer release; or no worker could be started
      130 143  Ctrl-C or SIGTERM: turns in progress have --grace seconds to end, and the next run resumes
               those that do not; a second signal stops at once
      141      standard output was closed
    """
    from .run.command import Job, main

    job = Job(**options)
    invoke(lambda: main(job))


@tenure.command()
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object per session.")
@click.option(
    "--tail",
    default=20,
    type=click.IntRange(0),
    show_default=True,
    help="Number of transcript messages to show.",
)
@click.argument("session", required=False)
def inspect(store: str, session: str | None, as_json: bool, tail: int) -> None:
    """List the sessions of a store, or show one session in full.

    \b
    Without SESSION, print one line for each session, with these columns:
      kind       session, job or trigger: they share one space of ids
      phase      open, retired, stopping, stopped, destroyed or importing
      lease      the owner, and the time that is left
      open run   the run whose turn has recorded something and has not ended
      unended    the number of inputs that have not ended
      due        when there is work for the session
      revision   how often the visible transcript has changed
    With SESSION, print also its inbox in order, its unfinished runs and their journals, its dead letters,
    the end of its transcript, and its usage:
      status     of an input: ready, delayed, bound (a run works on it), or how it ended
      rank       the place of a ready input among those of its priority
      due        when the input or the run may begin; -: when it is its turn
      state      of a run: running, rescheduled (it is to be tried again) or waiting (for people or a time)
      turn, n    of a run: the number of its turn, and of the turn's next checkpoint
      failures   attempts of a run that raised; outages: of a service; losses: worker processes that died
      entry      of a journal: turn.checkpoint.position; kind and step: what was recorded there
    Read-only: never creates or changes a store, and is safe while workers are running.
    If a session cannot be read, its id is printed and the remaining sessions are shown.

    \b
    Example:
      tenure inspect --store sqlite:agent.db ann --json | jq .inbox

    \b
    Exit codes:
      0  shown
      1  shown, except for sessions that cannot be read
      2  no such store or session
      4  the store or SESSION cannot be read, or a newer release is active
    """
    from .inspect import command as inspect_command

    invoke_async(inspect_command.inspect(store, session, tail, as_json))


@tenure.command()
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.option("--markdown", "form", flag_value="markdown", help="Print Markdown.")
@click.option(
    "--json", "form", flag_value="json", help="Print one JSON object with all texts in full."
)
@click.option(
    "--limit", default=200, type=click.IntRange(1), show_default=True,
    help="Number of messages to show, counted from the end, or from --before.",
)  # fmt: skip
@click.option(
    "--before", type=position, metavar="POSITION",
    help="Show the page before this position, which the page after it has printed.",
)  # fmt: skip
@click.argument("session")
def show(
    store: str, session: str, form: str | None, limit: int, before: tuple[int, str] | None
) -> None:
    """Print a conversation: inputs, replies, tool calls, results.

    \b
      > prompt 0193...        an input, with its kind and id
        add 2 and 3
      assistant               a reply
        [reasoning: 40 characters]
        * add {"numbers": [2, 3]}
          = 5                 the result of this call; "!" marks an error, "..." a call without a result
        it is 5
      -- run 0193... ended cancelled    a run that did not finish, and how it ended

    \b
    Inputs that ended without an answer (withdrawn, abandoned, dead letters), and runs that did not
    finish, are shown at their place in the conversation.  At the end come the output of the current turn
    that is not committed yet, and the inbox.
    Long texts are cut.  --json prints everything, including reasoning.
    If something was before, the output names the position: --before POSITION shows the page before it.
    Read-only: never creates or changes a store, and is safe while workers are running.

    \b
    Examples:
      tenure show --store sqlite:agent.db ann
      tenure show --store sqlite:agent.db ann --markdown > ann.md
      tenure show --store sqlite:agent.db ann --json | jq '.conversation[].calls'

    \b
    Exit codes:
      0  shown
      2  no such store or session
      4  the store or the session cannot be read, or a newer release is active
    """
    from .show import command as show_command

    invoke_async(show_command.show(store, session, limit, form or "text", before))


@tenure.command()
@click.option("--store", required=True, metavar="URL", help=READ_HELP)
@click.option(
    "--after", default=0, type=click.IntRange(0), help="Start after the event with this number."
)
@click.option("--follow", is_flag=True, help="Keep printing new events until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@click.argument("session")
def events(store: str, session: str, after: int, follow: bool, as_json: bool) -> None:
    """Print the events of a session.  Their numbers have no gaps.

    Each line has the number, the time, the kind, the run, the inputs, and what else the kind says.
    The kinds are in specs/event.md; tenure explain EVENT-1 prints the first of its rules.
    If retention has removed some of them, standard error says which.
    Read-only: never creates or changes a store, and is safe while workers are running.

    \b
    Example:
      tenure events --store sqlite:agent.db ann --after 10 --follow --json

    \b
    Exit codes:
      0    shown
      2    no such store or session
      4    the store or the session cannot be read, or a newer release is active
      130  Ctrl-C
    """
    from .inspect import command as inspect_command

    invoke_async(inspect_command.events(store, session, after, follow, as_json))


def main() -> None:
    """Run the command line of this process: its arguments, streams and exit code."""
    open_standard_streams()
    raise SystemExit(code_of(run_click, "tenure"))


def run_click() -> None:
    raise_limit_of_open_files()
    check_threads()
    tenure(prog_name="tenure")
