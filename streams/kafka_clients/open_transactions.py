"""Names the partitions that wait behind an open transaction, in the log and in a metric.

Called by whoever reads in a group (the Faust workers, the log worker), once a second with how far it is read
(`consumer.read_places`). Anyone who may append can open a transaction; the records behind it wait until it ends, at
most the broker's `transaction.max.timeout.ms` (15 minutes unless set). An operator should not have to guess why.
"""

import time
from collections.abc import Callable, Mapping

import structlog
from aiokafka import TopicPartition

from streams.kafka_clients.aiokafka_fences.fenced_consumer import ReadPlace
from streams.telemetry import metrics

WAIT_TO_NAME_S = 3.0
"""A shorter wait is how transactions are: one ends some milliseconds after its last record."""

LOOK_INTERVAL_S = 1.0
"""Between two looks."""

log = structlog.get_logger(__name__)


class OpenTransactions:
    """What one reader waits for. On one event loop."""

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        """`clock_s`: seconds that never go back."""
        self._clock_s = clock_s
        self._since: dict[TopicPartition, tuple[int, float]] = {}  # from which offset on, and since when
        self._named: set[TopicPartition] = set()

    def look(self, places: Mapping[TopicPartition, ReadPlace]) -> None:
        """Take how far the assigned partitions are read now; one that is left out does not wait."""
        now_s = self._clock_s()
        waiting = {each: place for each, place in places.items() if place.waits}
        for gone in self._since.keys() - waiting.keys():
            self._forget(gone)
        for each, place in waiting.items():
            offset, since_s = self._since.get(each, (-1, now_s))
            if offset != place.stable_end:  # the next one of many is not the one that was waited for
                self._forget(each)
                since_s = now_s
            self._since[each] = (place.stable_end, since_s)
            if now_s - since_s >= WAIT_TO_NAME_S:
                self._name(each, place, now_s - since_s)

    def _name(self, partition: TopicPartition, place: ReadPlace, waited_s: float) -> None:
        _tell(partition, waited_s)
        if partition not in self._named:
            self._named.add(partition)
            log.warning(
                "waits_for_open_transaction",
                topic=partition.topic,
                partition=partition.partition,
                offset=place.stable_end,
                records=place.log_end - place.stable_end,
            )

    def _forget(self, partition: TopicPartition) -> None:
        self._since.pop(partition, None)
        if partition in self._named:
            self._named.discard(partition)
            _tell(partition, 0)
            log.info("open_transaction_ended", topic=partition.topic, partition=partition.partition)


def _tell(partition: TopicPartition, waited_s: float) -> None:
    number = str(partition.partition)
    metrics.level("open_transaction_wait_ms", waited_s * 1000, topic=partition.topic, partition=number)
