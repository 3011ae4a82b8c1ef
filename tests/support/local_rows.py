"""Whether the local tables of workers hold what they say: every row of the changelog up to their applied offset.

A row that is missing there does no harm until that worker owns the partition and decides without it. So this is looked
at in every worker's folder after a run, standbys and workers long gone included, whoever owned what.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from rocksdict import Rdict

from schemas.topics import changelog_topic
from streams.kafka.rocks_rows import RocksRows
from streams.kafka.stamps import UNSTAMPED, Stamp, from_headers

READ_TIMEOUT_S = 300.0
POLL_MS = 500
MAX_TOLD = 5
"""Rows named of one folder; the count is of all."""


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """One partition of one table in one worker's folder; nobody may have it open."""

    worker: str
    table: str
    partition: int
    folder: Path

    @property
    def topic(self) -> str:
        """Its changelog."""
        return changelog_topic(self.worker.split("-")[0], self.table)

    def opened(self) -> "Held":
        """Read it. Raises: LocalRowsLockedError."""
        rows = _AsTheyAre(self.folder, lambda: time.time_ns() // 1_000_000)
        try:
            applied = rows.applied_offset
            return Held(self, -1 if applied is None else applied, {key: row.stamp for key, row in rows.items()})
        finally:
            rows.close()


class _AsTheyAre(RocksRows):
    """Not rebuilt when they are old, or dated by a clock that was wrong: then there would be nothing to look at."""

    def _open_trusted(self) -> Rdict:
        return self._open()


class Held:
    """What a copy holds, and what it lacks of the changelog records that are shown to it."""

    def __init__(self, copy: LocalCopy, applied: int, stamps: Mapping[bytes, Stamp]) -> None:
        self._copy = copy
        self._applied = applied
        self._stamps = stamps
        self._lacking: set[bytes] = set()

    def see(self, offset: int, key: bytes | None, stamp: Stamp) -> None:
        """A record of its changelog; one without a key or a stamp is no row."""
        if key is None or stamp == UNSTAMPED or offset > self._applied:
            return
        if self._stamps.get(key, UNSTAMPED) < stamp:
            self._lacking.add(key)

    def told(self) -> list[str]:
        """The violation, if there is one."""
        if not self._lacking:
            return []
        where = f"{self._copy.topic}[{self._copy.partition}] up to offset {self._applied}"
        some = sorted(self._lacking)[:MAX_TOLD]
        return [f"local_rows_are_whole: {self._copy.worker} lacks {len(self._lacking)} rows of {where}: {some}"]


def copies_in(engine_folder: Path) -> list[LocalCopy]:
    """Every local copy of every worker that ever ran here."""
    return [
        LocalCopy(found.parent.parent.name, found.parent.name, int(found.stem), found)
        for found in sorted(engine_folder.glob("*/*/*.rocksdb"))
    ]


async def missing_rows(bootstrap_servers: str, copies: Sequence[LocalCopy]) -> list[str]:
    """Say of each copy what it lacks of its changelog; that there is none is a fault too."""
    if not copies:
        return ["local_rows_are_whole: no worker has any local rows"]
    by_source: dict[tuple[str, int], list[LocalCopy]] = {}
    for copy in copies:
        by_source.setdefault((copy.topic, copy.partition), []).append(copy)
    said: list[str] = []
    async with asyncio.timeout(READ_TIMEOUT_S):
        for (topic, partition), here in by_source.items():
            said += await _compared(bootstrap_servers, TopicPartition(topic, partition), here)
    return said


async def _compared(bootstrap_servers: str, source: TopicPartition, copies: Sequence[LocalCopy]) -> list[str]:
    held = [await asyncio.to_thread(copy.opened) for copy in copies]
    async for record in _records(bootstrap_servers, source):
        stamp = from_headers(record.headers)
        for each in held:
            each.see(record.offset, record.key, stamp)
    return [violation for each in held for violation in each.told()]


async def _records(
    bootstrap_servers: str, source: TopicPartition
) -> AsyncIterator[ConsumerRecord[bytes | None, bytes | None]]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False) as consumer:
        consumer.assign([source])
        await consumer.seek_to_beginning(source)
        end = (await consumer.end_offsets([source]))[source]
        while await consumer.position(source) < end:
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    yield record
