"""Puts the command modules together. Called by the console script, `python -m streams.cli` and the tests."""

from importlib import import_module

import typer

# The order of `--help`. A new group of commands is a new module with `register(app)`, named here.
COMMAND_MODULES = (
    "programs",
    "demo",
    "topics",
    "topology",
    "schemas",
    "payments",
    "dlq",
    "policy",
    "keys",
    "settings",
    "doctor",
)


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="payment-engine",
        help="A payment engine whose system of record is a Kafka log.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # its traces show local variables, which may hold tokens and secrets
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    for name in COMMAND_MODULES:
        import_module(f"streams.cli.{name}").register(app)
    return app
