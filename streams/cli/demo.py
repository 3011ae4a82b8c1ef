"""`payment-engine demo`: a scripted tour against a fresh engine. Calls `development.demo`."""

import typer

from streams.cli.terminal import ExitCode, console, expected_failures, fail


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="demo")(demo)


def demo() -> None:
    """A tour: pay, capture, refund, replay, conflict, dead letters. Exit code 0 when all of it went as told."""
    with expected_failures():
        from streams.development.demo.tour import run_tour
        from streams.development.local_engine import ComponentFailedError
        from streams.settings import load

        load()
        try:
            as_told = run_tour(console())
        except ComponentFailedError as error:
            fail(str(error), ExitCode.FAILED)
        if not as_told:
            raise typer.Exit(int(ExitCode.FAILED))
