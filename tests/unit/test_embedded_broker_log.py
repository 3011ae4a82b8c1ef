"""The embedded broker's storage: batches, idempotence, limits, retention, compaction. No sockets."""

import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from streams.development.embedded_broker.compaction import compact
from streams.development.embedded_broker.limits import COMPACTION_MIN_DIRTY_BYTES, MAX_PRODUCERS_PER_PARTITION
from streams.development.embedded_broker.partition_log import OffsetOutOfRangeError, PartitionLog
from streams.development.embedded_broker.producer_state import OutOfOrderSequenceError, StaleProducerEpochError
from streams.development.embedded_broker.record_batch import (
    CorruptBatchError,
    UnsupportedBatchError,
    UnsupportedCodecError,
    split_batches,
)
from streams.development.embedded_broker.topic_config import InvalidConfigError, TopicConfig
from streams.development.embedded_broker.topic_store import MemoryFullError, MemoryLimits, TopicStore, is_dirty

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
ATTRIBUTES_AT = 21
Records = list[tuple[bytes | None, bytes | None]]


def batch_of(
    records: Records,
    *,
    producer: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    at_ms: int = 1_000,
    codec: int = NONE,
    transactional: bool = False,
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, transactional, producer, epoch, sequence, 1 << 20)
    for offset, (key, value) in enumerate(records):
        builder.append(offset, at_ms + offset, key, value, [])
    return bytes(builder.build())


def append(log: PartitionLog, batch: bytes) -> int:
    ((header, payload),) = split_batches(batch)
    return log.append(header, payload)


def records_in(log: PartitionLog, offset: int | None = None) -> list[tuple[int, bytes | None, bytes | None]]:
    batches = log.read(log.start_offset if offset is None else offset, 1 << 30, at_least_one=True)
    return [
        (record.offset, record.key, record.value)
        for batch in batches
        for record in DefaultRecordBatch(bytearray(batch))
    ]


def compact_wholly(log: PartitionLog, *, tombstones_expire_before_ms: int = 0) -> None:
    for _ in compact(log, tombstones_expire_before_ms=tombstones_expire_before_ms):
        pass  # each step does its work


def idempotent(sequence: int, count: int = 1, *, epoch: int = 0, producer: int = 7) -> bytes:
    return batch_of([(b"k", b"v")] * count, producer=producer, epoch=epoch, sequence=sequence)


# ---- batches


def test_log_gives_back_what_was_appended_at_consecutive_offsets() -> None:
    log = PartitionLog()
    assert [append(log, batch_of([(b"a", b"1"), (b"b", None)])), append(log, batch_of([(None, b"3")]))] == [0, 2]
    assert records_in(log) == [(0, b"a", b"1"), (1, b"b", None), (2, None, b"3")]
    assert records_in(log, 2) == [(2, None, b"3")]
    assert records_in(log, 3) == []


@pytest.mark.parametrize("offset", [-1, 4])
def test_log_refuses_to_read_when_the_offset_is_out_of_range(offset: int) -> None:
    log = PartitionLog()
    append(log, batch_of([(b"a", b"1")] * 3))
    with pytest.raises(OffsetOutOfRangeError):
        log.read(offset, 1_000, at_least_one=True)


def test_log_returns_a_batch_above_the_limit_only_when_it_is_the_first() -> None:
    log = PartitionLog()
    for _ in range(2):
        append(log, batch_of([(b"a", b"x" * 500)]))
    assert len(log.read(0, 10, at_least_one=True)) == 1
    assert log.read(0, 10, at_least_one=False) == []


@given(flipped=st.integers(min_value=0, max_value=10_000), bit=st.integers(min_value=0, max_value=7))
def test_batch_is_refused_or_unchanged_in_content_when_a_bit_flips(flipped: int, bit: int) -> None:
    batch = bytearray(batch_of([(b"key", b"value"), (b"key2", b"value2")]))
    at = 16 + flipped % (len(batch) - 16)  # offset, length and leader epoch before are outside of the checksum
    batch[at] ^= 1 << bit
    with pytest.raises((CorruptBatchError, UnsupportedBatchError)):
        list(split_batches(bytes(batch)))


@given(garbage=st.binary(max_size=200))
def test_batch_is_refused_when_it_is_garbage(garbage: bytes) -> None:
    with pytest.raises((CorruptBatchError, UnsupportedBatchError)):
        list(split_batches(garbage))


