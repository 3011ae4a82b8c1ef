"""A second account at the Mock: what the engine's side and the Mock's side know of it.

The default account is set by variables, this one by an accounts file, so that a run has both.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECOND: Final = "second"
SECRET_VARIABLE: Final = "SECOND_ACCOUNTS_WEBHOOK_SECRET"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondAccount:
    """What the two sides know of the second account."""

    environment: dict[str, str]  # of every component
    served: Path  # the Mock's own file


def second_account(folder: Path, gateway_url: str, webhook_url: str) -> SecondAccount:
    """Write the accounts file of the engine, what it refers to, and the Mock's side of it."""
    api_key, webhook_secret = secrets.token_hex(16), secrets.token_hex(16)
    (folder / "second-api-key").write_text(api_key)
    accounts = folder / "accounts.toml"
    accounts.write_text(
        f"[mock.{SECOND}]\n"
        f'url = "{gateway_url}"\n'
        'api_key = { file = "second-api-key" }\n'
        f'webhook_secret = {{ env = "{SECRET_VARIABLE}" }}\n'
    )
    served = folder / "mock-accounts.json"
    described = {"name": SECOND, "api_key": api_key, "webhook_url": webhook_url, "webhook_secret": webhook_secret}
    served.write_text(json.dumps([described]))
    environment = {"PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE": str(accounts), SECRET_VARIABLE: webhook_secret}
    return SecondAccount(environment=environment, served=served)
