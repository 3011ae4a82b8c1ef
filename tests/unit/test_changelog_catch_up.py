"""Reading a long changelog: where it ends, and what ends it early."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.kafka import changelog_catch_up
from streams.kafka.changelog_catch_up import Span
from streams.kafka.dues import AT_ONCE
from streams.kafka.errors import StalledError
from streams.kafka.partition_rows import ChangelogRecord, StoredRow
from streams.kafka.stamps import UNSTAMPED

ONE, TWO = TP("changelog", 1), TP("changelog", 2)


class _Log:
    """A consumer that is given what its polls return."""

    def __init__(self, *polls: Mapping[TP, Sequence[int]]) -> None:
        self._polls = list(polls)
        self._positions: dict[TP, int] = {ONE: 0, TWO: 0}
        self.paused: list[TP] = []

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TP, list[Any]]:
        batches = self._polls.pop(0) if self._polls else {}
        for tp, offsets in batches.items():
            self._positions[tp] = offsets[-1] + 1
        return {tp: [_record(offset) for offset in offsets] for tp, offsets in batches.items()}

    async def position(self, tp: TP) -> int:
        return self._positions[tp]

    def pause(self, tp: TP) -> None:
        self.paused.append(tp)


def _record(offset: int) -> Any:
    return SimpleNamespace(key=b"k%d" % offset, value=b"v", timestamp=7, headers=(), offset=offset)


def _changelog_record(offset: int) -> ChangelogRecord:
    return ChangelogRecord(b"k%d" % offset, StoredRow(UNSTAMPED, b"v", 7, AT_ONCE), offset)


async def test_every_partition_is_read_to_its_end_when_they_end_at_different_times() -> None:
    log = _Log({ONE: [0, 1]}, {TWO: [0]}, {TWO: [1, 2]})
    merged: list[tuple[TP, list[ChangelogRecord]]] = []

    def merge(tp: TP, batch: Sequence[ChangelogRecord]) -> bool:
        merged.append((tp, list(batch)))
        return True

    spans = {ONE: Span(first=0, end=2), TWO: Span(first=0, end=3)}
    assert await changelog_catch_up._read(log, spans, merge)
    assert merged == [
        (ONE, [_changelog_record(0), _changelog_record(1)]),
        (TWO, [_changelog_record(0)]),
        (TWO, [_changelog_record(1), _changelog_record(2)]),
    ]
    assert log.paused == [ONE, TWO]


async def test_reading_ends_when_a_partition_is_not_the_workers_any_more() -> None:
    log = _Log({ONE: [0]}, {ONE: [1]})
    assert not await changelog_catch_up._read(log, {ONE: Span(first=0, end=2)}, lambda _tp, _batch: False)


async def test_reading_stops_the_worker_when_the_broker_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelog_catch_up, "STALL_TIMEOUT_S", 0.0)
    with pytest.raises(StalledError):
        await changelog_catch_up._read(_Log(), {ONE: Span(first=0, end=2)}, lambda _tp, _batch: True)
