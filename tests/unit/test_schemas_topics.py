"""The catalogue is complete, and partitions are Java's."""

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.record_shapes import RECORD_CLASSES, ROW_CLASSES
from schemas.topics import CATALOGUE, COMMANDS, POLICIES, REPLIES, UPGRADES, Cleanup, PartitionRule, partition_of, topic


def test_every_record_has_exactly_one_topic() -> None:
    placed = [record for entry in CATALOGUE for record in entry.records]
    assert sorted(record.__name__ for record in placed) == sorted(
        record.__name__ for record in (*RECORD_CLASSES, *ROW_CLASSES)
    )


def test_topics_have_one_name_each_and_are_found_by_it() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
    assert all(topic(entry.name) is entry for entry in CATALOGUE)
    with pytest.raises(KeyError):
        topic("nobody")


def test_compacted_topics_keep_for_ever_and_the_others_do_not() -> None:
    for entry in CATALOGUE:
        assert (entry.retention_ms is None) == (entry.cleanup is Cleanup.COMPACT)


def test_only_policies_and_upgrades_are_not_co_partitioned() -> None:
    assert [entry.name for entry in CATALOGUE if not entry.co_partitioned] == [POLICIES, UPGRADES]
    assert topic(COMMANDS).partition_rule is PartitionRule.MURMUR2
    assert topic(REPLIES).partition_rule is PartitionRule.EXPLICIT


@given(key=st.binary(max_size=70), partitions=st.integers(1, 1_000))
def test_partition_is_the_one_that_aiokafka_takes_from_java(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        # From Kafka's own UtilsTest.testMurmur2.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_partition_is_the_one_of_kafkas_own_test_vectors(key: bytes, digest: int) -> None:
    assert partition_of(key, 2**31) == digest & 0x7FFFFFFF
