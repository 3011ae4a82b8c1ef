"""The command line `payment-engine`: every program of the engine, and every tool of its operator.

`main` is the console script. One module a group of commands, named in `application.COMMAND_MODULES`: to add a command,
write a module with `register(app)` and name it there. The modules import what they call when they are called, so that
`--help` answers at once. Expected failures are one line on standard error and an exit code (`exits.ExitCode`).
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Final

INTERRUPTED: Final = 130
"""`exits.ExitCode.INTERRUPTED`, before there is time to import that."""


@contextlib.contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once while nothing is open yet, instead of showing where in an import it was."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    with ended_by_interrupt():
        from streams.cli.application import build

        app = build()
    app()
