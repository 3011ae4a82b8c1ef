"""What a worker's log holds while its broker is gone: each cause once, whatever the libraries say at every try."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from streams.development.embedded_broker import EmbeddedBroker
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_group_consumer
from streams.telemetry import logs
from tests.support.waiting import until

WAIT_S = 30.0
TRIES = 100
MAX_LINES = 12
"""The libraries' different words for one broker that is gone; they say them some hundred times a second."""


class Counting(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.said += record.levelno >= logging.WARNING


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(component="test", stream=stream)
    yield stream
    root.handlers, root.level = before, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


async def test_member_of_a_group_says_each_cause_once_when_its_broker_is_gone(stream: io.StringIO) -> None:
    broker = EmbeddedBroker(auto_create_topics=True, default_partitions=1)
    connection = KafkaConnection(bootstrap_servers=await broker.start(), request_timeout_s=1.0)
    consumer = build_group_consumer(
        connection,
        group="quiet",
        instance_id=None,
        session_timeout_s=6.0,
        rebalance_timeout_s=6.0,
        max_poll_interval_s=60.0,
    )
    try:
        consumer.subscribe(["inputs"])
        await consumer.start()
        counting = Counting()
        logging.getLogger("aiokafka").addHandler(counting)
        await broker.stop()
        await until(lambda: counting.said >= TRIES, timeout_s=WAIT_S)
        logging.getLogger("aiokafka").removeHandler(counting)
    finally:
        await consumer.stop()
    assert 1 <= len(stream.getvalue().splitlines()) <= MAX_LINES, stream.getvalue()
