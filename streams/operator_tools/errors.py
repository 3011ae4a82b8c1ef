"""Expected failures of an operator's command, by what the operator can do about each.

    OperationError
    ├── NotFoundError          what was asked for is not on the log (any more)
    ├── RefusedError           the engine's rules forbid it; asking again changes nothing
    └── UnreachableError       a broker or registry does not answer; trying again may help

`streams.cli` turns each into one line on standard error and an exit code; anything else is a defect and
shows its trace.
"""


class OperationError(Exception):
    """An operator's command could not be done; the message says why, in one line a person can act on."""


class NotFoundError(OperationError):
    """What was asked for is not on the log, or no longer."""


class RefusedError(OperationError):
    """The engine's rules forbid what was asked."""


class UnreachableError(OperationError):
    """A broker or the registry did not answer in time, or refused the connection."""
