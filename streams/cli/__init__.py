"""The command line `payment-engine`: every program of the engine, and every tool of its operator.

`main` is the console script. One module a group of commands, named in `COMMAND_MODULES`: to add a command, write a
module with `register(app)` and name it there. The modules import what they call when they are called, so that `--help`
answers at once. Expected failures are one line on standard error and an exit code (`terminal.ExitCode`).
"""

from streams.cli.application import main

__all__ = ["main"]
