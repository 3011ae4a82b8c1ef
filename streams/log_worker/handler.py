"""What a user of this room brings: a handler of records, and what it is told about each.

Implemented by the executor's `RequestHandler`, and by bridges, stores and outgoing webhooks as they are built.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection

import structlog
from aiokafka import TopicPartition

from streams.kafka_clients.lease import Lease
from streams.kafka_clients.log_reader import LogRecord
from streams.log_worker.errors import PartitionLostError
from streams.log_worker.owned_partitions import OwnedPartition

log = structlog.get_logger(__name__)


class Delivery:
    """One record's way to the handler: how often, and whether it is still this worker's."""

    __slots__ = ("_offset", "_owned", "attempt", "lease", "maybe_seen_before")

    def __init__(self, owned: OwnedPartition, offset: int, lease: Lease) -> None:
        self._owned = owned
        self._offset = offset
        self.lease = lease
        """How long no other worker can own the partition."""
        self.maybe_seen_before = owned.maybe_seen_before(offset)
        """Whether an earlier owner of the partition may have taken the record."""
        self.attempt = 1
        """Which attempt of this worker's this is; one that found the destination busy does not count."""

    def begins(self) -> None:
        """Say that what cannot be taken back begins: a next owner must not take it for something left to it."""
        self._owned.begun.add(self._offset)

    def is_alone(self) -> bool:
        """Return whether no other worker can have begun the record, or its like, since this one took it."""
        return self.lease.holds() and not self._owned.is_handed_over

    def left_until_ms(self) -> int:
        """Return until when an earlier owner may still be at work on this record, in milliseconds; 0: none is."""
        left = self._owned.inherited
        return 0 if left is None or not left.concerns(self._offset) else left.until_ms

    def is_ours(self) -> bool:
        """Return whether the record is this worker's now, and cannot be another's."""
        return self._owned.is_ours and self.lease.holds()

    async def until_ours(self) -> None:
        """Return as soon as no other worker can have the record; at once, as a rule.

        The worker asks before each attempt. A handler asks again when it has waited for something, right before what
        cannot be taken back: a worker that was frozen meanwhile must not go on.

        Raises: PartitionLostError: it is the next owner's. Let it pass.
        """
        while True:  # ends with a heartbeat, or with the loss of the partition
            if not self._owned.is_ours:
                raise PartitionLostError
            if self.lease.holds():
                return
            log.warning("lease_over", offset=self._offset)
            await self.lease.changed()


class RecordHandler(ABC):
    """Handles the records of one worker, any number at once."""

    @abstractmethod
    async def handle(self, record: LogRecord, delivery: Delivery) -> None:
        """Return once all that the record causes is durable: it may be committed then.

        Called again for the same record after a crash, a rebalance, or an error that asks for it: twice must be safe.

        Raises: what is to be done about the record, by `log_worker.errors`; anything else ends the worker.
        """

    def forget(self, partitions: Collection[TopicPartition]) -> None:  # noqa: B027 -- most have nothing to forget
        """Drop what is known of partitions that come or go: another worker has been, or will be, at work there."""

    async def settle(self, partitions: Collection[TopicPartition]) -> None:  # noqa: B027 -- most write nothing of the kind
        """Return once nothing that counts only with a sole owner is being written there; the worker bounds it."""

    def abandon(self) -> None:  # noqa: B027 -- most have nothing to give up
        """Give up what is under way beside `handle`, if anything is: the process ends."""
