"""Where a scenario plays: a real Apache Kafka and the whole engine on it, each component its own process."""

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.topics import partition_of
from streams.development.local_engine import LocalEngine
from tests.kafka_cluster import KafkaCluster

PARTITIONS = 8
ENVIRONMENT: Mapping[str, str] = {
    "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
    "PAYMENT_ENGINE_KAFKA_PARTITIONS": str(PARTITIONS),
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "INFO",  # rebalances are told at this level
}
ASSIGNED_EVENTS = frozenset({"partitions_ready", "partitions_assigned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cluster and an engine that runs on it."""

    kafka: KafkaCluster
    engine: LocalEngine
    session_timeout_s: float

    def partition_of(self, key: str) -> int:
        """The partition of an order, by its id; of a claim, by its origin and key."""
        return partition_of(key.encode(), PARTITIONS)

    def assignments(self, name: str) -> int:
        """How often this worker was assigned partitions, by its own log."""
        return sum(each.get("event") in ASSIGNED_EVENTS for each in self.log_lines(name))

    def log_lines(self, name: str) -> Iterator[dict[str, object]]:
        """What a component has logged."""
        for line in self.engine.components[name].log_path.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # a traceback of the interpreter's own
                yield json.loads(line)


@contextlib.asynccontextmanager
async def engine_on(
    kafka: KafkaCluster,
    *,
    session_timeout_s: float,
    orders_workers: int = 1,
    claims_workers: int = 1,
    executors: int = 1,
    standby_replicas: int = 0,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Stage]:
    """Yields a stage on this cluster and stops the engine; every worker is a static member, as `LocalEngine` has it."""
    given = {
        **ENVIRONMENT,
        "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": str(session_timeout_s),
        "PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S": str(min(1.0, session_timeout_s / 10)),
        "PAYMENT_ENGINE_STREAM_STANDBY_REPLICAS": str(standby_replicas),
        "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": str(session_timeout_s),
        **(environment or {}),
    }
    with tempfile.TemporaryDirectory(prefix="payment-engine-figures-") as folder:
        engine = LocalEngine(
            folder=Path(folder),
            bootstrap_servers=kafka.bootstrap_servers,
            environment=given,
            orders_workers=orders_workers,
            claims_workers=claims_workers,
            executors=executors,
        )
        async with engine:
            yield Stage(kafka=kafka, engine=engine, session_timeout_s=session_timeout_s)


@contextlib.contextmanager
def a_cluster(brokers: Literal[1, 3] = 1) -> Iterator[KafkaCluster]:
    """Yields a cluster of a scenario's own, which it may kill."""
    with KafkaCluster(brokers=brokers) as kafka:
        yield kafka