def test_batch_is_refused_when_it_is_cut_short() -> None:
    whole = batch_of([(b"key", b"value")])
    for length in range(len(whole)):
        with pytest.raises((CorruptBatchError, UnsupportedBatchError)):
            list(split_batches(whole[:length]))


def test_batch_is_refused_when_it_is_transactional() -> None:
    with pytest.raises(UnsupportedBatchError, match="transactions"):
        list(split_batches(batch_of([(b"k", b"v")], producer=1, epoch=0, sequence=0, transactional=True)))


def test_batch_is_refused_when_count_and_offsets_disagree() -> None:
    batch = bytearray(batch_of([(b"k", b"v")]))
    struct.pack_into(">i", batch, 57, 2)
    struct.pack_into(">I", batch, 17, crc32c(bytes(batch[21:])))
    with pytest.raises(CorruptBatchError, match="offset delta"):
        list(split_batches(bytes(batch)))


def test_batch_is_refused_when_kafka_has_no_such_codec() -> None:
    batch = bytearray(batch_of([(b"k", b"v")]))
    struct.pack_into(">h", batch, ATTRIBUTES_AT, ZSTD + 1)
    struct.pack_into(">I", batch, 17, crc32c(bytes(batch[ATTRIBUTES_AT:])))
    with pytest.raises(UnsupportedCodecError, match="no compression codec 5"):
        list(split_batches(bytes(batch)))


# ---- time


@pytest.mark.parametrize("codec", [NONE, GZIP])
def test_log_finds_the_first_record_at_or_after_a_time(codec: int) -> None:
    log = PartitionLog()
    append(log, batch_of([(b"a", b"x" * 200)] * 3, at_ms=1_000, codec=codec))
    append(log, batch_of([(b"a", b"x" * 200)] * 3, at_ms=2_000, codec=codec))
    assert log.first_at_or_after(1_001) == (1, 1_001)
    assert log.first_at_or_after(1_500) == (3, 2_000)
    assert log.first_at_or_after(2_003) == (-1, -1)
    assert log.latest_timestamp() == (5, 2_002)


@pytest.mark.parametrize("codec", [SNAPPY, LZ4, ZSTD])
def test_log_finds_the_first_record_of_a_batch_that_it_cannot_look_into(codec: int) -> None:
    log = PartitionLog()
    append(log, batch_of([(b"a", b"x" * 200)] * 3, at_ms=1_000, codec=codec))
    append(log, batch_of([(b"a", b"x" * 200)] * 3, at_ms=2_000, codec=codec))
    assert log.first_at_or_after(1_001) == (0, 1_000)
    assert log.first_at_or_after(1_500) == (3, 2_000)
    assert log.first_at_or_after(2_003) == (-1, -1)


# ---- idempotence


def test_producer_gets_the_first_offset_again_when_it_repeats_a_batch() -> None:
    log = PartitionLog()
    offsets = [append(log, idempotent(sequence)) for sequence in (0, 1, 2, 0, 2)]
    assert offsets == [0, 1, 2, 0, 2]
    assert log.end_offset == 3


def test_producer_is_refused_when_a_batch_is_missing() -> None:
    log = PartitionLog()
    append(log, idempotent(0, count=3))
    with pytest.raises(OutOfOrderSequenceError):
        append(log, idempotent(4))
    assert append(log, idempotent(3)) == 3


def test_producer_is_refused_when_the_repeat_is_older_than_the_last_five() -> None:
    log = PartitionLog()
    for sequence in range(7):
        append(log, idempotent(sequence))
    with pytest.raises(OutOfOrderSequenceError):
        append(log, idempotent(1))


def test_producer_starts_anew_when_its_epoch_is_higher_and_is_fenced_when_lower() -> None:
    log = PartitionLog()
    append(log, idempotent(0))
    with pytest.raises(OutOfOrderSequenceError):
        append(log, idempotent(5, epoch=1))
    append(log, idempotent(0, epoch=1))
    with pytest.raises(StaleProducerEpochError):
        append(log, idempotent(1, epoch=0))


def test_producer_goes_on_at_zero_when_its_sequence_wraps() -> None:
    log = PartitionLog()
    append(log, idempotent(2**31 - 2, count=2))
    assert append(log, idempotent(0)) == 2


