"""`payment-engine keys create ORIGIN`, or `--operator NAME`: makes a key, prints it once and keeps its keyed hash.

Called by `streams.cli.keys`, which finds it by its name. The key goes to standard output alone, so that it can be piped
into a secret store; everything else goes to standard error.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from http_ingress.access.api_keys import KeyRecord, append_record, create_key, create_operator_key
from schemas import identifiers
from schemas.card_disguises import hides_card_number
from schemas.identifiers import InvalidIdentifierError
from schemas.misconfigured import MisconfiguredError
from streams import settings
from streams.desk_settings import OperatorsSettings
from streams.kafka_clients.log_clock import wall_clock_ms
from streams.settings import HttpSettings

_PEPPER_BYTES: Final = 32
_FILE_VARIABLE: Final = "PAYMENT_ENGINE_HTTP_KEYS_FILE"
_OPERATORS_FILE_VARIABLE: Final = "PAYMENT_ENGINE_OPERATORS_KEYS_FILE"


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        MisconfiguredError: no key file, no pepper or an unfit one, a file that cannot be written, or neither an
            origin's id nor an operator's name, or one that looks like a card number.
    """
    parser = argparse.ArgumentParser(prog="payment-engine keys", description="Keys of origins and of operators.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key for an origin, or for an operator; it is shown once")
    owner = create.add_mutually_exclusive_group(required=True)
    owner.add_argument("origin", nargs="?", help="origin (merchant) id that the key acts for")
    owner.add_argument("--operator", metavar="NAME", help="person who decides with it, at the operators' port alone")
    create.add_argument(
        "--file",
        type=Path,
        default=None,
        help=f"key file; default: {_FILE_VARIABLE}, of an operator's key: {_OPERATORS_FILE_VARIABLE}",
    )
    chosen = parser.parse_args(arguments)
    try:
        known = settings.load()
        if chosen.operator is None:
            key = _create_for_origin(chosen.origin, chosen.file, known.http)
        else:
            key = _create_for_operator(chosen.operator, chosen.file, known.operators)
        sys.stdout.write(f"{key}\n")
    except (InvalidIdentifierError, OSError) as error:
        raise MisconfiguredError(str(error)) from error


def _create_for_origin(origin: str, file: Path | None, http: HttpSettings) -> str:
    path = _file_of(file or http.keys_file, _FILE_VARIABLE)
    pepper = _pepper_of(http.keys_pepper, "PAYMENT_ENGINE_HTTP_KEYS_PEPPER")
    if hides_card_number(origin):
        raise MisconfiguredError("the origin looks like a card number, which nothing here takes; give it another id")
    key, record = create_key(identifiers.origin_id(origin), pepper=pepper, now_ms=wall_clock_ms())
    return _kept(key, record, path)


def _create_for_operator(name: str, file: Path | None, operators: OperatorsSettings) -> str:
    path = _file_of(file or operators.keys_file, _OPERATORS_FILE_VARIABLE)
    pepper = _pepper_of(operators.keys_pepper, "PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER")
    if hides_card_number(name):
        raise MisconfiguredError("the name looks like a card number, which nothing here takes; give another one")
    key, record = create_operator_key(identifiers.operator_name(name), pepper=pepper, now_ms=wall_clock_ms())
    return _kept(key, record, path)


def _file_of(path: Path | None, variable: str) -> Path:
    if path is None:
        raise MisconfiguredError(f"no key file: set {variable} or say --file")
    return path


def _pepper_of(pepper: SecretStr | None, variable: str) -> bytes:
    if pepper is None:
        proposal = secrets.token_urlsafe(_PEPPER_BYTES)
        raise MisconfiguredError(f"no pepper: set {variable} to a secret, such as {proposal}")
    return pepper.get_secret_value().encode()


def _kept(key: str, record: KeyRecord, path: Path) -> str:
    append_record(path, record)
    sys.stderr.write(f"key {record.key_id} of {record.owner} is in {path}; it is shown only now\n")
    return key
