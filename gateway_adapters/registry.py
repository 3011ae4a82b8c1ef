"""Which gateways there are: an explicit tuple, no discovery, so that a reader sees all of them on one page.

The next gateway adds its `SPEC` to `SPECS`. Read by `streams.settings` (which variables there are), `streams.bootstrap`
and the ingress (what is called, planned by and verified with) and `policy set` (what may be named).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gateway_adapters.adyen.spec import SPEC as ADYEN
from gateway_adapters.contract import Capabilities, Gateway
from gateway_adapters.mock.spec import SPEC as MOCK
from gateway_adapters.paypal.spec import SPEC as PAYPAL
from gateway_adapters.spec import Accounts, GatewaySpec
from gateway_adapters.stripe.spec import SPEC as STRIPE
from schemas.identifiers import GatewayName, GatewayRoute, gateway_route

if TYPE_CHECKING:
    from gateway_adapters.http_transport import TransportLimits

SPECS: Final[tuple[GatewaySpec, ...]] = (MOCK, STRIPE, ADYEN, PAYPAL)
"""Every gateway this version knows. The first serves origins without a policy, unless a deployment says otherwise."""

GATEWAYS: Final[Mapping[GatewayName, GatewaySpec]] = MappingProxyType({spec.name: spec for spec in SPECS})
"""The same by name."""

TOTAL_MARGIN_S: Final = 5.0
"""For writing the request and for an answer that comes in pieces, each within the read time-out."""

CONNECTION_HEADROOM: Final = 16
"""Connections beyond the calls in flight: a call that ran out of time still holds its own for a moment."""


def transport_limits(*, connect_timeout_s: float, read_timeout_s: float, calls_in_flight: int) -> "TransportLimits":
    """Return the limits of one gateway's transport, from what a deployment says of all.

    Args:
        connect_timeout_s: longest wait for a connection, seconds.
        read_timeout_s: longest wait between two parts of an answer, seconds; positive.
        calls_in_flight: to one gateway at once, at most.
    """
    from gateway_adapters.http_transport import TransportLimits

    return TransportLimits(
        connections=calls_in_flight + CONNECTION_HEADROOM,
        connect_timeout_s=connect_timeout_s,
        read_timeout_s=read_timeout_s,
        total_timeout_s=connect_timeout_s + read_timeout_s + TOTAL_MARGIN_S,
    )


def build_gateways(accounts: Accounts, limits: "TransportLimits") -> Mapping[GatewayRoute, Gateway]:
    """Return one gateway object for each account that is set up. None is connected to yet; close each when done."""
    return MappingProxyType(
        {
            gateway_route(name, account): GATEWAYS[name].factory(values, limits)
            for name, by_name in accounts.items()
            for account, values in by_name.items()
        }
    )


def specs_of(accounts: Accounts) -> Mapping[GatewayName, GatewaySpec]:
    """Return the specs of the gateways that have an account: enough to translate their notices with."""
    return MappingProxyType({name: GATEWAYS[name] for name, by_name in accounts.items() if by_name})


def call_rates_of(accounts: Accounts) -> Mapping[GatewayRoute, float]:
    """Return how many calls a second each account may have from one executor; one without a limit is absent."""
    return MappingProxyType(
        {
            gateway_route(name, account): values.calls_per_second
            for name, by_name in accounts.items()
            for account, values in by_name.items()
            if values.calls_per_second is not None
        }
    )


def capabilities_of(accounts: Accounts) -> Mapping[GatewayRoute, Capabilities]:
    """Return what can be done with each account that is set up: enough to plan with, without a credential."""
    return MappingProxyType(
        {
            gateway_route(name, account): values.narrowed(GATEWAYS[name].capabilities)
            for name, by_name in accounts.items()
            for account, values in by_name.items()
        }
    )
