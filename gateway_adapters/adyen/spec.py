"""What Adyen tells of itself. Named by `gateway_adapters.registry`."""

import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from gateway_adapters.adyen.translate import NAME
from gateway_adapters.adyen.webhooks import AdyenTranslator
from gateway_adapters.contract import Acknowledgement, Capabilities, Gateway
from gateway_adapters.spec import AccountSettings, BaseUrl, GatewaySpec, WebhookSecrets
from schemas.vocabulary import CallKind

if TYPE_CHECKING:
    from gateway_adapters.http_transport import TransportLimits

ACKNOWLEDGED: Final = Acknowledgement(content_type="text/plain; charset=utf-8", body=b"[accepted]")
"""What Adyen's queue waits for (https://docs.adyen.com/development-resources/webhooks/handle-webhook-events)."""

TEST_URL: Final = "https://checkout-test.adyen.com/v71"
LIVE_URL: Final = "https://{prefix}-checkout-live.adyenpayments.com/checkout/v71"
"""https://docs.adyen.com/development-resources/live-endpoints"""

EFFECTS: Final = frozenset(CallKind) - {CallKind.INQUIRE}
OPENING: Final = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
KEY_WINDOW_MS: Final = 7 * 24 * 3_600_000
"""What Adyen promises at least (https://docs.adyen.com/development-resources/api-idempotency)."""

VOID_LIFE_MS: Final = 24 * 3_600_000
"""Adyen tells within minutes. After a day without a word a person looks: money of a payer is held, perhaps."""

CAPABILITIES: Final = Capabilities(
    operations=EFFECTS,
    currencies=None,
    partial_capture=True,
    multiple_capture=True,  # with accounts that Adyen has enabled it for
    partial_refund=True,
    multiple_refund=True,
    inquire_by_key=False,  # the same call with its key is the question
    inquire_by_reference=False,
    not_found_is_proof=False,
    webhooks=True,
    notice_times_signed=False,
    voids_by_own_reference=True,  # a payer who has to act is redirected before Adyen names a payment
    key_window_ms=MappingProxyType(dict.fromkeys(EFFECTS, KEY_WINDOW_MS)),
    # Captures, cancels, refunds and disputes name the payment by Adyen's reference.
    references_indexed=OPENING,
    # What is told of a payment gives ours back, and may come before the answer. Of a void by our reference nothing else
    # may be told.
    own_references_indexed=OPENING | {CallKind.VOID},
    pending_life_ms=MappingProxyType({CallKind.VOID: VOID_LIFE_MS}),
)

_HEXADECIMAL: Final = re.compile(r"([0-9A-Fa-f]{2}){16,}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_MERCHANT_ACCOUNT: Final = re.compile(r"[!-~]{1,80}")


def _checked_keys(value: SecretStr) -> SecretStr:
    if not all(_HEXADECIMAL.fullmatch(each) for each in value.get_secret_value().split(",")):
        raise ValueError("must be HMAC keys as Adyen shows them, in hexadecimal, with commas between them")
    return value


def _checked_prefix(text: str) -> str:
    if _PREFIX.fullmatch(text) is None:
        raise ValueError("must be the prefix alone, such as 1797a841fbb37ca7-AdyenDemo")
    return text


def _checked_merchant_account(text: str) -> str:
    if _MERCHANT_ACCOUNT.fullmatch(text) is None or ":" in text:
        raise ValueError("must be the name of a merchant account: at most 80 visible characters, no colon")
    return text


class AdyenAccount(AccountSettings):
    """One merchant account at Adyen, with an API credential and the HMAC keys of its standard webhook."""

    api_key: SecretStr = Field(description="API key of a web service user that may make payments.")
    merchant_account: Annotated[str, AfterValidator(_checked_merchant_account)] = Field(
        description="Name of the merchant account."
    )
    return_url: BaseUrl = Field(
        description="Where a payer who had to act comes back to, of payments that name no URL of their own. "
        "Adyen wants one with every payment."
    )
    live_prefix: Annotated[str, AfterValidator(_checked_prefix)] | None = Field(
        default=None, description="Prefix of the company's live endpoints. Unset: Adyen's test system."
    )
    url: BaseUrl | None = Field(
        default=None,
        description="Base URL of the Checkout API, with its version, instead of Adyen's own; it may carry a path.",
    )
    multiple_captures: bool = Field(
        default=False,
        description="true: Adyen has enabled multiple partial captures for this merchant account. "
        "Else it lets go of the rest with any capture.",
    )
    webhook_secret: Annotated[WebhookSecrets, AfterValidator(_checked_keys)] | None = Field(
        default=None,
        description="HMAC key of this account's standard webhook, in hexadecimal; several with commas while one is "
        "replaced. The ingress needs it.",
    )

    @field_validator("notices_name_orders")
    @classmethod
    def _never(cls, chosen: bool) -> bool:
        if chosen:
            raise ValueError("must be false: Adyen's notices of captures, refunds and disputes name no order")
        return chosen

    @field_validator("url")
    @classmethod
    def _one_address(cls, url: str | None, others: ValidationInfo) -> str | None:
        if url is not None and others.data.get("live_prefix") is not None:
            raise ValueError("must not be set beside the live prefix, which names the address, too")
        return url

    def base_url(self) -> str:
        """Return where the Checkout API is reached with this account."""
        if self.live_prefix is not None:
            return LIVE_URL.format(prefix=self.live_prefix)
        return TEST_URL if self.url is None else self.url

    def is_live(self) -> bool | None:
        """Return whether this is an account of Adyen's live system; None: its own URL does not tell."""
        return None if self.url is not None else self.live_prefix is not None

    def narrowed(self, gateway: Capabilities) -> Capabilities:
        """Return what can be done with this account, of what can be done at Adyen."""
        can = super().narrowed(gateway)
        return can if self.multiple_captures else replace(can, multiple_capture=False)


def _build(account: AccountSettings, limits: "TransportLimits") -> Gateway:
    from gateway_adapters.adyen.client import AdyenGateway

    assert isinstance(account, AdyenAccount)
    return AdyenGateway(account, limits)


SPEC: Final = GatewaySpec(
    name=NAME,
    settings=AdyenAccount,
    factory=_build,
    capabilities=CAPABILITIES,
    translator=AdyenTranslator(),
)