def test_log_forgets_the_oldest_producers_beyond_the_limit() -> None:
    log = PartitionLog()
    for producer in range(MAX_PRODUCERS_PER_PARTITION + 5):
        append(log, idempotent(0, producer=producer))
    assert len(log.producers) == MAX_PRODUCERS_PER_PARTITION
    assert append(log, idempotent(41, producer=0)) == log.end_offset - 1  # unknown again: any sequence may come


# ---- cutting


def test_log_start_moves_into_a_batch_when_it_is_cut_there() -> None:
    log = PartitionLog()
    append(log, batch_of([(b"a", b"1")] * 3))
    append(log, batch_of([(b"b", b"2")] * 3))
    log.cut_before(4)
    assert (log.start_offset, log.end_offset, len(log.batches)) == (4, 6, 1)
    with pytest.raises(OffsetOutOfRangeError):
        log.read(3, 100, at_least_one=True)
    with pytest.raises(OffsetOutOfRangeError):
        log.cut_before(7)
    log.cut_before(6)
    assert (log.start_offset, log.size_bytes, records_in(log)) == (6, 0, [])


def test_log_frees_the_expired_head_only() -> None:
    log = PartitionLog()
    for at_ms in (1_000, 2_000, 3_000):
        append(log, batch_of([(b"a", b"1")], at_ms=at_ms))
    log.cut_expired(2_500)
    assert [offset for offset, _, _ in records_in(log)] == [2]


# ---- compaction


@given(
    writes=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=8)), max_size=40),
    batch_size=st.integers(min_value=1, max_value=5),
    rounds=st.integers(min_value=1, max_value=3),
    codec=st.sampled_from([NONE, GZIP]),
)
def test_compaction_keeps_the_last_value_of_every_key(
    writes: Records, batch_size: int, rounds: int, codec: int
) -> None:
    log = PartitionLog()
    for batch in _batched(writes, batch_size):
        append(log, batch_of(batch, codec=codec))
    before, end_offset = records_in(log), log.end_offset
    for _ in range(rounds):
        compact_wholly(log)
    after = records_in(log)
    assert {key: value for _, key, value in after} == {key: value for _, key, value in before}
    assert set(after) <= set(before)  # offsets and values stay as they were
    assert log.end_offset == end_offset
    assert log.size_bytes == sum(batch.size_bytes for batch in log.batches)
    if after:
        assert after[-1] == before[-1]  # a reader that waits for the end offset gets there


def _batched(writes: Records, size: int) -> list[Records]:
    return [writes[start : start + size] for start in range(0, len(writes), size)]


def test_compaction_reads_on_after_a_hole() -> None:
    log = PartitionLog()
    for value in (b"1", b"2", b"3", b"4"):
        append(log, batch_of([(b"same", value)]))
    append(log, batch_of([(b"other", b"5")]))
    compact_wholly(log)
    assert records_in(log, 1) == [(3, b"same", b"4"), (4, b"other", b"5")]


def test_compaction_drops_a_tombstone_when_its_time_is_over() -> None:
    log = PartitionLog()
    append(log, batch_of([(b"a", b"1")], at_ms=1_000))
    append(log, batch_of([(b"a", None)], at_ms=2_000))
    append(log, batch_of([(b"b", b"2")], at_ms=3_000))
    compact_wholly(log, tombstones_expire_before_ms=1_500)
    assert records_in(log) == [(1, b"a", None), (2, b"b", b"2")]
    compact_wholly(log, tombstones_expire_before_ms=2_500)
    assert records_in(log) == [(2, b"b", b"2")]


def test_compaction_keeps_what_is_appended_while_it_runs() -> None:
    log = PartitionLog()
    for value in (b"1", b"2", b"3"):
        append(log, batch_of([(b"a", value)]))
    for step, _ in enumerate(compact(log, tombstones_expire_before_ms=0)):
        if step == 1:
            append(log, batch_of([(b"late", b"4")]))
    assert records_in(log) == [(2, b"a", b"3"), (3, b"late", b"4")]
    assert append(log, batch_of([(b"a", b"5")])) == 4


@pytest.mark.parametrize("codec", [SNAPPY, LZ4, ZSTD])
def test_compaction_keeps_a_batch_that_it_cannot_look_into(codec: int) -> None:
    log = PartitionLog()
    append(log, batch_of([(b"a", b"x" * 200)] * 3, codec=codec))
    append(log, batch_of([(b"a", b"1")]))
    append(log, batch_of([(b"a", b"2")]))
    compact_wholly(log)
    assert [offset for offset, _, _ in records_in(log)] == [0, 1, 2, 4]


