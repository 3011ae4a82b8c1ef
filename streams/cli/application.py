"""Puts the command modules together. Called by the console script, `python -m streams.cli` and the tests."""

from importlib import import_module
from inspect import getdoc
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.terminal import expected_failures

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
    "upgrade",
    "accounts",
    "keys",
    "settings",
    "doctor",
)


def _before_every_command(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="Settings, as `.env.example` has them; what the environment says goes before."),
    ] = None,
) -> None:
    if env_file is not None:
        with expected_failures():
            from streams.cli.settings import env_file_values
            from streams.settings import add_to_environment

            add_to_environment(env_file_values(env_file))


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
    app.callback()(_before_every_command)
    for name in COMMAND_MODULES:
        import_module(f"streams.cli.{name}").register(app)
    _list_whole_sentences(app)
    return app


def _list_whole_sentences(app: typer.Typer) -> None:
    """Let `--help` list each command with its whole first line: by itself it cuts them to the terminal's width."""
    for command in app.registered_commands:
        said = command.help or getdoc(command.callback) or ""
        command.short_help = said.partition("\n")[0]
    for group in app.registered_groups:
        if group.typer_instance is not None:
            group.short_help = str(group.typer_instance.info.help)
            _list_whole_sentences(group.typer_instance)
