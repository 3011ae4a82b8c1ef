"""What Stripe tells of itself. Named by `gateway_adapters.registry`."""

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pydantic import Field, SecretStr

from gateway_adapters.contract import Capabilities, Gateway
from gateway_adapters.spec import AccountSettings, BaseUrl, GatewaySpec
from gateway_adapters.stripe.translate import NAME
from gateway_adapters.stripe.webhooks import StripeTranslator
from schemas.misconfigured import MisconfiguredError
from schemas.vocabulary import CallKind

if TYPE_CHECKING:
    from gateway_adapters.http_transport import TransportLimits

DAY_MS: Final = 24 * 3600 * 1000
"""Keys are kept "at least 24 hours" (https://docs.stripe.com/api/idempotent_requests)."""

KEYED: Final = (CallKind.AUTHORIZE, CallKind.SALE, CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND)

CAPABILITIES: Final = Capabilities(
    operations=frozenset(CallKind),
    currencies=None,
    partial_capture=True,
    multiple_capture=True,
    partial_refund=True,
    multiple_refund=True,
    inquire_by_key=True,
    inquire_by_reference=True,
    not_found_is_proof=False,  # a search is a minute behind, in trouble an hour
    webhooks=True,
    key_window_ms=MappingProxyType({**dict.fromkeys(KEYED, DAY_MS), CallKind.COMPLETE: None}),  # it only looks
    references_indexed=frozenset({CallKind.AUTHORIZE, CallKind.SALE}),  # what disputes and desk refunds name
)


class StripeAccount(AccountSettings):
    """How one account at Stripe is reached."""

    api_key: SecretStr = Field(
        description="Secret or restricted key of this Stripe account: sk_test_…, sk_live_…, rk_…. Unset: no Stripe."
    )
    url: BaseUrl = Field(default="https://api.stripe.com", description="Base URL of Stripe's API; it may carry a path.")
    multicapture: bool = Field(
        default=False,
        description="true: this account may capture a hold several times (multicapture, on IC+ pricing). "
        "Without it a capture of a part lets the rest go, so it must be said to be the final one.",
    )

    def narrowed(self, gateway: Capabilities) -> Capabilities:
        """Return what can be done with this account, of what can be done at Stripe."""
        return super().narrowed(gateway if self.multicapture else replace(gateway, multiple_capture=False))


def _build(account: AccountSettings, limits: "TransportLimits") -> Gateway:
    try:
        import stripe  # noqa: F401 - whether it is there
    except ModuleNotFoundError as error:
        raise MisconfiguredError(
            "PAYMENT_ENGINE_GATEWAY_STRIPE_API_KEY is set, and Stripe's library is not installed: "
            "pip install 'payment-engine-lite[stripe]'"
        ) from error
    from gateway_adapters.stripe.client import StripeGateway

    assert isinstance(account, StripeAccount)
    return StripeGateway(account, limits)


SPEC: Final = GatewaySpec(
    name=NAME,
    settings=StripeAccount,
    factory=_build,
    capabilities=CAPABILITIES,
    translator=StripeTranslator(),
)