# ---- memory


def store_with(partition_bytes: int, total_bytes: int = 1 << 30) -> TopicStore:
    memory = MemoryLimits(partition_bytes=partition_bytes, total_bytes=total_bytes)
    return TopicStore(default_partitions=1, memory=memory)


def write(store: TopicStore, topic: str, batch: bytes) -> None:
    found, log = store.find(topic), store.log(topic, 0)
    assert found is not None
    assert log is not None
    store.make_room(found, log, len(batch), now_ms=10_000)
    append(log, batch)


def write_keys(store: TopicStore, topic: str, count: int) -> None:
    for n in range(count):
        write(store, topic, batch_of([(b"other %d" % n, b"x" * 500)]))


def test_deleting_topic_loses_its_oldest_records_when_its_memory_is_full() -> None:
    store = store_with(partition_bytes=20_000)
    store.create("events", None, {})
    for n in range(200):
        write(store, "events", batch_of([(b"k", b"%d" % n + b"x" * 500)]))
    log = store.log("events", 0)
    assert log is not None
    assert log.size_bytes <= 20_000
    assert log.end_offset == 200
    assert 150 < log.start_offset < 200


def test_compacted_topic_is_compacted_then_refuses_when_its_memory_is_full() -> None:
    store = store_with(partition_bytes=20_000)
    store.create("table", None, {"cleanup.policy": "compact"})
    for n in range(200):  # ten keys fit for ever
        write(store, "table", batch_of([(b"%d" % (n % 10), b"x" * 500)]))
    with pytest.raises(MemoryFullError, match="compact"):
        write_keys(store, "table", 200)  # two hundred do not
    log = store.log("table", 0)
    assert log is not None
    kept = {key for _, key, _ in records_in(log)}
    assert {b"%d" % n for n in range(10)} <= kept  # no row was dropped to make room
    assert log.size_bytes <= 20_000


def test_store_takes_from_the_largest_deleting_topic_when_all_memory_is_full() -> None:
    store = store_with(partition_bytes=100_000, total_bytes=50_000)
    for name, config in (("large", {}), ("small", {}), ("table", {"cleanup.policy": "compact"})):
        store.create(name, None, config)
    write(store, "table", batch_of([(b"row", b"x" * 5_000)]))
    write(store, "small", batch_of([(b"k", b"x" * 5_000)]))
    for _ in range(100):
        write(store, "large", batch_of([(b"k", b"x" * 1_000)]))
    sizes = {topic.name: topic.logs[0].size_bytes for topic in store}
    assert store.size_bytes <= 50_000
    assert sizes["table"] > 5_000
    assert sizes["small"] > 5_000


def test_store_expires_by_time_and_size_only_where_the_policy_deletes() -> None:
    store = store_with(partition_bytes=1 << 20)
    for name, config in (
        ("by-time", {"retention.ms": "1000"}),
        ("by-size", {"retention.bytes": "3000"}),
        ("table", {"cleanup.policy": "compact", "retention.ms": "1000"}),
        ("for-ever", {"retention.ms": "-1"}),
    ):
        store.create(name, None, config)
        for n in range(10):
            write(store, name, batch_of([(b"k", b"x" * 500)], at_ms=1_000 * n))
    store.expire(now_ms=10_000)
    starts = {topic.name: topic.logs[0].start_offset for topic in store}
    assert starts == {"by-time": 9, "by-size": 7, "table": 0, "for-ever": 0}


def test_topic_is_dirty_when_enough_was_appended_since_the_last_compaction() -> None:
    store = store_with(partition_bytes=1 << 30)
    topic = store.create("table", None, {"cleanup.policy": "compact"})
    log = topic.logs[0]
    while log.size_bytes < COMPACTION_MIN_DIRTY_BYTES:
        assert not is_dirty(topic, log)
        write(store, "table", batch_of([(b"k", b"x" * 100_000)]))
    assert is_dirty(topic, log)
    for _ in store.compactions(now_ms=0):
        pass  # each step does its work
    assert not is_dirty(topic, log)
    assert len(log.batches) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("no.such", "1"), ("retention.ms", "soon"), ("cleanup.policy", "burn"), ("preallocate", "maybe")],
)
def test_topic_config_is_refused_when_name_or_value_is_wrong(name: str, value: str) -> None:
    with pytest.raises(InvalidConfigError, match=name):
        TopicConfig({name: value})
