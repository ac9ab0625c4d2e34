"""Entry point of the `tenure` program.  It imports nothing first: Ctrl-C during the imports prints no traceback."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> None:
    """Import and run the command line.  SIGINT ends the process at once until a command runs, and after it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tenure_drivers.cli.main import main as command_line  # takes a third of a second

    try:
        signal.signal(signal.SIGINT, before)
        command_line()
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
