"""The whole engine on a real Apache Kafka, each component its own process, shared by the acceptance tests."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from streams.development.local_engine import LocalEngine
from tests.conftest import COVERAGE_VARIABLE
from tests.kafka_cluster import FoundKafka

ENVIRONMENT = {
    "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
    "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": "6",
    "PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S": "0.5",
    "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": "6",
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
    COVERAGE_VARIABLE: "",  # ten thousand payments count no line that the first did not: tracing doubles their time
}


# For this folder alone, which is a package for that reason: later tests share the broker and answer its queries
# themselves; they would race with an engine that runs on.
@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def engine(kafka: FoundKafka) -> AsyncIterator[LocalEngine]:
    """An engine that serves. Tests may kill and start its components, and must leave all of them running."""
    with tempfile.TemporaryDirectory(prefix="payment-engine-test-") as folder:
        async with LocalEngine(
            folder=Path(folder), bootstrap_servers=kafka.bootstrap_servers, environment=ENVIRONMENT, desk=True
        ) as started:
            yield started
