"""A record with a header whose name is not UTF-8 is read, and its name has escapes in the place of the wrong bytes.

Installed before any aiokafka client is built. To the broker a header's name is bytes, and clients in
C, Go or PHP write what they are given. aiokafka decodes it strictly, in `getmany`: whoever reads the partition would
end there, and its successor at the same record. Kafka's own consumer in Java does not refuse such a name either.

Only a fetch in which aiokafka fails is read again, from the batch that it failed at, by aiokafka's own reader in pure
Python over bytes that decode leniently; no other fetch comes by here. Written against aiokafka 0.14.0.
"""

import functools
from collections.abc import Callable
from typing import Any, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

_MARK = "_reads_any_header_name"
_MAGIC_OF_HEADERS = 2
"""The format of batches that brought headers."""


def install() -> None:
    """Wrap how aiokafka goes on to the next record of a fetch. Safe to call twice."""
    if hasattr(fetcher.PartitionRecords.__next__, _MARK):
        return
    fetcher.MemoryRecords = _keeping_bytes(fetcher.MemoryRecords)
    fetcher.PartitionRecords.__next__ = _lenient(fetcher.PartitionRecords.__next__)


def _keeping_bytes(reader: type[Any]) -> type[Any]:
    """Return aiokafka's reader of a fetch (its extension's, where there is one), which still knows what it reads."""

    class KeepingRecords(reader):  # type: ignore[misc]  # a class of aiokafka's, which is untyped
        def __init__(self, fetched: bytes) -> None:
            super().__init__(fetched)
            self.fetched = fetched

    return KeepingRecords


def _lenient(next_record: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(next_record)
    def next_whatever_its_names(records: Any) -> Any:
        try:
            return next_record(records)
        except (UnicodeDecodeError, CorruptRecordException) as error:
            if not _is_of_text(error) or isinstance(records._records, _LenientRecords):  # noqa: SLF001 -- all there is
                raise
        records._records = _LenientRecords(records._records.fetched, records.next_fetch_offset)  # noqa: SLF001
        records._records_iterator = records._unpack_records()  # noqa: SLF001 -- passes over what was returned already
        return next_record(records)

    setattr(next_whatever_its_names, _MARK, True)
    return next_whatever_its_names


def _is_of_text(error: Exception) -> bool:
    """Return whether bytes were not UTF-8. aiokafka's reader in pure Python calls that a corrupt record."""
    return isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


class _LenientBytes(bytearray):
    """Bytes whose slices decode whatever they hold, into text that can be encoded again."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        found = super().__getitem__(at)
        return _LenientBytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 -- bytearray's own signature
        return super().decode(encoding, "backslashreplace")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka is untyped
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _LenientBytes(self._buffer)


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka is untyped
    """The batches of a fetch, without those before the offset: transactions that ended there would end twice."""

    def __init__(self, fetched: bytes, offset: int) -> None:
        super().__init__(fetched)
        while self._next_has_headers() and _LenientBatch(self._next_slice).next_offset <= offset:
            self._cache_next()

    def next_batch(self) -> Any:
        """Return the next batch, or None. Raises: CorruptRecordException."""
        batch = _LenientBatch(self._next_slice) if self._next_has_headers() else None
        stock = super().next_batch()  # goes on to the next, and refuses what is too short
        return batch or stock

    def _next_has_headers(self) -> bool:
        raw = self._next_slice
        return raw is not None and len(raw) > self.MAGIC_OFFSET and raw[self.MAGIC_OFFSET] >= _MAGIC_OF_HEADERS
