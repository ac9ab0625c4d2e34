"""`tenure store`: check, migrate, prune, reseal, export, import and fence a whole store, and end a quarantine."""

from __future__ import annotations

import click

from .checking import check, readmit
from .copying import export_, import_
from .fencing import fence_all
from .migrating import activate, migrate
from .pruning import prune
from .resealing import reseal

__all__ = ["store"]


@click.group()
def store() -> None:
    """Check, migrate, activate, prune or copy a store, end all its leases, or end the quarantine of a session.

    \b
    After you restored a backup, or made an asynchronous standby server the primary:
      tenure store check --store postgresql://db/agents
      tenure store fence-all --store postgresql://db/agents
    Move from a file to a server, after stopping all workers:
      tenure store export --store sqlite:agent.db > agent.jsonl
      tenure store import --store postgresql://db/agents agent.jsonl
    """


for command in (check, readmit, fence_all, migrate, activate, prune, reseal, export_, import_):
    store.add_command(command)
