"""Faust's idea of a table on top of our own rows: recovery, standby replicas and assignment are Faust's.

Called by Faust's table manager and recovery. Calls `row_tables`. The rows are never read or written through Faust: its
`Table` writes to the local store before the changelog record is acknowledged (FAUST.md 2, 8).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from faust.tables.table import Table
from faust.types import TP, EventT

from streams.kafka import stamps
from streams.kafka.partition_rows import ChangelogRecord, StoredRow
from streams.kafka.row_tables import RowTable

if TYPE_CHECKING:
    from streams.kafka.faust_app import WorkerApp


class ChangelogTable(Table[bytes, bytes]):
    """Reads its changelog into a `RowTable`."""

    app: "WorkerApp"

    def __init__(self, app: "WorkerApp", rows: RowTable, *, partitions: int):
        super().__init__(app, name=rows.name, partitions=partitions, key_type=bytes, value_type=bytes)
        self.rows = rows

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
        """Merge records; a failure stops the worker, where Faust would log it and go on without those rows."""
        for partition, records in self._by_partition(batch).items():
            self.merge(partition, records)

    def _by_partition(self, batch: Iterable[EventT[Any]]) -> dict[int, list[ChangelogRecord]]:
        """Faust may hand over records of another table when partitions change under it: they are left out."""
        grouped: dict[int, list[ChangelogRecord]] = {}
        for event in batch:
            message = event.message
            if message.topic == self.changelog_topic_name and message.key is not None:
                stamp = stamps.from_headers(_pairs(message.headers))
                row = StoredRow(stamp, message.value, round(message.timestamp * 1000))
                record = ChangelogRecord(message.key, row, message.offset)
                grouped.setdefault(message.partition, []).append(record)
        return grouped

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002 -- Faust's own signature
        newly_assigned: set[TP],  # noqa: ARG002 -- Faust's own signature
        generation_id: int = 0,  # noqa: ARG002 -- Faust's own signature
    ) -> None:
        """Close the partitions that went away, so that another process may open them."""
        self.rows.keep_only(tp.partition for tp in assigned if tp.topic == self.changelog_topic_name)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Everything is in the rows already."""

    async def on_stop(self) -> None:
        """Close all partitions."""
        self.rows.keep_only(())


def _pairs(headers: Any) -> list[tuple[str, bytes]]:
    if not headers:
        return []
    return list(headers.items()) if isinstance(headers, dict) else list(headers)
