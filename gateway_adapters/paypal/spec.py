"""What PayPal tells of itself. Named by `gateway_adapters.registry`."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field, SecretStr

from gateway_adapters.contract import Capabilities, Gateway
from gateway_adapters.paypal.money import EXPONENTS
from gateway_adapters.paypal.notices import PayPalTranslator
from gateway_adapters.paypal.translate import NAME
from gateway_adapters.spec import AccountSettings, BaseUrl, GatewaySpec, WebhookSecrets
from schemas.vocabulary import CallKind

if TYPE_CHECKING:
    from gateway_adapters.http_transport import TransportLimits

ORDERS_WINDOW_MS: Final = 6 * 3_600_000
"""How long a request id of an order is kept (checkout_orders_v2, 'PayPal-Request-Id'); longer on request."""
PAYMENTS_WINDOW_MS: Final = 45 * 86_400_000
"""How long one of a capture, void or refund is (payments_payment_v2)."""

CAPABILITIES: Final = Capabilities(
    operations=frozenset(CallKind),
    currencies=frozenset(EXPONENTS),
    partial_capture=True,
    multiple_capture=True,
    partial_refund=True,
    multiple_refund=True,
    inquire_by_key=False,  # there is no search: the same call with its key is the question
    inquire_by_reference=True,
    not_found_is_proof=False,
    webhooks=True,
    key_window_ms=MappingProxyType(
        {
            CallKind.AUTHORIZE: ORDERS_WINDOW_MS,
            CallKind.SALE: ORDERS_WINDOW_MS,
            CallKind.COMPLETE: ORDERS_WINDOW_MS,
            CallKind.CAPTURE: PAYMENTS_WINDOW_MS,
            CallKind.VOID: PAYMENTS_WINDOW_MS,
            CallKind.REFUND: PAYMENTS_WINDOW_MS,
        }
    ),
    refunds_name_captures=True,
    tells_cases=False,
    # A dispute, a reversal and a refund at PayPal's desk name captures.
    references_indexed=frozenset({CallKind.AUTHORIZE, CallKind.SALE, CallKind.CAPTURE}),
    # What opens a payment is told with our reference alone, perhaps before its answer.
    own_references_indexed=frozenset({CallKind.AUTHORIZE, CallKind.SALE}),
)


class PayPalAccount(AccountSettings):
    """One account at PayPal: an app of a merchant."""

    url: BaseUrl = Field(
        description="Base URL of PayPal: https://api-m.paypal.com, or https://api-m.sandbox.paypal.com; it may carry a "
        "path. Unset: no PayPal."
    )
    client_id: str = Field(min_length=1, max_length=255, description="Client id of the account's app at PayPal.")
    client_secret: SecretStr = Field(description="Secret of the account's app at PayPal.")
    webhook_secret: WebhookSecrets | None = Field(
        default=None,
        description="Id of the webhook at PayPal, as its dashboard shows it; several with commas while one is "
        "replaced. No secret, but what each delivery is bound to. The ingress needs it.",
    )
    webhook_roots: str | None = Field(
        default=None,
        description="File of the root certificates that may vouch for PayPal's signatures, PEM. Unset: Mozilla's, as "
        "the package certifi has them.",
    )
    webhook_check: Literal["certificate", "call"] = Field(
        default="certificate",
        description="How webhooks are verified. certificate: here, by PayPal's certificate. call: PayPal is asked "
        "about each, which costs a call and waits for it.",
    )


def _build(account: AccountSettings, limits: "TransportLimits") -> Gateway:
    from gateway_adapters.paypal.client import PayPalGateway

    assert isinstance(account, PayPalAccount)
    return PayPalGateway(account, limits)


SPEC: Final = GatewaySpec(
    name=NAME,
    settings=PayPalAccount,
    factory=_build,
    capabilities=CAPABILITIES,
    translator=PayPalTranslator(),
)
