"""The one table of exit codes, and the one place where an error becomes one of them.

Called by `terminal.expected_failures`, in which every command and program of the command line runs.
docs/operations.md holds the same table, and a test holds the two together. What an operator can
mend is one line on standard error. A defect keeps its trace, for whoever supervises the process.
"""

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """What a command or program ends with."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """Make the code with its meaning, which the documentation repeats."""
        code = int.__new__(cls, number)
        code._value_ = number
        code.meaning = meaning
        return code

    OK = 0, "done; a program that was told to stop has stopped in order"
    FAILED = (
        1,
        (
            "done, and the answer is bad (the doctor found a failure, a schema is incompatible); or it broke: "
            "a full disk, a component of `dev` that ended, a defect of the engine, which alone shows a trace"
        ),
    )
    USAGE = 2, "the command line is wrong"
    MISCONFIGURED = 3, "a setting, a right or a topic is wrong; the message names it, and nothing was started"
    UNREACHABLE = 4, "a broker or the registry does not answer; trying again may help"
    REFUSED = 5, "the engine's rules forbid it"
    NOT_FOUND = 6, "what was asked for is not on the log"
    OUTDATED = 7, "a later release wrote what it reads: upgrade it; nothing was guessed or lost"
    INTERRUPTED = 130, "Ctrl-C before there was anything to stop in order"


def as_markdown() -> str:
    """Return the table as docs/operations.md holds it."""
    return "\n".join(
        ["| code | meaning |", "| --- | --- |", *(f"| {int(code)} | {code.meaning} |" for code in ExitCode)]
    )


def exit_of(error: BaseException) -> tuple[ExitCode, str] | None:
    """Return the code and the one line for what an operator can mend, or None for a defect.

    Classes are looked up only now: a command that succeeds never waits for their imports.
    """
    from schemas.decode_errors import OtherReleaseError
    from schemas.misconfigured import MisconfiguredError
    from schemas.releases import OutdatedError
    from streams.operator_tools.errors import NotFoundError, OperationError, RefusedError

    told = str(error) or type(error).__name__
    match error:
        case MisconfiguredError():
            return ExitCode.MISCONFIGURED, f"refusing to start: {told}"
        case NotFoundError():
            return ExitCode.NOT_FOUND, told
        case RefusedError():
            return ExitCode.REFUSED, told
        case OutdatedError() | OtherReleaseError():
            return ExitCode.OUTDATED, told
        case OperationError():
            return ExitCode.UNREACHABLE, told
    return _of_library(error) or _of_program(error, told)


def _of_library(error: BaseException) -> tuple[ExitCode, str] | None:
    from aiokafka.errors import KafkaError

    from streams.kafka_clients.errors import classify

    return exit_of(classify(error)) if isinstance(error, KafkaError) else None


def _of_program(error: BaseException, told: str) -> tuple[ExitCode, str] | None:
    from streams.development.local_engine import ComponentFailedError
    from streams.kafka.errors import (
        LocalRowsLockedError,
        StalledError,
        TooLargeError,
        TopicsNotReadyError,
        WorkerError,
    )
    from streams.kafka_clients.errors import RejectedError, RetryableError

    unanswered = f"the log does not answer as it must: {told}; `payment-engine doctor` tells more"
    ready_first = f"refusing to start: {told}; `payment-engine topics plan` shows, `payment-engine topics apply` mends"
    # The first line that fits counts: subclasses stand before their roots.
    table: tuple[tuple[type[BaseException], ExitCode, str], ...] = (
        (TopicsNotReadyError, ExitCode.MISCONFIGURED, ready_first),
        (LocalRowsLockedError, ExitCode.MISCONFIGURED, f"refusing to start: {told}"),
        (StalledError, ExitCode.UNREACHABLE, unanswered),
        (RetryableError, ExitCode.UNREACHABLE, unanswered),
        (RejectedError, ExitCode.FAILED, f"the log will never take a record as it is: {told}"),
        (WorkerError, ExitCode.FAILED, f"{told}; started again, it goes on from the log"),
        (ComponentFailedError, ExitCode.FAILED, told),
        (TimeoutError, ExitCode.UNREACHABLE, unanswered),
        (ConnectionError, ExitCode.UNREACHABLE, unanswered),
        (OSError, ExitCode.FAILED, told),
    )
    if isinstance(error, TooLargeError):  # a defect: whoever decides must keep its rows and messages within the limits
        return None
    return next(((code, text) for kind, code, text in table if isinstance(error, kind)), None)
