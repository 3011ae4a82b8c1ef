"""`payment-engine schemas check|register`. Called by `application`."""

import typer

app = typer.Typer(help="The Avro schemas of the records.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="schemas")
