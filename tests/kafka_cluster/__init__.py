"""A real Apache Kafka for the tests and the benchmark, wherever it can be had.

Called by: `tests/conftest.py` (fixtures `kafka`, `kafka_cluster_of_three`) and `bench`. The order of BROKERS: the
environment variable `KAFKA_BOOTSTRAP_SERVERS`, else a container when an engine answers, else the broker's own jars.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.kafka_cluster.cluster import KafkaCluster
from tests.kafka_cluster.container import engine_answers, kafka_container
from tests.kafka_cluster.jars import KafkaUnavailableError
from tests.kafka_cluster.node import KafkaNode
from tests.kafka_cluster.processes import ChildProcess

__all__ = ["ChildProcess", "FoundKafka", "KafkaCluster", "KafkaNode", "KafkaUnavailableError", "find_kafka"]

BOOTSTRAP_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKafka:
    """A running Apache Kafka, shared by all tests of a session: give your topics and groups names of their own."""

    bootstrap_servers: str
    source: Literal["environment", "container", "jars"]


@contextlib.contextmanager
def find_kafka() -> Iterator[FoundKafka]:
    """Yields a running Apache Kafka and ends what it started.

    Raises:
        KafkaUnavailableError: none of the three ways leads to one; the message says why.
    """
    given = os.environ.get(BOOTSTRAP_VARIABLE)
    if given:
        yield FoundKafka(bootstrap_servers=given, source="environment")
    elif engine_answers():
        with kafka_container() as bootstrap_servers:
            yield FoundKafka(bootstrap_servers=bootstrap_servers, source="container")
    else:
        with KafkaCluster() as cluster:
            yield FoundKafka(bootstrap_servers=cluster.bootstrap_servers, source="jars")
