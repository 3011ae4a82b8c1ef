"""Do the tables hold rows of before the first release? They mean something else now, under schema ids of drafts.

Called by `start_check`, before a component joins its group: such rows cannot be migrated, since their schemas were
changed in place. A look at the first records of each changelog tells, because nobody has written there since. What is
met later stops the worker by itself (`schemas.decode_errors.OtherReleaseError`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.misconfigured import MisconfiguredError
from schemas.releases import DRAFT_IDS
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader, partitions_of
from streams.kafka_clients.errors import classify

LOOK_TIMEOUT_S: Final = 15.0
FETCH_BYTES: Final = 65_536
"""Of each partition: a few rows, or one that is larger."""

FETCH_TIMEOUT_MS: Final = 2_000
MAX_RECORDS: Final = 2_000
FRAME_BYTES: Final = 5


def refuse_draft_rows(connection: KafkaConnection, changelogs: Sequence[str]) -> None:
    """Return if no such row stands at the beginning of these changelogs. Blocking; changes nothing. Twice is safe.

    Raises:
        MisconfiguredError: there are; the message says what to do.
        RetryableError: the cluster did not tell in time.
    """
    if not changelogs:
        return
    try:
        found = asyncio.run(_found(connection, changelogs))
    except (KafkaError, TimeoutError, OSError) as error:
        raise classify(error) from error
    if found:
        raise MisconfiguredError(
            f"{', '.join(found)} holds rows of before the first release, which cannot be read any more: let the "
            "program that wrote them finish what is open, stop it, delete the engine's topics (`kafka-topics.sh "
            "--delete`) and the folders of PAYMENT_ENGINE_STREAM_STATE_DIR, then run `payment-engine topics apply`"
        )


async def _found(connection: KafkaConnection, changelogs: Sequence[str]) -> Sequence[str]:
    reader = build_reader(connection, max_partition_fetch_bytes=FETCH_BYTES)
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            await reader.start()
            return sorted({topic async for topic in _drafts(reader, changelogs)})
    finally:
        await reader.stop()


async def _drafts(reader: Any, changelogs: Iterable[str]) -> Any:
    every = [TopicPartition(name, each) for name in changelogs for each in await partitions_of(reader, name)]
    reader.assign(every)
    first, ends = await reader.beginning_offsets(every), await reader.end_offsets(every)
    unseen = {each for each in every if first[each] < ends[each]}
    for each in every:
        reader.seek(each, first[each])
    while unseen:  # each turn sees a partition more; bounded by the caller's time-out
        batches = await reader.getmany(*unseen, timeout_ms=FETCH_TIMEOUT_MS, max_records=MAX_RECORDS)
        if not batches:
            return  # transaction markers alone, or compacted away
        for partition, records in batches.items():
            if any(_is_draft(record.value) for record in records):
                yield partition.topic
        unseen -= batches.keys()


def _is_draft(value: bytes | None) -> bool:
    framed = value is not None and len(value) >= FRAME_BYTES and value[0] == 0
    return framed and int.from_bytes((value or b"")[1:FRAME_BYTES], "big") in DRAFT_IDS
