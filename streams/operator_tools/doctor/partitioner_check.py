"""Does every producer put an order where the engine looks for it? Called by `examination`.

Two looks: the murmur2 of the engine, of librdkafka and of aiokafka on the same keys; and the newest commands,
keys against partitions. The second finds the foreign producer that kept its client's own partitioner: librdkafka's
agreed with Java's on 54 of 200 keys, sarama's on 3 of 24, kafkajs's legacy one on 2 of 24. Its commands become dead
letters with `wrong_key`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from schemas.topics import COMMANDS, partition_of
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok
from streams.operator_tools.log import Log, LogRecord

Partitioner = Callable[[bytes, int], int]

SAMPLE_KEYS = 1_000
SAMPLE_PARTITIONS = 12
TAIL_RECORDS = 200
"""Newest records looked at in each partition."""

MAX_NAMED = 5

MURMUR2_BY_CLIENT = (
    "Producers on librdkafka set partitioner=murmur2_random, on sarama NewMurmur2Partitioner, "
    "on kafkajs DefaultPartitioner"
)
"""Each was tried; docs/producing.md has the same, as a table."""

# From Apache Kafka's own test of its murmur2 (UtilsTest.testMurmur2), made positive.
KNOWN_HASHES: Mapping[bytes, int] = MappingProxyType(
    {
        b"21": -973932308 & 0x7FFFFFFF,
        b"foobar": -790332482 & 0x7FFFFFFF,
        b"a-little-bit-long-string": -985981536 & 0x7FFFFFFF,
        b"a-little-bit-longer-string": -1486304829 & 0x7FFFFFFF,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971 & 0x7FFFFFFF,
        b"abc": 479470107,
    }
)
_LARGEST_COUNT = 0x7FFFFFFF


def judge_computed(partitioners: Mapping[str, Partitioner]) -> Iterator[Finding]:
    """Yield whether the partitioners, by the name of who uses each, agree with Java's and with each other."""
    wrong = [
        name
        for name, partition in partitioners.items()
        if any(partition(key, _LARGEST_COUNT) != hashed % _LARGEST_COUNT for key, hashed in KNOWN_HASHES.items())
        or any(
            partition(key, SAMPLE_PARTITIONS) != partition_of(key, SAMPLE_PARTITIONS)
            for key in (f"order-{number}".encode() for number in range(SAMPLE_KEYS))
        )
    ]
    if wrong:
        yield failure(
            Subject.PARTITIONER,
            f"another partition than Java's murmur2 gives: {', '.join(wrong)}",
            why="An order's records spread over partitions, and its order among them is lost.",
            fix="Install the locked versions of the clients again (`make clean`, then `make run`).",
        )
    else:
        yield ok(Subject.PARTITIONER, f"murmur2 agrees with Java's: {', '.join(partitioners)}")


def installed_partitioners() -> Mapping[str, Partitioner]:
    """Return the partitioners of the clients that this program uses."""
    from aiokafka.partitioner import murmur2 as aiokafka_murmur2
    from confluent_kafka import murmur2 as librdkafka_murmur2

    def aiokafka_partition(key: bytes, partitions: int) -> int:
        hashed: int = aiokafka_murmur2(key)
        return (hashed & 0x7FFFFFFF) % partitions

    return {"engine": partition_of, "librdkafka": librdkafka_murmur2, "aiokafka": aiokafka_partition}


def judge_log(log: Log) -> Iterator[Finding]:
    """Yield whether the newest commands stand in the partitions of their keys. Raises: as `Log.read`."""
    partitions = log.partitions_of(COMMANDS)
    looked_at = 0
    strays: list[LogRecord] = []
    for record in log.read(COMMANDS, tail=TAIL_RECORDS):
        looked_at += 1
        if record.key is None or partition_of(record.key, partitions) != record.partition:
            strays.append(record)
    if not strays:
        yield ok(Subject.PARTITIONER, f"the newest {looked_at} commands stand in the partitions of their keys")
        return
    sources = Counter(_source(record) for record in strays).most_common(MAX_NAMED)
    named = ", ".join(f"{source} ({count})" for source, count in sources)
    places = ", ".join(f"{stray.partition}:{stray.offset}" for stray in strays[:MAX_NAMED])
    yield failure(
        Subject.PARTITIONER,
        f"{len(strays)} of the newest {looked_at} commands stand in a wrong partition; by source: {named}; at {places}",
        why="The worker that holds the order's row does not see them: they become dead letters (`wrong_key`).",
        fix=f"{MURMUR2_BY_CLIENT}; all key commands by the order id. Then "
        "`payment-engine dlq redrive --reason wrong_key` puts them where they belong.",
    )


def _source(record: LogRecord) -> str:
    named = next((value for name, value in record.headers if name.lower() == "ce_source"), b"unknown source")
    return named.decode("utf-8", errors="replace")[:80]
