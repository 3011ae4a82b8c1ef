"""`payment-engine demo`: a scripted tour against a fresh engine. Calls `development.demo`."""

import typer

from streams.cli import ended_by_interrupt
from streams.cli.exits import ExitCode
from streams.cli.terminal import console, expected_failures


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="demo")(demo)


def demo() -> None:
    """A tour: pay, capture, refund, replay, conflict, dead letters. Exit code 0 when all of it went as told."""
    with expected_failures(), ended_by_interrupt():
        from streams.cli.loop import run_until_told, set_up_logs
        from streams.development.demo.tour import play_tour
        from streams.settings import load

        load()
        set_up_logs("demo")
        as_told = run_until_told(lambda stopping: play_tour(console(), stopping))
        if as_told is None:
            raise typer.Exit(int(ExitCode.INTERRUPTED))
        if not as_told:
            raise typer.Exit(int(ExitCode.FAILED))
