"""Which gateways there are: an explicit table, no discovery, so that a reader sees all of them on one page.

Called by `streams/bootstrap.py` with the settings of the gateways that are configured. The next gateway adds its
settings to `GatewaySettings` and its line to `open_gateway`; the type checker then points at what is missing.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from gateway_adapters.contract import Capabilities, Gateway
from gateway_adapters.errors import MisconfiguredError
from gateway_adapters.mock.client import CAPABILITIES as MOCK_CAPABILITIES
from gateway_adapters.mock.client import MockGateway, MockSettings
from gateway_adapters.mock.translate import NAME as MOCK
from schemas.identifiers import GatewayName

GatewaySettings = MockSettings
"""The settings of any gateway: a union, once there are two."""

CAPABILITIES: Final[Mapping[GatewayName, Capabilities]] = MappingProxyType({MOCK: MOCK_CAPABILITIES})
"""Every gateway this version knows, and what it can do, whether it is configured or not."""


def open_gateway(settings: GatewaySettings) -> Gateway:
    """Return the gateway of these settings. Connects to nothing yet; close it when done."""
    match settings:
        case MockSettings():
            return MockGateway(settings)


def open_gateways(configured: Iterable[GatewaySettings]) -> Mapping[GatewayName, Gateway]:
    """Return the configured gateways by name.

    Raises:
        MisconfiguredError: two settings are for the same gateway.
    """
    gateways: dict[GatewayName, Gateway] = {}
    for settings in configured:
        gateway = open_gateway(settings)
        if gateway.name in gateways:
            raise MisconfiguredError(f"gateway {gateway.name} is configured twice")
        gateways[gateway.name] = gateway
    return MappingProxyType(gateways)
