"""The accounts that one Mock serves: each has its own credential, payments, keys and webhook secret.

A call names its account by its credential, `Authorization: Bearer …`. An account without one is open: it takes the
calls that bring none. Made by `program` from its arguments, asked by `server` and `webhooks`.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from gateway_adapters.mock.signature import DEVELOPMENT_SECRET
from gateway_adapters.mock.wire import Json, WireError, optional_text, text
from schemas.identifiers import DEFAULT_ACCOUNT

DEFAULT: Final[str] = DEFAULT_ACCOUNT
SCHEME: Final = "Bearer "
MAX_ACCOUNTS: Final = 100
MAX_FILE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedAccount:
    """One account of this Mock."""

    name: str
    api_key: str | None = None  # None: open to calls without a credential
    webhook_url: str | None = None  # None: notices are written and stay waiting
    webhook_secret: str = DEVELOPMENT_SECRET


class Accounts:
    """The accounts, found by a call's credential."""

    def __init__(self, served: Iterable[ServedAccount]) -> None:
        """Raises: ValueError when there are none, or two of one name or credential."""
        self.served = {each.name: each for each in served}
        all_of_them = tuple(self.served.values())
        if not 1 <= len(all_of_them) <= MAX_ACCOUNTS:
            raise ValueError(f"1 to {MAX_ACCOUNTS} accounts are needed")
        if len({each.api_key for each in all_of_them}) < len(all_of_them):
            raise ValueError("two accounts have the same credential")

    def named_by(self, authorization: str | None) -> str | None:
        """Return the account that this `Authorization` header names; None: none, and the call is refused."""
        if authorization is None:
            return next((each.name for each in self.served.values() if each.api_key is None), None)
        shown = authorization.removeprefix(SCHEME).encode()
        for each in self.served.values():
            if each.api_key is not None and hmac.compare_digest(each.api_key.encode(), shown):
                return each.name
        return None


def read(path: Path) -> tuple[ServedAccount, ...]:
    """Return the accounts in a JSON file: a list of `{name, api_key, webhook_url, webhook_secret}`.

    Raises:
        ValueError: it cannot be read as that; the message names the field, never its value.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"{path}: more than {MAX_FILE_BYTES} bytes")
    try:
        listed: object = orjson.loads(raw)
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise WireError("must be a list of objects")
        return tuple(_account(each) for each in listed)
    except ValueError as error:  # a WireError is one, and so is what orjson raises
        raise ValueError(f"{path}: {error}") from error


def _account(body: Json) -> ServedAccount:
    return ServedAccount(
        name=text(body, "name"),
        api_key=optional_text(body, "api_key"),
        webhook_url=optional_text(body, "webhook_url"),
        webhook_secret=optional_text(body, "webhook_secret") or DEVELOPMENT_SECRET,
    )
