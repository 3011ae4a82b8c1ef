"""`payment-engine keys create ORIGIN`: makes an API key, prints it once and keeps its keyed hash.

Called by `streams.cli.keys`, which finds it by its name. The key goes to standard output alone, so that it can be piped
into a secret store; everything else goes to standard error.
"""

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from http_ingress.access.api_keys import append_record, create_key
from schemas import identifiers
from schemas.card_disguises import hides_card_number
from schemas.identifiers import InvalidIdentifierError
from schemas.misconfigured import MisconfiguredError
from streams import settings
from streams.settings import HttpSettings

_PEPPER_BYTES: Final = 32


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        MisconfiguredError: no key file, no pepper or an unfit one, a file that cannot be written, or no
            origin's id, or one that looks like a card number.
    """
    parser = argparse.ArgumentParser(prog="payment-engine keys", description="API keys of origins.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key for an origin; it is shown once")
    create.add_argument("origin", help="origin (merchant) id that the key acts for")
    create.add_argument("--file", type=Path, default=None, help="key file; default: PAYMENT_ENGINE_HTTP_KEYS_FILE")
    chosen = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{_create(chosen.origin, chosen.file, settings.load().http)}\n")
    except (InvalidIdentifierError, OSError) as error:
        raise MisconfiguredError(str(error)) from error


def _create(origin: str, file: Path | None, http: HttpSettings) -> str:
    path = file or http.keys_file
    if path is None:
        raise MisconfiguredError("no key file: set PAYMENT_ENGINE_HTTP_KEYS_FILE or say --file")
    if http.keys_pepper is None:
        proposal = secrets.token_urlsafe(_PEPPER_BYTES)
        raise MisconfiguredError(f"no pepper: set PAYMENT_ENGINE_HTTP_KEYS_PEPPER to a secret, such as {proposal}")
    pepper = http.keys_pepper.get_secret_value().encode()
    if hides_card_number(origin):
        raise MisconfiguredError("the origin looks like a card number, which nothing here takes; give it another id")
    now_ms = time.time_ns() // 1_000_000
    key, record = create_key(identifiers.origin_id(origin), pepper=pepper, now_ms=now_ms)
    append_record(path, record)
    sys.stderr.write(f"key {record.key_id} of {record.origin_id} is in {path}; it is shown only now\n")
    return key
