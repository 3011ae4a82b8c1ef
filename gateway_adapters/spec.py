"""What each gateway tells of itself: its name, what an account of it needs, how it is built, what it can do.

Each gateway's folder holds one `GatewaySpec`, in its `spec` module; `registry` is the tuple of them. Everything else
follows from it: the settings there are (`streams.settings`), the gateways that are called and verified with
(`registry.build_gateways`), what the orders agent plans by and translates with. Light to import: a spec loads its
client, and with it an HTTP stack, only when a gateway is built.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter

from gateway_adapters.contract import Ability, Capabilities, Gateway, WebhookTranslator
from schemas.identifiers import AccountName, GatewayName

if TYPE_CHECKING:
    from gateway_adapters.http_transport import TransportLimits

MAX_URL_CHARS: Final = 2048
"""Longest base URL: what common proxies take as a request line's, with room to spare."""

_HTTP_URL: Final = TypeAdapter(AnyHttpUrl)


def checked_base_url(text: str) -> str:
    """Return the base URL without a slash at its end; it may carry a path.

    Raises:
        ValueError: it is none: another scheme, no host, or with credentials, a query or a fragment. The message does
            not hold the URL: its credentials would be in the log.
    """
    if len(text) > MAX_URL_CHARS or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"must be a URL of at most {MAX_URL_CHARS} printable ASCII characters without spaces")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL with a host and, if any, a port from 1 to 65535") from None
    # The parser below mends `http:host` and `http:///host` in silence; a setting is not to be guessed at.
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("must begin with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or a password: they would stand in logs")
    if "?" in text or "#" in text:
        raise ValueError("must not hold a query or a fragment: paths are put after it")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("must be a URL with a host and, if any, a port from 1 to 65535")
    try:
        _HTTP_URL.validate_python(text)
    except ValueError:
        raise ValueError("must be a URL with a host and, if any, a port from 1 to 65535") from None
    return text.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(checked_base_url)]
"""Where a gateway is reached: `http` or `https`, a host, perhaps a port and a path."""


def _checked_secrets(value: SecretStr) -> SecretStr:
    if not all(value.get_secret_value().split(",")) or value.get_secret_value().split() != [value.get_secret_value()]:
        raise ValueError("must hold secrets with commas between them, none of them empty, and no spaces")
    return value


WebhookSecrets = Annotated[SecretStr, AfterValidator(_checked_secrets)]
"""Secrets that webhooks are signed with, with commas: each of them is good, so that one can be replaced by the next."""


def _checked_currencies(text: str) -> str:
    if not all(re.fullmatch(r"[A-Z]{3}", each) for each in _listed(text)):
        raise ValueError("must be ISO 4217 currencies in upper case, with commas, such as EUR,USD")
    return text


def _checked_lacks(text: str) -> str:
    for each in _listed(text):
        ability, colon, currency = each.partition(":")
        if ability not in set(Ability) or (colon and re.fullmatch(r"[A-Z]{3}", currency) is None):
            raise ValueError(
                "must be abilities with commas, each for all currencies or, as multiple_capture:JPY, for one; "
                f"known: {', '.join(Ability)}"
            )
    return text


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


class AccountSettings(BaseModel):
    """What a deployment says about one account at one gateway, frozen. Each gateway adds its own fields.

    A field without a default is needed as soon as any other of the account is set. Its description tells meaning and
    unit; it becomes a row of the table of settings. A credential is a `SecretStr`, which no log and no table shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhook_secret: WebhookSecrets | None = Field(
        default=None,
        description="Secret that this gateway's webhooks are signed with; several with commas while one is replaced. "
        "The ingress needs it.",
    )

    currencies: Annotated[str, AfterValidator(_checked_currencies)] | None = Field(
        default=None,
        description="ISO 4217 currencies that this account takes, with commas. Payments in others are routed past it. "
        "Unset: all that the gateway takes.",
    )
    lacks: Annotated[str, AfterValidator(_checked_lacks)] | None = Field(
        default=None,
        description="What the gateway can do and this account may not, with commas, such as multiple_capture or "
        "partial_refund:JPY. It is refused before it is sent.",
    )

    calls_per_second: float | None = Field(
        default=None,
        gt=0,
        le=10_000,
        description="Calls a second that one executor makes to this account at most; the others wait. Give each of "
        "several executors its share. Unset: no limit but the gateway's own.",
    )

    notices_name_orders: bool = Field(
        default=False,
        description="true: every notice of this account gives our metadata back, so its references are not indexed. "
        "That saves two of a payment's fifteen records. A notice that names a reference alone is a dead letter then.",
    )

    def narrowed(self, gateway: Capabilities) -> Capabilities:
        """Return what can be done with this account, of what can be done at its gateway."""
        currencies = gateway.currencies
        if self.currencies is not None:
            own = frozenset(_listed(self.currencies))
            currencies = own if currencies is None else own & currencies
        lacks = [each.partition(":") for each in _listed(self.lacks)] if self.lacks else []
        return replace(
            gateway,
            currencies=currencies,
            references_indexed=frozenset() if self.notices_name_orders else gateway.references_indexed,
            not_in_currency=gateway.not_in_currency
            | {(Ability(ability), currency) for ability, colon, currency in lacks if colon},
            **{ability: False for ability, colon, _ in lacks if not colon},  # type: ignore[arg-type]  # each is a bool
        )

    def webhook_secrets(self) -> tuple[str, ...]:
        """Return each secret that a webhook may be signed with; empty when none is set."""
        return () if self.webhook_secret is None else tuple(self.webhook_secret.get_secret_value().split(","))


Accounts = Mapping[GatewayName, Mapping[AccountName, AccountSettings]]
"""The accounts that are set up. A gateway without any is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySpec:
    """One gateway, as the registry lists it."""

    name: GatewayName  # lower-case letters and digits: it stands in policies, records, routes and variables
    settings: type[AccountSettings]  # of one account
    factory: Callable[[AccountSettings, "TransportLimits"], Gateway]  # given an instance of `settings`; sends nothing
    capabilities: Capabilities
    translator: WebhookTranslator
    development_webhook_secret: str | None = None  # what its simulator signs with; public, so for development alone
