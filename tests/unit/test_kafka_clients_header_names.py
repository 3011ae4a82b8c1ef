"""A record whose header has a name that is not UTF-8 must be read: aiokafka's own reader ends at it, every time."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import memory_records
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy

from streams.kafka_clients.aiokafka_fences import header_names
from tests.support.raw_header_names import name_of

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CONTROL = 0x20
ABORT = struct.pack(">hh", 0, 0)
"""Key of the record that ends a transaction as not meant: version, type."""

LATIN_1 = "Größe".encode("latin-1")
READ_AS = r"Gr\xf6\xdfe"

Header = tuple[bytes, bytes | None]
Reader = Callable[..., Any]


class _Builder(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]  # aiokafka is untyped
    control = False

    def _get_attributes(self, include_compression_type: bool = True) -> int:
        attributes: int = super()._get_attributes(include_compression_type)
        return attributes | (CONTROL if self.control else 0)


def batch_of(
    base_offset: int,
    headers: Sequence[Sequence[Header]],
    *,
    codec: int = NONE,
    producer: int | None = None,
    control: bool = False,
) -> bytes:
    """Return a batch of one record for each list of headers."""
    transactional = producer is not None
    builder = _Builder(2, codec, transactional, producer if transactional else -1, 0, 0, 1 << 20)
    builder.control = control
    for n, each in enumerate(headers):
        key = ABORT if control else b"k%d" % (base_offset + n)
        builder.append(n, 1_000 + n, key, b"v", [(name_of(name), value) for name, value in each])
    batch = bytearray(builder.build())
    struct.pack_into(">q", batch, 0, base_offset)  # the checksum does not cover it
    return bytes(batch)


@pytest.fixture(params=["extension", "python"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Both of aiokafka's readers: in C where it was built, in Python elsewhere."""
    if request.param == "python":
        monkeypatch.setattr(memory_records, "DefaultRecordBatch", _DefaultRecordBatchPy)
        monkeypatch.setattr(fetcher, "MemoryRecords", header_names._keeping_bytes(memory_records._MemoryRecordsPy))
    else:
        assert memory_records.MemoryRecords is not memory_records._MemoryRecordsPy, "aiokafka's extension is missing"
    return _reading


def _reading(
    fetched: bytes,
    *,
    offset: int = 0,
    aborted: Sequence[tuple[int, int]] = (),
    isolation: int = fetcher.READ_UNCOMMITTED,
    value_of: Callable[[bytes], object] | None = None,
) -> Any:
    """Return what a consumer iterates over when a fetch at the offset brought these bytes."""
    place = TopicPartition("t", 0)
    return fetcher.PartitionRecords(
        place, fetcher.MemoryRecords(fetched), [*aborted], offset, None, value_of, True, isolation
    )


def offsets_of(records: Any) -> list[int]:
    return [record.offset for record in records]


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
def test_every_record_is_read_once_and_in_order_when_a_name_is_not_utf_8(read: Reader, codec: int) -> None:
    odd: list[Header] = [("größe".encode(), b"1"), (LATIN_1, b"\xff"), (LATIN_1, None)]
    fetched = (
        batch_of(0, [[(b"a", b"1")], []], codec=codec)
        + batch_of(2, [[(b"b", b"1")], odd, [(b"c", None)]], codec=codec)
        + batch_of(5, [[("größe".encode(), b"1")]], codec=codec)
    )
    records = read(fetched)
    found = list(records)
    assert [(record.offset, record.key, record.value, record.timestamp) for record in found] == [
        (0, b"k0", b"v", 1_000),
        (1, b"k1", b"v", 1_001),
        (2, b"k2", b"v", 1_000),
        (3, b"k3", b"v", 1_001),
        (4, b"k4", b"v", 1_002),
        (5, b"k5", b"v", 1_000),
    ]
    assert [record.headers for record in found[2:]] == [
        (("b", b"1"),),
        (("größe", b"1"), (READ_AS, b"\xff"), (READ_AS, None)),
        (("c", None),),
        (("größe", b"1"),),
    ]
    assert records.next_fetch_offset == 6


def test_name_can_be_encoded_again_when_it_was_no_text_at_all(read: Reader) -> None:
    (record,) = read(batch_of(0, [[(bytes(range(256)), b"1")]]))
    ((name, _),) = record.headers
    assert name.encode().decode() == name
    assert name.endswith(r"\xfe\xff")


def test_stock_reader_ends_at_such_a_record(read: Reader) -> None:
    records = read(batch_of(0, [[], [(LATIN_1, b"1")], []]))
    stock = fetcher.PartitionRecords.__next__.__wrapped__
    assert stock(records).offset == 0
    with pytest.raises((UnicodeDecodeError, CorruptRecordException), match="utf-8"):
        stock(records)


def test_reading_begins_in_the_middle_of_a_batch_when_it_is_told_to(read: Reader) -> None:
    fetched = batch_of(0, [[(LATIN_1, b"1")]] * 4) + batch_of(4, [[(LATIN_1, b"1")]])
    assert offsets_of(read(fetched, offset=2)) == [2, 3, 4]


def test_aborted_records_stay_left_out_when_a_transaction_of_the_same_producer_follows(read: Reader) -> None:
    odd: list[list[Header]] = [[(LATIN_1, b"1")]]
    fetched = (
        batch_of(0, [[]], producer=7)
        + batch_of(1, [[]], producer=7, control=True)
        + batch_of(2, [[]], producer=7)
        + batch_of(3, odd)
        + batch_of(4, odd, producer=7)
        + batch_of(5, [[]], producer=7, control=True)
        + batch_of(6, odd, producer=7)
    )
    records = read(fetched, aborted=[(7, 0), (7, 2)], isolation=fetcher.READ_COMMITTED)
    assert offsets_of(records) == [3, 6]


def test_batch_is_still_corrupt_when_its_checksum_is_wrong(read: Reader) -> None:
    broken = bytearray(batch_of(1, [[(LATIN_1, b"1")]]))
    broken[-1] ^= 1
    records = read(batch_of(0, [[(LATIN_1, b"1")]]) + bytes(broken))
    assert next(records).offset == 0
    with pytest.raises(CorruptRecordException, match="CRC"):
        next(records)


def test_fetch_ends_before_a_batch_that_it_cut_off(read: Reader) -> None:
    cut = batch_of(1, [[(LATIN_1, b"1")]])[:-1]
    assert offsets_of(read(batch_of(0, [[(LATIN_1, b"1")]]) + cut)) == [0]


def test_other_text_that_cannot_be_read_is_not_hidden(read: Reader) -> None:
    records = read(batch_of(0, [[]]), value_of=lambda _: b"\xff".decode())
    with pytest.raises(UnicodeDecodeError):
        next(records)


def test_installing_twice_wraps_once() -> None:
    before = fetcher.PartitionRecords.__next__, fetcher.MemoryRecords
    header_names.install()
    assert before == (fetcher.PartitionRecords.__next__, fetcher.MemoryRecords)
