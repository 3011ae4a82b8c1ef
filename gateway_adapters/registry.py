"""Which gateways there are: an explicit table, no discovery, so that a reader sees all of them on one page.

Called by `streams/bootstrap.py` and the ingress with the options the deployment sets. The next gateway adds its options
to `GatewayOptions`, its factory to `FACTORIES` and its line to `CAPABILITIES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from gateway_adapters.contract import Capabilities, Gateway
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.mock.client import CAPABILITIES as MOCK_CAPABILITIES
from gateway_adapters.mock.client import MockGateway, MockSettings
from gateway_adapters.mock.translate import NAME as MOCK
from schemas.identifiers import GatewayName
from schemas.misconfigured import MisconfiguredError

TOTAL_MARGIN_S: Final = 5.0
"""For writing the request and for an answer that comes in pieces, each within the read time-out."""

CONNECTION_HEADROOM: Final = 16
"""Connections beyond the calls in flight, so that a health check never waits behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """What a deployment says about its gateways."""

    mock_url: str | None = None  # None: there is no Mock gateway here
    mock_webhook_secret: str = field(default="", repr=False)
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 20.0
    max_connections: int = 1024  # to each gateway: at least the calls in flight

    def limits(self) -> TransportLimits:
        """Return the limits of one gateway's transport.

        Raises:
            MisconfiguredError: they contradict each other.
        """
        try:
            return TransportLimits(
                connections=self.max_connections + CONNECTION_HEADROOM,
                connect_timeout_s=self.connect_timeout_s,
                read_timeout_s=self.read_timeout_s,
                total_timeout_s=self.connect_timeout_s + self.read_timeout_s + TOTAL_MARGIN_S,
            )
        except ValueError as error:
            raise MisconfiguredError(f"gateway time-outs: {error}") from error


def _mock(options: GatewayOptions) -> Gateway | None:
    if options.mock_url is None:
        return None
    if not options.mock_webhook_secret:
        raise MisconfiguredError("mock: the webhook secret is empty, so anyone could sign")
    return MockGateway(
        MockSettings(base_url=options.mock_url, webhook_secret=options.mock_webhook_secret, limits=options.limits())
    )


FACTORIES: Final[Mapping[GatewayName, Callable[[GatewayOptions], Gateway | None]]] = MappingProxyType({MOCK: _mock})
"""Every gateway this version knows. A factory returns None when the options do not configure its gateway."""

CAPABILITIES: Final[Mapping[GatewayName, Capabilities]] = MappingProxyType({MOCK: MOCK_CAPABILITIES})
"""What each can do, configured or not."""


def build_gateways(options: GatewayOptions) -> Mapping[GatewayName, Gateway]:
    """Return the configured gateways by name. None is connected to yet; close each when done.

    Raises:
        MisconfiguredError: an option cannot work; the message says which.
    """
    built = {name: factory(options) for name, factory in FACTORIES.items()}
    return MappingProxyType({name: gateway for name, gateway in built.items() if gateway is not None})
