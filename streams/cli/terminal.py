"""What every command shares: output formats, the two consoles, and how an expected failure ends a command.

Called by the command modules. Answers go to standard output, everything else to standard error, so that `-o json` can
be piped. Rich is imported when something is drawn.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Never

import typer

from streams.cli.exits import ExitCode, exit_of

if TYPE_CHECKING:
    from rich.console import Console


PIPE_COLUMNS = 240


class Output(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For a person, or JSON for a program.")]


def console() -> "Console":
    """Return the console that answers go to."""
    from rich.console import Console

    # A pipe has no width: what folds a table there breaks whoever reads it line by line.
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def error_console() -> "Console":
    """Return the console that progress, notes and errors go to."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line of an answer, as it is."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a line beside the answer, on standard error."""
    typer.echo(text, err=True)


def print_json(answer: object) -> None:
    """Print an answer as JSON, indented, on standard output."""
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def fail(message: str, code: ExitCode) -> Never:
    """End the command with one line on standard error."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(int(code))


@contextmanager
def expected_failures() -> Iterator[None]:
    """End the command in one line and an exit code for what can happen (`exits`); a defect keeps its trace."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:  # `| head` has read enough: typer ends the command without a word
        raise
    except Exception as error:  # the table says which are expected
        known = exit_of(error)
        if known is None:
            raise
        code, told = known
        fail(told, code)
