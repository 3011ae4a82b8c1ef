"""Commits what is done, a moment after it is done.

Used by the worker. One commit at a time; a commit that a rebalance refuses is no harm: the next owner begins at the
last one that was accepted, and what it repeats is idempotent.
"""

import asyncio
from collections.abc import Callable

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.consumer import GroupConsumer
from streams.kafka_clients.errors import classify
from streams.log_worker.owned_partitions import OwnedPartitions
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

COMMIT_TIMEOUT_S = 10.0


class Committer:
    """Commits the staged offset of each partition."""

    def __init__(
        self,
        consumer: GroupConsumer,
        owned: OwnedPartitions,
        *,
        component: str,
        interval_s: float,
        clock_ms: Callable[[], int],
    ) -> None:
        self._clock_ms = clock_ms
        self._consumer = consumer
        self._owned = owned
        self._component = component
        self._interval_s = interval_s
        self._dirty = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def wake(self) -> None:
        """Say that something was done."""
        self._dirty.set()

    async def run(self) -> None:
        """Commit at most every interval, until cancelled. Raises: MisconfiguredError: this worker may not commit."""
        while True:  # ends by cancellation
            await self._dirty.wait()
            self._dirty.clear()
            await self.commit()
            await asyncio.sleep(self._interval_s)

    async def commit(self) -> bool:
        """Commit what is done now; returns whether nothing is left to commit. Raises: MisconfiguredError."""
        async with self._one_at_a_time:
            commits = self._owned.to_commit(now_ms=self._clock_ms())
            if not commits:
                return True
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT_S):
                    await self._consumer.commit(commits)
            except (CommitFailedError, IllegalStateError, TimeoutError) as error:
                return self._failed(error)
            except KafkaError as error:
                if isinstance(classify(error), MisconfiguredError):
                    raise classify(error) from error
                return self._failed(error)
            self._owned.committed({partition: offset for partition, (offset, _) in commits.items()})
            return True

    def _failed(self, error: Exception) -> bool:
        metrics.count("worker_commits_failed", component=self._component, error=type(error).__name__)
        log.warning("commit_failed", error=type(error).__name__, repeats=True)
        self._dirty.set()  # tried again, unless the partitions are gone by then
        return False
