"""Faust's consumer and producer, with what loses work overridden. Installed by `faust_app`.

Each override names what it is against (numbers of FAUST.md; upstream issues of faust-streaming) and has a test that fails
without it, so that it can go when upstream fixes it. Written against faust-streaming 0.15.3.

| override | against |
| --- | --- |
| `_new_offset`, `ack`, `_add_gap` | 1: out-of-order acks commit past an unacked message (#606); holes taken for gaps |
| `_getmany` | 10: records that were fetched and then dropped are committed over |
| `on_partitions_revoked` | 1: the state of acknowledgements is dropped before the drain |
| `wait_empty` | 3, 12: waits for the pipeline, not for reference counts; commits what really is done |
| `_commit_offsets` | 5: `_committed_offset` is updated although the commit failed (#316); 2: `flush` is no barrier |
| `perform_seek` | 10: a partition without a committed offset is not sought at all |
| `_settings_extra` | there is no setting for an idempotent producer |
"""

import contextlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from faust.transport.consumer import ensure_TP
from faust.transport.drivers.aiokafka import Consumer, Producer, Transport
from faust.types import TP

from streams.kafka.offset_ledger import OffsetLedger

if TYPE_CHECKING:
    from streams.kafka.faust_app import WorkerApp


class LedgerConsumer(Consumer):
    """Commits what the ledger says, and nothing else."""

    app: "WorkerApp"

    @property
    def _ledger(self) -> OffsetLedger[tuple[str, int]]:
        return self.app.ledger

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 -- Faust's own signature
        records = await super()._getmany(active_partitions, timeout)
        for partition, batch in records.items():
            if partition.topic in self.app.source_topics:
                self._ledger.note_fetched((partition.topic, partition.partition), [record.offset for record in batch])
        return records

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 -- Faust's own signature
        """Faust starts four tasks for each record, to be able to abandon its delivery; needed only if that can block."""
        if len(coros) == 2 and self.app.delivery_is_immediate():
            delivery, suspended = coros
            suspended.close()
            return await delivery
        return await super().wait_first(*coros, timeout=timeout)

    def on_buffer_full(self, tp: TP) -> None:
        """A full queue makes the delivery wait, which is all that is needed.

        Faust would stop fetching from the partition, and when it has stopped all of them sleep for a whole second.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing was stopped."""

    def ack(self, message: Any) -> bool:
        """Only for Faust's own bookkeeping: it decides nothing about commits."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes between offsets need no filling: the ledger counts records, not offsets."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:
        return (TP(*tp) for tp in self._ledger.partitions() if topics is None or TP(*tp) in topics or tp[0] in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._ledger.committable((tp.topic, tp.partition))

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        owned = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not owned or not await self._commit(owned):
            return False
        self._committed_offset.update(owned)
        self.app.monitor.on_tp_commit(owned)
        return True

    async def wait_empty(self) -> None:
        """Drain the pipeline, then commit; a commit under way may have begun before the last input was done."""
        await self.app.pipeline.drain()
        if self.app.pipeline.failure is None and not await self.commit():
            await self.commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust drains in here; only then may the ledger forget. Rebalances are eager: everything is revoked."""
        await super().on_partitions_revoked(revoked)
        await self.app.on_lanes_revoked()
        self._ledger.reset((tp.topic, tp.partition) for tp in revoked)

    async def perform_seek(self) -> None:
        """Seek source partitions to what is committed, or to their beginning when nothing is."""
        sources = [tp for tp in self.assignment() if tp.topic in self.app.source_topics]
        await super().perform_seek()
        fresh = [tp for tp in sources if not self._committed_offset.get(tp)]
        if fresh:
            await self._thread.seek_to_beginning(*(self._new_topicpartition(*tp) for tp in fresh))
        self._ledger.reset((tp.topic, tp.partition) for tp in sources)

    async def verify_all_partitions_active(self) -> None:
        """Off: it compares a monotonic clock with the time of day. The pipeline watches its inputs' age itself."""

    async def log_ends(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The offset after the last record of each partition."""
        ends = await self.highwaters(*partitions)
        return {ensure_TP(tp): int(end) for tp, end in ends.items()}


class IdempotentProducer(Producer):
    """acks=all and no duplicates or reordering by the producer's own retries."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    async def flush(self) -> None:
        """No barrier here: the pipeline waits for each acknowledgement. Faust calls this before it stops the producer."""
        with contextlib.suppress(RuntimeError):  # Faust's own send buffer, unused here, refuses once it is stopped
            await super().flush()


class WorkerTransport(Transport):
    """What `app.transport` must be for the overrides to hold."""

    Consumer = LedgerConsumer
    Producer = IdempotentProducer
