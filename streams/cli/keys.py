"""`payment-engine keys create`: a key for an origin or an operator. Called by `application`.

The ingress owns keys and how they are hashed, and `streams` never imports it: `http_ingress.keys` is found by its name.
"""

from importlib import import_module

import typer

from streams.cli.programs import PASS_ON
from streams.cli.terminal import expected_failures

app = typer.Typer(help="Keys of origins and of operators.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="keys")


@app.callback()
def _group() -> None:
    """Keep `create` a sub-command although it is the only one."""


@app.command(context_settings=PASS_ON, add_help_option=False)
def create(context: typer.Context) -> None:
    """Make a key for an origin, or for an operator: printed once, kept as a keyed hash."""
    with expected_failures():
        import_module("http_ingress.keys").main(["create", *context.args])
