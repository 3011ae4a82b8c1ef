"""The two brokers that every client contract runs on, and the peers of all gateways, for theirs.

Every gateway of the registry is held to its contract: the peer of gateway `x` is what
`tests/support/x_gateway_under_test.py` starts.
"""

from collections.abc import AsyncIterator, Iterator
from importlib import import_module

import pytest

from gateway_adapters.registry import SPECS
from tests.support.embedded_process import embedded_broker_process
from tests.support.gateway_under_test import GatewayUnderTest, Opener, PeerStarter


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """The embedded broker's address, then Apache Kafka's. Shared: take topics and groups of your own."""
    if request.param == "kafka":
        yield str(request.getfixturevalue("kafka").bootstrap_servers)
        return
    with embedded_broker_process() as address:
        yield address


@pytest.fixture(scope="module", params=sorted(spec.name for spec in SPECS))
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """A peer of each gateway, which runs for all tests of a file."""
    started: PeerStarter = import_module(f"tests.support.{request.param}_gateway_under_test").started
    with started(tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture
async def peer(opener: Opener) -> AsyncIterator[GatewayUnderTest]:
    """The gateway's adapter and its peer, fresh for each test."""
    async with opener() as under_test:
        yield under_test
