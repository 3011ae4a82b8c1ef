"""`python -m http_ingress.keys create ORIGIN`, which `payment-engine keys create` becomes: make an API key.

The key goes to standard output, once; its keyed hash goes to the key file of the settings. A running ingress takes it
within KEY_FILE_CHECK_INTERVAL_S seconds. To revoke a key, delete its line.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from http_ingress.api_keys import append_record, create_key
from http_ingress.compose import now_ms
from schemas import identifiers
from schemas.identifiers import InvalidIdentifierError
from streams import settings
from streams.settings import MisconfiguredError

EXIT_UNABLE = 2

app = typer.Typer(help="API keys of origins.", no_args_is_help=True, add_completion=False)


@app.callback()
def _group() -> None:
    """Keep `create` a sub-command although it is the only one."""


@app.command()
def create(origin: Annotated[str, typer.Argument(help="The origin (merchant) that the key is for.")]) -> None:
    """Make an API key for an origin: printed once, kept as a keyed hash."""
    try:
        path, pepper = _place_and_pepper()
        key, record = create_key(identifiers.origin_id(origin), pepper=pepper, now_ms=now_ms())
        append_record(path, record)
    except (MisconfiguredError, InvalidIdentifierError, OSError) as error:
        typer.echo(f"no key was made: {error}", err=True)
        raise typer.Exit(EXIT_UNABLE) from None
    typer.echo(key)
    typer.echo(f"Kept as a keyed hash in {path}; the key itself is not shown again.", err=True)


def _place_and_pepper() -> tuple[Path, bytes]:
    http = settings.load().http
    if http.keys_file is None or http.keys_pepper is None:
        raise MisconfiguredError("PAYMENT_ENGINE_HTTP_KEYS_FILE and PAYMENT_ENGINE_HTTP_KEYS_PEPPER: both needed")
    return http.keys_file, http.keys_pepper.get_secret_value().encode()


if __name__ == "__main__":
    sys.exit(app(prog_name="payment-engine keys"))
