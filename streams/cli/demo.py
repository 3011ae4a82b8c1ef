"""`payment-engine demo`: a scripted tour against a fresh engine. Calls `development.demo`."""

from typing import Annotated

import typer

from streams.cli import ended_by_interrupt
from streams.cli.exits import ExitCode
from streams.cli.terminal import console, expected_failures


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="demo")(demo)


def demo(
    gateway: Annotated[
        str | None, typer.Option(help="Play at this gateway, reached as the settings say. Else at one of our own.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the ingress; 0 takes a free one.")] = 0,
) -> None:
    """A tour: pay, capture, refund, replay, conflict, dead letters. Exit code 0 when all of it went as told."""
    with expected_failures(), ended_by_interrupt():
        from streams.cli.loop import run_until_told, set_up_logs
        from streams.development.demo.casts import cast_at
        from streams.development.demo.tour import play_tour
        from streams.settings import load

        load()
        set_up_logs("demo")
        cast = cast_at(gateway)
        as_told = run_until_told(lambda stopping: play_tour(console(), stopping, cast=cast, http_port=port))
        if as_told is None:
            raise typer.Exit(int(ExitCode.INTERRUPTED))
        if not as_told:
            raise typer.Exit(int(ExitCode.FAILED))
