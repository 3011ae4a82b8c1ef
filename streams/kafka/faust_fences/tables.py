"""Faust's idea of a table on top of our own rows: recovery, standby replicas and assignment are Faust's.

Called by Faust's table manager and recovery. Calls `row_tables`. The rows are never read or written through Faust: its
`Table` writes to the local store before the changelog record is acknowledged (FAUST.md, "Loses or repeats work").
"""

from collections.abc import Iterable
from typing import Any, cast

from faust.tables.table import Table
from faust.types import TP, AppT, EventT, Message

from streams.kafka import dues, stamps
from streams.kafka.changelog_ledger import NOTHING
from streams.kafka.errors import DeliveryGapError
from streams.kafka.faust_fences.engine_app import EngineApp
from streams.kafka.partition_rows import ChangelogRecord, StoredRow
from streams.kafka.row_tables import RowTable


class ChangelogTable(Table[bytes, bytes]):
    """Reads its changelog into a `RowTable`."""

    app: EngineApp  # type: ignore[assignment]  # Faust's own type knows nothing of ours

    def __init__(self, app: EngineApp, rows: RowTable, *, partitions: int):
        super().__init__(cast("AppT", app), name=rows.name, partitions=partitions, key_type=bytes, value_type=bytes)
        self.rows = rows
        self._assigned: frozenset[int] = frozenset()  # partitions that are owned or replicated here

    async def on_start(self) -> None:
        """Nothing to open: partitions are opened as they come; nothing to declare: topics are there."""

    def persisted_offset(self, tp: TP) -> int | None:
        """Where the local rows of a partition stand."""
        return self.rows.partition(tp.partition).applied_offset

    async def need_active_standby_for(self, tp: TP) -> bool:  # noqa: ARG002 -- Faust's own signature
        """Faust's question whether a standby must be read; always."""
        return True

    def reset_state(self) -> None:
        """Faust's command line calls this; here a worker wipes what does not fit by itself."""

    def merge(self, partition: int, records: Iterable[ChangelogRecord]) -> None:
        """Merge records of one partition that were read past Faust; a failure stops the worker."""
        try:
            self.rows.merge(partition, records)
        except Exception as failure:
            self.app.pipeline.fail(failure)
            raise

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Merge records; a failure stops the worker, where Faust would log it and go on without those rows.

        Nothing is merged after one: Faust flushes its buffers when it stops, and would not stop for a second failure.
        """
        if self.app.pipeline.failure is not None:
            return
        for partition, messages in self._by_partition(batch).items():
            self._check(partition, [message.offset for message in messages])
            self.merge(partition, _changelog_records(messages))

    def _by_partition(self, batch: Iterable[EventT[Any]]) -> dict[int, list[Message]]:
        """Faust may hand over records of another table, or of a partition that went away: they are left out.

        Rows opened again for such a record would begin in the middle where they live in memory, and be taken for whole
        by the next assignment.
        """
        grouped: dict[int, list[Message]] = {}
        for event in batch:
            message = event.message
            if message.topic == self.changelog_topic_name and message.partition in self._assigned:
                grouped.setdefault(message.partition, []).append(message)
        return grouped

    def _check(self, partition: int, offsets: Iterable[int]) -> None:
        known = self.rows.partition(partition).applied_offset
        own = NOTHING if known is None else known
        tp = TP(self.changelog_topic_name, partition)
        try:
            for offset in offsets:
                self.app.changelog_ledger.apply(tp, offset, own=own)
        except DeliveryGapError as gap:
            self.app.pipeline.fail(gap)
            raise

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002 -- Faust's own signature
        newly_assigned: set[TP],  # noqa: ARG002 -- Faust's own signature
        generation_id: int = 0,  # noqa: ARG002 -- Faust's own signature
    ) -> None:
        """Close the partitions that went away, so that another process may open them."""
        self._assigned = frozenset(tp.partition for tp in assigned if tp.topic == self.changelog_topic_name)
        self.rows.keep_only(self._assigned)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Everything is in the rows already."""

    async def on_stop(self) -> None:
        """Close all partitions."""
        self.rows.keep_only(())


def _changelog_records(messages: Iterable[Message]) -> list[ChangelogRecord]:
    """Those that can be a row's: a record without a key is nobody's."""
    return [
        ChangelogRecord(message.key, _row_of(message), message.offset)
        for message in messages
        if message.key is not None
    ]


def _row_of(message: Message) -> StoredRow:
    headers = _pairs(message.headers)
    stamp, due = stamps.from_headers(headers), dues.from_headers(headers)
    return StoredRow(stamp, message.value, round(message.timestamp * 1000), due)


def _pairs(headers: Any) -> list[tuple[str, bytes | None]]:
    if not headers:
        return []
    return list(headers.items()) if isinstance(headers, dict) else list(headers)
