"""The two brokers that every client contract runs on."""

from collections.abc import Iterator

import pytest

from tests.support.embedded_process import embedded_broker_process


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """The embedded broker's address, then Apache Kafka's. Shared: take topics and groups of your own."""
    if request.param == "kafka":
        yield str(request.getfixturevalue("kafka").bootstrap_servers)
        return
    with embedded_broker_process() as address:
        yield address
